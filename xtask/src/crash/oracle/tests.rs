//! Every rule is shown a state that breaks it.

use std::collections::BTreeMap;

use super::*;
use crate::crash::tree::Node;

fn commit(id: &str) -> Commit {
    let file = Node::File(0o644, id.as_bytes().to_vec());
    Commit { id: id.to_owned(), tree: Tree(BTreeMap::from([("f".to_owned(), file)])) }
}

fn row(id: u64, release: u64, revision: &str, outcome: Option<&str>) -> Row {
    Row { id, release, revision: revision.to_owned(), outcome: outcome.map(str::to_owned) }
}

fn release(number: u64, revision: &str, live: bool) -> Release {
    Release { release: number, revision: Some(revision.to_owned()), live, usable: true }
}

/// A deploy of `b` over `a`, not acknowledged.
fn expected() -> Expected {
    Expected {
        old: Some(commit("a")),
        new: Some(commit("b")),
        asked: Some(commit("b")),
        puts_aside: Some(("b".to_owned(), "rolled_back")),
        stays: true,
        history: vec![row(1, 1, "a", Some("succeeded"))],
        settled: true,
        ..Expected::default()
    }
}

fn found(live: u64, revision: &str, history: Vec<Row>, releases: Vec<Release>) -> Found {
    let names = releases.iter().flat_map(|it| {
        let number = it.release;
        [format!("site/releases/{number}"), format!("site/.eeveon/manifests/{number}")]
    });
    Found {
        current: Some(format!("releases/{live}")),
        live: Some(commit(revision).tree),
        names: names.collect(),
        said: Some(Said {
            status: Status {
                live: Some(Live { release: live, revision: Some(revision.to_owned()) }),
                running: None,
                waiting: None,
                error: None,
            },
            history,
            releases,
            aside: Vec::new(),
        }),
        answer: None,
    }
}

/// It was taken back.
fn old() -> Found {
    let history = vec![row(2, 2, "b", Some("cancelled")), row(1, 1, "a", Some("succeeded"))];
    found(1, "a", history, vec![release(1, "a", true)])
}

/// It was finished.
fn new() -> Found {
    let history = vec![row(2, 2, "b", Some("succeeded")), row(1, 1, "a", Some("succeeded"))];
    found(2, "b", history, vec![release(2, "b", true), release(1, "a", false)])
}

/// Returns the rules that are broken when `spoil` was at work.
fn broken(mut found: Found, spoil: impl FnOnce(&mut Found, &mut Said)) -> Vec<&'static str> {
    let mut said = found.said.take().unwrap();
    spoil(&mut found, &mut said);
    found.said = Some(said);
    rules(&expected(), &found)
}

fn rules(expected: &Expected, found: &Found) -> Vec<&'static str> {
    let mut rules: Vec<&str> = judge(expected, found).1.into_iter().map(|it| it.rule).collect();
    rules.dedup();
    rules
}

fn told() -> Expected {
    Expected { told: true, ..expected() }
}

#[test]
fn old_and_new_are_fine() {
    assert_eq!(judge(&expected(), &old()), ("old", vec![]));
    assert_eq!(judge(&expected(), &new()), ("new", vec![]));
    assert_eq!(judge(&told(), &new()), ("new", vec![]));
    // It never came to a deployment.
    assert!(broken(old(), |_, said| said.history.truncate(1)).contains(&"history"));
    assert_eq!(broken(old(), |_, said| drop(said.history.remove(0))), Vec::<&str>::new());
}

#[test]
fn a_live_tree_is_old_or_new_and_nothing_else() {
    let spoil = |node: Option<Node>| {
        broken(new(), |found, _| {
            let tree = &mut found.live.as_mut().unwrap().0;
            match node {
                Some(node) => tree.insert("f".to_owned(), node),
                None => tree.remove("f"),
            };
        })
    };
    assert!(spoil(None).contains(&"live tree"), "a file is missing");
    assert!(spoil(Some(Node::File(0o644, b"c".to_vec()))).contains(&"live tree"), "other content");
    assert!(spoil(Some(Node::File(0o755, b"b".to_vec()))).contains(&"live tree"), "another mode");
    assert!(spoil(Some(Node::Link("b".to_owned()))).contains(&"live tree"), "a link");
    let more = broken(new(), |found, _| {
        found.live.as_mut().unwrap().0.insert("g".to_owned(), Node::Folder(0o755));
    });
    assert!(more.contains(&"live tree"), "one too many");
    assert!(broken(new(), |found, _| found.live = None).contains(&"live tree"), "a broken link");
    let nothing = broken(old(), |found, _| (found.current, found.live) = (None, None));
    assert!(nothing.contains(&"live tree"), "nothing is live");
}

#[test]
fn what_was_acknowledged_is_so() {
    assert_eq!(rules(&told(), &old()), ["acknowledged", "history"]);
    let mut lost = new();
    lost.said.as_mut().unwrap().history.remove(0);
    assert_eq!(rules(&told(), &lost), ["history"]);
}

