//! The clock was set back: told, and nothing depends on it.

use std::fs;

use eeveon_core::{Durability, Entry, ProjectName};
use eeveon_store::{SqliteStore, Store as _};
use eeveon_testkit::store::{entry, opened, request, succeeded};
use jiff::{SignedDuration, Timestamp};

use crate::sandbox::Sandbox;

/// Records a deployment of another project a day from now, as a clock that was a day ahead would.
async fn remember_tomorrow(sandbox: &Sandbox) {
    let store = SqliteStore::open(sandbox.home().join("eeveon.db")).await.unwrap();
    let id = store.reserve_deployment().await.unwrap();
    let tomorrow = Timestamp::now() + SignedDuration::from_hours(24);
    let project = ProjectName::new("other").unwrap();
    for (seq, record) in [opened(request(&project, 1)), succeeded()].into_iter().enumerate() {
        let entry = Entry { at: tomorrow, ..entry(id, seq as u64, record) };
        store.append(&entry, Durability::Power, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_set_back_is_told_and_harms_nothing() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    // A failed release, which would go for its age if the clock could be trusted.
    sandbox.configure("build.commands = [\"false\"]\ndeploy.keep_failed = \"1ms\"");
    sandbox.run(&["deploy", "app"]).expect_code(10);
    remember_tomorrow(&sandbox).await;

    let check = sandbox.run(&["check", "--json"]).expect_code(1);
    let clock = check.json().as_array().unwrap().iter().find(|it| it["what"] == "clock").unwrap().clone();
    assert_eq!((&clock["ok"], &clock["code"]), (&false.into(), &"cli/clock-behind".into()));

    let file = sandbox.home().join("projects/app.toml");
    let text = fs::read_to_string(&file).unwrap().replace("commands = [\"false\"]", "commands = []");
    fs::write(&file, text).unwrap();
    let deployed = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(deployed.stderr.contains("cli/clock-behind"), "{deployed}");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    assert!(sandbox.site().join("releases/failed-1").exists(), "nothing goes for its age");
    assert_eq!(sandbox.run(&["history", "app", "--json"]).json()[0]["outcome"], "succeeded");
}
