//! What keeps the daemon from deploying by itself, as people are told of it.

use std::fs;

use crate::{
    notify::{Service, append, events, webhook},
    running::{Daemon, eventually},
    sandbox::Sandbox,
};

fn project() -> (Sandbox, Service) {
    let (sandbox, service) = (Sandbox::new(&[("a", "1")]), Service::start());
    sandbox.init(&["--interval", "100ms"]).expect_code(0);
    append(&sandbox, &webhook(&service));
    (sandbox, service)
}

fn count(service: &Service, kind: &str) -> usize {
    events(service).iter().filter(|it| *it == kind).count()
}

#[test]
fn a_repository_that_is_gone_is_told_once_until_it_is_seen_again() {
    let (sandbox, service) = project();
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let (repo, away) = (sandbox.repo(), sandbox.path().join("away"));
    fs::rename(&repo, &away).unwrap();
    let daemon = Daemon::start(&sandbox);
    eventually("a message", || count(&service, "deployment.not_started") > 0);
    let told = service.heard().pop().unwrap().body;
    assert_eq!(told["level"], "failure");
    assert_eq!(told["failure"]["code"], "source/repository-missing", "{told}");
    assert_eq!((&told["serving"]["release"], &told["deployment"]), (&1.into(), &0.into()), "{told}");
    assert_eq!((told["trigger"].as_str(), told["actor"].as_str()), (Some("poll"), Some("engine")));
    fs::rename(&away, &repo).unwrap();
    sandbox.commit("second", &[("a", "2")]);
    daemon.hears("release 2 succeeded");
    eventually("a message", || count(&service, "deployment.succeeded") == 2);
    assert_eq!(count(&service, "deployment.not_started"), 1, "{:?}", events(&service));
}

#[test]
fn a_commit_that_cannot_be_deployed_is_told_though_there_is_no_deployment_of_it() {
    let (sandbox, service) = project();
    sandbox.configure("hooks.post_switch = [\"test ! -e bad\"]\nrollback.on_failure = \"ask\"");
    sandbox.commit("bad", &[("bad", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(12);
    // What a person asks for tells that person.
    let second = sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(12);
    assert_eq!(count(&service, "deployment.not_started"), 0);
    let daemon = Daemon::start(&sandbox);
    daemon.hears("waits for a person");
    eventually("a message", || count(&service, "deployment.not_started") > 0);
    let told = service.heard().pop().unwrap().body;
    assert_eq!(told["failure"]["code"], "cli/waiting", "{told}");
    assert_eq!(told["revision"]["commit"], second.as_str(), "{told}");
}

#[test]
fn holidays_that_cannot_be_read_are_told_for_nothing_is_deployed_without() {
    let (sandbox, service) = project();
    let file = sandbox.path().join("holidays.ics");
    sandbox.configure(&format!("window.holidays = \"{}\"", file.display()));
    let daemon = Daemon::start(&sandbox);
    eventually("a message", || count(&service, "deployment.not_started") > 0);
    let told = service.heard().pop().unwrap().body;
    assert_eq!(told["failure"]["code"], "daemon/calendar", "{told}");
    assert_eq!(told["serving"]["state"], "nothing", "{told}");
    let calendar = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nEND:VCALENDAR\r\n";
    fs::write(&file, calendar).unwrap();
    daemon.hears("release 1 succeeded");
    eventually("a message", || count(&service, "deployment.succeeded") == 1);
    assert_eq!(count(&service, "deployment.not_started"), 1, "{:?}", events(&service));
}