#[test]
fn history_keeps_what_it_had_and_invents_nothing() {
    assert_eq!(broken(new(), |_, said| drop(said.history.pop())), ["history"]);
    assert_eq!(broken(old(), |_, said| said.history[1].outcome = Some("failed".to_owned())), ["history"]);
    assert_eq!(broken(old(), |_, said| said.history.push(row(3, 3, "b", Some("failed")))), ["history"]);
    assert_eq!(broken(old(), |_, said| said.history[0].revision = "c".to_owned()), ["history"]);
    assert_eq!(broken(old(), |_, said| said.history[0].outcome = None), ["history"]);
}

#[test]
fn a_command_that_says_it_tries_again_may_leave_two_deployments() {
    let again = Expected { again: true, told: true, ..expected() };
    let with = |first: &str| {
        let mut found = new();
        let history = &mut found.said.as_mut().unwrap().history;
        history[0].id = 3;
        history.insert(1, row(2, 2, "b", Some(first)));
        found
    };
    assert_eq!(judge(&again, &with("cancelled")), ("new", vec![]));
    assert_eq!(rules(&again, &with("succeeded")), ["history"], "both");
    assert!(rules(&told(), &with("cancelled")).contains(&"history"), "it did not say so");
}

#[test]
fn outcomes_agree_with_what_is_live() {
    assert_eq!(broken(old(), |_, said| said.history[0].outcome = Some("succeeded".to_owned())), ["history"]);
    assert_eq!(broken(new(), |_, said| said.history[0].outcome = Some("failed".to_owned())), ["history"]);
    assert_eq!(broken(new(), |_, said| drop(said.history.remove(0))), ["history"]);
}

#[test]
fn leftovers_are_found_anywhere() {
    for path in [
        "site/releases/.new-2-5",
        "site/releases/.gone-1-5",
        "site/releases/.mend-1-5",
        "site/.current-5",
        "site/.eeveon/ledger.new",
        "site/.eeveon/manifests/2.shipped",
        "home/.tmp-77-id",
        "home/projects/.tmp-77-app.toml",
        "home/sources/app.git/refs/heads/main.lock",
        "home/sources/.app.git.new-77",
        "home/sources/app.git/objects/pack/tmp_pack_1",
        "home/eeveon.db-journal",
        "site/elsewhere",
    ] {
        let rules = broken(old(), |found, _| found.names.push(path.to_owned()));
        assert_eq!(rules, ["leftover"], "{path}");
    }
}

#[test]
fn a_leftover_folder_is_told_once() {
    let mut found = old();
    found.names = ["site/releases/.new-2-5", "site/releases/.new-2-5/a", "site/releases/.new-2-5/b"]
        .map(str::to_owned)
        .to_vec();
    let broken = judge(&expected(), &found).1;
    assert_eq!(broken, [Violation::new("leftover", "site/releases/.new-2-5")]);
    // The next deploy may clear away what a fault left, but not what is live.
    let unsettled = Expected { settled: false, ..expected() };
    assert_eq!(judge(&unsettled, &found).1, vec![]);
}

#[test]
fn what_a_world_at_rest_holds_belongs_there() {
    let id = "0123456789abcdef0123456789abcdef01234567";
    for path in [
        "home/eeveon.db-wal".to_owned(),
        "home/logs/3/build-1.log".to_owned(),
        format!("home/sources/app.git/objects/pack/pack-{id}.idx"),
        format!("home/sources/app.git/refs/eeveon/fetched/{id}"),
        "site/releases/failed-2/d/f".to_owned(),
        "site/.eeveon/manifests/failed-2".to_owned(),
    ] {
        assert!(belongs(&path), "{path}");
    }
}

#[test]
fn releases_and_folders_are_the_same() {
    for path in ["site/releases/9", "site/releases/failed-9", "site/.eeveon/manifests/9"] {
        assert_eq!(broken(old(), |found, _| found.names.push(path.to_owned())), ["releases"], "{path}");
    }
    assert_eq!(broken(old(), |_, said| said.releases[0].revision = None), ["releases"]);
    assert_eq!(broken(old(), |_, said| said.releases[0].usable = false), ["releases"]);
    assert_eq!(broken(old(), |_, said| said.releases[0].live = false), ["releases"]);
}

#[test]
fn nothing_runs_or_waits_or_is_misreported() {
    let value = serde_json::json!({"deployment": 2});
    assert_eq!(broken(old(), |_, said| said.status.running = Some(value)), ["status"]);
    let waiting = || Some(Waiting { deployment: 2 });
    assert_eq!(broken(old(), |_, said| said.status.waiting = waiting()), ["status"]);
    assert_eq!(broken(old(), |_, said| said.status.error = Some("odd".to_owned())), ["status"]);
    assert_eq!(broken(old(), |_, said| said.status.live = None), ["status"]);
    let other = || Some(Live { release: 1, revision: Some("b".to_owned()) });
    assert_eq!(broken(old(), |_, said| said.status.live = other()), ["status"]);
}

