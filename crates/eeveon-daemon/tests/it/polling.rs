//! Which repositories are looked at when.

use std::{collections::BTreeMap, time::Duration};

use eeveon_core::ProjectName;
use eeveon_daemon::{Looked, Polling, PollingConfig, Tell, Watch};
use jiff::Timestamp;

use crate::common::{project, second};

fn watch(host: &str, seconds: u64) -> Watch {
    Watch { interval: Duration::from_secs(seconds), host: host.to_owned() }
}

fn one(seconds: u64) -> (Polling, ProjectName) {
    let mut polling = Polling::new(PollingConfig::default(), 7);
    polling.watch(project("shop"), watch("forge", seconds), second(0));
    (polling, project("shop"))
}

/// Looks as soon as it is time, and returns when that was.
fn look(polling: &mut Polling, shop: &ProjectName, how: Looked) -> (Timestamp, Tell) {
    let due = polling.next_due().unwrap();
    assert_eq!(polling.next(due), std::slice::from_ref(shop));
    assert_eq!(polling.next_due(), None);
    (due, polling.looked(shop, how, due))
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

#[test]
fn looks_are_an_interval_apart_more_or_less() {
    let (mut polling, shop) = one(120);
    let (mut last, _) = look(&mut polling, &shop, Looked::Well);
    assert!(last < second(30));
    let mut pauses = Vec::new();
    for _ in 0..100 {
        let (now, tell) = look(&mut polling, &shop, Looked::Well);
        assert_eq!(tell, Tell::Nothing);
        pauses.push(seconds(last, now));
        last = now;
    }
    assert!(pauses.iter().all(|pause| (108.0..=132.0).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause < 114.0) && pauses.iter().any(|pause| *pause > 126.0));
}

#[test]
fn the_same_seed_gives_the_same_plan() {
    let plan = |seed| {
        let mut polling = Polling::new(PollingConfig::default(), seed);
        (0..20)
            .for_each(|number| polling.watch(project(&format!("p{number}")), watch("forge", 60), second(0)));
        let mut seen = Vec::new();
        for now in 0..300 {
            for name in polling.next(second(now)) {
                polling.looked(&name, Looked::Well, second(now));
                seen.push((now, name));
            }
        }
        seen
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
}

#[test]
fn errors_make_it_slower_up_to_a_limit_and_are_told_once() {
    let (mut polling, shop) = one(60);
    let (first, tell) = look(&mut polling, &shop, Looked::Failed);
    assert_eq!(tell, Tell::Broke);
    let mut last = first;
    for expected in [120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0, 3600.0] {
        let (now, tell) = look(&mut polling, &shop, Looked::Failed);
        assert_eq!(tell, Tell::Nothing);
        assert!((expected * 0.9..=expected * 1.1).contains(&seconds(last, now)), "{expected}");
        last = now;
    }
    let (_, tell) = look(&mut polling, &shop, Looked::Well);
    assert_eq!(tell, Tell::Mended { failures: 9, since: first });
    let (_, tell) = look(&mut polling, &shop, Looked::Well);
    assert_eq!(tell, Tell::Nothing);
}

#[test]
fn a_thousand_errors_overflow_nothing() {
    let (mut polling, shop) = one(u64::MAX);
    for _ in 0..1000 {
        look(&mut polling, &shop, Looked::Failed);
        if polling.next_due().unwrap() == Timestamp::MAX {
            break;
        }
    }
    assert!(polling.next_due().is_some());
}

#[test]
fn a_webhook_puts_the_next_look_a_whole_interval_away() {
    let (mut polling, shop) = one(120);
    let (last, _) = look(&mut polling, &shop, Looked::Well);
    let told = last + Duration::from_secs(100);
    polling.heard(&shop, told);
    assert!(seconds(told, polling.next_due().unwrap()) >= 108.0);
    // During a look it changes nothing: the look counts from its end.
    let due = polling.next_due().unwrap();
    polling.next(due);
    polling.heard(&shop, due);
    assert_eq!(polling.next_due(), None);
    polling.looked(&shop, Looked::Well, due);
    assert!(polling.next_due().is_some());
}

#[test]
fn a_host_that_never_answers_delays_nobody_else() {
    let config = PollingConfig { per_host: 2, in_all: 8, ..PollingConfig::default() };
    let mut polling = Polling::new(config, 7);
    for number in 0..50 {
        polling.watch(project(&format!("slow{number}")), watch("slow", 10), second(0));
        polling.watch(project(&format!("fast{number}")), watch("fast", 10), second(0));
    }
    let (mut slow, mut fast) = (0, BTreeMap::new());
    for now in 0..120 {
        for name in polling.next(second(now)) {
            if name.as_str().starts_with("slow") {
                slow += 1;
            } else {
                polling.looked(&name, Looked::Well, second(now));
                *fast.entry(name).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(slow, 2);
    assert!(fast.len() == 50, "{}", fast.len());
    // Two places, used once a second each, are 240 looks.
    assert!(fast.values().sum::<i32>() >= 220 && fast.values().all(|looks| *looks >= 3), "{fast:?}");
}

#[test]
fn no_more_looks_than_there_are_places() {
    let config = PollingConfig { per_host: 2, in_all: 3, ..PollingConfig::default() };
    let mut polling = Polling::new(config, 7);
    for number in 0..20 {
        polling.watch(project(&format!("p{number}")), watch(&format!("host{}", number % 5), 10), second(0));
    }
    let first = polling.next(second(100));
    assert_eq!(first.len(), 3);
    assert_eq!((polling.next(second(101)), polling.next_due()), (vec![], None));
    polling.looked(&first[0], Looked::Well, second(101));
    assert_eq!(polling.next(second(101)).len(), 1);
}

#[test]
fn who_is_forgotten_frees_its_place() {
    let config = PollingConfig { per_host: 1, ..PollingConfig::default() };
    let mut polling = Polling::new(config, 7);
    polling.watch(project("a"), watch("forge", 10), second(0));
    assert_eq!(polling.next(second(50)), [project("a")]);
    polling.watch(project("b"), watch("forge", 10), second(0));
    assert_eq!(polling.next(second(50)), []);
    polling.forget(&project("a"));
    assert_eq!(polling.next(second(50)), [project("b")]);
    // What comes of the forgotten look is ignored, also under the same name.
    polling.watch(project("a"), watch("forge", 10), second(50));
    assert_eq!(polling.looked(&project("a"), Looked::Failed, second(51)), Tell::Nothing);
    polling.looked(&project("b"), Looked::Well, second(51));
    assert_eq!(polling.next(second(65)), [project("a")]);
    assert_eq!(polling.looked(&project("a"), Looked::Well, second(65)), Tell::Nothing);
}

#[test]
fn a_clock_put_back_stops_nothing() {
    let (mut polling, shop) = one(120);
    look(&mut polling, &shop, Looked::Well);
    let years = second(-10 * 365 * 86_400);
    assert_eq!(polling.next(years), []);
    assert!(seconds(years, polling.next_due().unwrap()) <= 132.0);
    let (forward, _) = look(&mut polling, &shop, Looked::Well);
    assert_eq!(polling.next(forward + Duration::from_secs(10 * 365 * 86_400)), [shop]);
}

#[test]
fn no_setting_makes_a_busy_loop() {
    let (mut polling, shop) = one(0);
    let (first, _) = look(&mut polling, &shop, Looked::Well);
    let (second, _) = look(&mut polling, &shop, Looked::Well);
    assert!(seconds(first, second) >= 0.9);
    let none = PollingConfig { per_host: 0, in_all: 0, ..PollingConfig::default() };
    let mut polling = Polling::new(none, 7);
    polling.watch(shop.clone(), watch("forge", 60), first);
    assert_eq!(polling.next(first + Duration::from_secs(60)), [shop]);
}

#[test]
fn settings_are_read() {
    let config: PollingConfig = toml::from_str("per_host = 2\nlongest_pause = '30m'").unwrap();
    assert_eq!(
        config,
        PollingConfig { per_host: 2, longest_pause: Duration::from_secs(1800), ..PollingConfig::default() }
    );
    assert!(toml::from_str::<PollingConfig>("per_hosts = 2").is_err());
}