#[test]
fn a_fault_may_leave_the_decision_to_a_person() {
    let expected = Expected { may_wait: true, settled: false, ..expected() };
    let mut found = old();
    let said = found.said.as_mut().unwrap();
    said.status.waiting = Some(Waiting { deployment: 2 });
    said.history[0].outcome = None;
    assert_eq!(judge(&expected, &found), ("old", vec![]));
}

#[test]
fn a_project_is_there_or_gone_entirely() {
    let mut lost = old();
    lost.said = None;
    assert!(rules(&expected(), &lost).contains(&"project"));

    let removed = Expected { new: None, asked: None, stays: false, told: true, ..expected() };
    let names = vec!["home/eeveon.db".to_owned()];
    let gone = Found { current: None, live: None, said: None, answer: None, names };
    assert_eq!(judge(&removed, &gone), ("new", vec![]));
    for path in ["site", "home/sources/app.git"] {
        let found = Found { names: vec![path.to_owned()], ..gone.clone() };
        assert_eq!(rules(&removed, &found), ["project"], "{path}");
    }

    let added = Expected { old: None, new: None, asked: None, history: vec![], told: true, ..expected() };
    assert!(rules(&added, &gone).contains(&"project"), "an acknowledged project is lost");
    let unheard = Expected { told: false, ..added };
    assert_eq!(judge(&unheard, &gone), ("old", vec![]));
}

#[test]
fn what_fails_leaves_the_old_release_and_is_put_aside() {
    let expected = Expected { new: None, ..expected() };
    let told = Expected { told: true, ..expected.clone() };
    assert_eq!(judge(&expected, &old()), ("old", vec![]));
    assert_eq!(rules(&told, &old()), ["history"], "it was told to be rolled back");
    let mut back = old();
    let said = back.said.as_mut().unwrap();
    said.history[0].outcome = Some("rolled_back".to_owned());
    assert_eq!(rules(&told, &back), ["quarantine"]);
    back.said.as_mut().unwrap().aside.push("b".to_owned());
    assert_eq!(judge(&told, &back), ("old", vec![]));
    assert!(rules(&expected, &new()).contains(&"live tree"), "it must never stay");
    let mut stuck = new();
    let said = stuck.said.as_mut().unwrap();
    said.status.waiting = Some(Waiting { deployment: 2 });
    said.history[0].outcome = None;
    assert_eq!(
        judge(&Expected { may_wait: true, settled: false, ..expected.clone() }, &stuck),
        ("stuck", vec![])
    );
    let nothing = Found { current: None, live: None, ..old() };
    assert!(rules(&expected, &nothing).contains(&"live tree"), "nothing is live");
    let mut aside = old();
    aside.said.as_mut().unwrap().aside.push("b".to_owned());
    assert_eq!(rules(&expected, &aside), ["quarantine"], "it was only cancelled");
}

#[test]
fn a_setting_is_the_old_or_the_new_one() {
    let answers = Some(("5".to_owned(), "3".to_owned()));
    let expected = Expected { new: None, asked: None, puts_aside: None, answers, ..expected() };
    let told = Expected { told: true, ..expected.clone() };
    let found = |answer: &str| {
        let mut found = Found { answer: Some(answer.to_owned()), ..old() };
        found.said.as_mut().unwrap().history.remove(0);
        found
    };
    assert_eq!(judge(&expected, &found("5")), ("old", vec![]));
    assert_eq!(judge(&told, &found("3")), ("new", vec![]));
    assert_eq!(rules(&told, &found("5")), ["acknowledged"]);
    assert_eq!(rules(&expected, &found("4")), ["answer"]);
    let lost = Found { current: None, live: None, ..found("3") };
    assert!(rules(&expected, &lost).contains(&"live tree"), "it changes nothing else");
}

#[test]
fn complaints_are_clear() {
    let clear = "error in stage ship: cannot write /w/site/a [host/io]\n  why   EIO\n";
    assert_eq!(complaint(Some(0), "", "/w"), vec![]);
    assert_eq!(complaint(Some(10), clear, "/w"), vec![]);
    assert_eq!(complaint(Some(13), "error: it is put aside [gate/quarantine]\n", "/w"), vec![]);
    assert_eq!(complaint(Some(101), clear, "/w").len(), 1, "an exit code without a meaning");
    assert_eq!(complaint(None, clear, "/w").len(), 1, "a death");
    assert_eq!(complaint(Some(1), &format!("thread panicked at x\n{clear}"), "/w").len(), 1, "a panic");
    assert_eq!(complaint(Some(10), "error: cannot write /w/site/a\n", "/w").len(), 1, "no code");
    assert_eq!(
        complaint(Some(10), "error: no [host/io]\n  now   live at /w/site\n", "/w").len(),
        1,
        "no path"
    );
}
