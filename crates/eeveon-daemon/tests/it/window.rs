//! Windows, holidays and freezes: whether a deployment may start, and until when not.

use std::time::Duration;

use eeveon_core::{Diagnose, Retry, Untrusted};
use eeveon_daemon::{Calendar, Freeze, Shut, State, Why, WindowConfig, Windows, Zone};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proptest::prelude::*;

use crate::common::at;

fn windows(config: &str) -> Windows {
    Windows::new(&toml::from_str(config).unwrap()).unwrap()
}

/// Checks whether deployments may start at some times. `""`: open, else until when shut.
#[track_caller]
fn check(windows: &Windows, cases: &[(&str, &str)]) {
    for (now, until) in cases {
        let until = (!until.is_empty()).then(|| at(until));
        match (windows.state(at(now)), until) {
            (State::Open, None) => {}
            (State::Shut(Shut { until: found, .. }), Some(until)) if found == Some(until) => {}
            (state, _) => panic!("{now}: expected until {until:?}, but {state:?}"),
        }
    }
}

fn why(windows: &Windows, now: &str) -> Why {
    match windows.state(at(now)) {
        State::Shut(shut) => shut.why,
        State::Open => panic!("{now}: open"),
    }
}

#[test]
fn without_windows_it_is_always_open() {
    check(&Windows::default(), &[("2026-11-22T00:00:00Z", ""), ("1970-01-01T00:00:00Z", "")]);
    assert!(windows("").state(at("2026-11-22T00:00:00Z")).admit().is_ok());
}

#[test]
fn office_hours() {
    let office = windows(
        "tz = 'Europe/Berlin'\nallow = [{ days = ['mon', 'tue', 'wed', 'thu', 'fri'], from = '09:00', to = '17:00' }]",
    );
    check(
        &office,
        &[
            ("2026-11-20T08:59:59+01:00", "2026-11-20T09:00:00+01:00"),
            ("2026-11-20T09:00:00+01:00", ""),
            ("2026-11-20T16:59:59+01:00", ""),
            ("2026-11-20T17:00:00+01:00", "2026-11-23T09:00:00+01:00"),
            ("2026-11-22T12:00:00+01:00", "2026-11-23T09:00:00+01:00"),
        ],
    );
    assert_eq!(why(&office, "2026-11-22T12:00:00+01:00"), Why::Outside);
}

#[test]
fn deny_wins_and_says_why() {
    let both = windows(
        "allow = [{}]\ndeny = [{ days = ['fri'], from = '12:00', reason = \"no Friday\\u001b deploys\" }]",
    );
    check(&both, &[("2026-11-20T11:59:59Z", ""), ("2026-11-20T12:00:00Z", "2026-11-21T00:00:00Z")]);
    let error = both.state(at("2026-11-20T12:00:00Z")).admit().unwrap_err();
    assert_eq!((error.code(), error.retry()), ("daemon/window-shut", Retry::Later));
    assert_eq!(
        error.to_string(),
        "no deployment may start now: denied: no Friday\\u{1b} deploys, until 2026-11-21T00:00:00Z"
    );
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
    let night = windows("allow = [{ days = ['sat'], from = '22:00', to = '02:00' }]");
    check(
        &night,
        &[
            ("2026-11-21T21:59:59Z", "2026-11-21T22:00:00Z"),
            ("2026-11-21T23:00:00Z", ""),
            ("2026-11-22T01:59:59Z", ""),
            ("2026-11-22T02:00:00Z", "2026-11-28T22:00:00Z"),
            ("2026-11-22T23:00:00Z", "2026-11-28T22:00:00Z"),
        ],
    );
}

#[test]
fn until_24_o_clock_and_from_there_on_are_one() {
    let evening = windows(
        "allow = [{ days = ['fri'], from = '18:00', to = '24:00' }, { days = ['sat'], to = '06:00' }]",
    );
    check(
        &evening,
        &[
            ("2026-11-20T23:59:59Z", ""),
            ("2026-11-21T00:00:00Z", ""),
            ("2026-11-21T06:00:00Z", "2026-11-27T18:00:00Z"),
        ],
    );
}

#[test]
fn date_ranges() {
    let advent = windows(
        "deny = [{ first = '2026-12-18', last = '2027-01-03', reason = 'end of year' }]\ntz = 'America/New_York'",
    );
    check(
        &advent,
        &[
            ("2026-12-17T23:59:59-05:00", ""),
            ("2026-12-18T00:00:00-05:00", "2027-01-04T00:00:00-05:00"),
            ("2027-01-03T23:59:59-05:00", "2027-01-04T00:00:00-05:00"),
            ("2027-01-04T00:00:00-05:00", ""),
        ],
    );
    let past = windows("allow = [{ first = '2020-01-01', last = '2020-12-31' }]");
    assert_eq!(past.state(at("2026-01-01T00:00:00Z")), State::Shut(Shut { why: Why::Outside, until: None }));
}

#[test]
fn the_clock_on_the_wall_decides_when_clocks_change() {
    let early = windows("tz = 'Europe/Berlin'\nallow = [{ from = '02:30', to = '03:30' }]");
    check(
        &early,
        &[
            // Forward: what does not exist is left out.
            ("2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00"),
            ("2026-03-29T03:00:00+02:00", ""),
            ("2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"),
            // Back: half past two comes twice, two o'clock in between is outside.
            ("2026-10-25T02:30:00+02:00", ""),
            ("2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00"),
            ("2026-10-25T02:30:00+01:00", ""),
        ],
    );
    let denied = windows("tz = 'America/Santiago'\ndeny = [{ days = ['sun'], to = '06:00' }]");
    // The day begins at 01:00.
    check(
        &denied,
        &[("2026-09-05T23:59:59-04:00", ""), ("2026-09-06T01:00:00-03:00", "2026-09-06T06:00:00-03:00")],
    );
}

#[test]
fn a_window_may_have_a_zone_of_its_own() {
    let two = windows(
        "tz = 'Europe/Berlin'\ndeny = [{ from = '09:00', to = '10:00' }, { from = '09:00', to = '10:00', tz = 'Asia/Tokyo' }]",
    );
    check(
        &two,
        &[("2026-11-20T08:30:00Z", "2026-11-20T09:00:00Z"), ("2026-11-20T00:30:00Z", "2026-11-20T01:00:00Z")],
    );
}

#[test]
fn a_freeze_holds_until_it_ends_or_is_lifted() {
    let mut windows = windows("deny = [{ from = '12:00', to = '13:00' }]");
    let reason = Untrusted::from("incident 7");
    let until = Some(at("2026-11-20T12:30:00Z"));
    windows.set_freeze(Some(Freeze { reason: reason.clone(), until }));
    // The freeze ends within a window that denies.
    check(&windows, &[("2026-11-20T11:00:00Z", "2026-11-20T13:00:00Z")]);
    assert_eq!(why(&windows, "2026-11-20T12:29:59Z"), Why::Frozen(reason.clone()));
    assert_eq!(why(&windows, "2026-11-20T12:30:00Z"), Why::Denied(None));
    windows.set_freeze(Some(Freeze { reason, until: None }));
    let State::Shut(shut) = windows.state(at("2030-01-01T00:00:00Z")) else { panic!("open") };
    assert_eq!((shut.to_string().as_str(), shut.until), ("frozen: incident 7", None));
    windows.set_freeze(None);
    check(&windows, &[("2026-11-20T11:00:00Z", "")]);
}

#[test]
fn holidays_are_shut() {
    let file = b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20261225\nSUMMARY:Christmas\nEND:VEVENT\nEND:VCALENDAR\n";
    let mut windows = windows("allow = [{ from = '09:00', to = '17:00' }]\ntz = 'Europe/Berlin'");
    windows.set_holidays(Calendar::parse(file, &Zone::new("Europe/Berlin").unwrap()).unwrap());
    check(
        &windows,
        &[("2026-12-25T10:00:00+01:00", "2026-12-26T09:00:00+01:00"), ("2026-12-24T10:00:00+01:00", "")],
    );
    assert_eq!(why(&windows, "2026-12-25T10:00:00+01:00"), Why::Holiday(Untrusted::from("Christmas")));
}

#[test]
fn what_would_not_be_finished_does_not_start() {
    let text = "allow = [{ from = '09:00', to = '09:20' }, { from = '12:00', to = '14:00' }]\n";
    let (loose, strict) = (windows(text), windows(&format!("{text}crossing = 'finish-before'")));
    let hour = Duration::from_secs(3600);
    let now = at("2026-11-20T09:10:00Z");
    assert_eq!(loose.may_start(now, hour), State::Open);
    assert_eq!(strict.may_start(now, Duration::from_secs(600)), State::Open);
    let ends = at("2026-11-20T09:20:00Z");
    assert_eq!(
        strict.may_start(now, hour),
        State::Shut(Shut { why: Why::TooShort { ends }, until: Some(at("2026-11-20T12:00:00Z")) })
    );
    // From outside, the window that is too short is passed over.
    assert_eq!(
        strict.may_start(at("2026-11-20T08:00:00Z"), hour),
        State::Shut(Shut { why: Why::Outside, until: Some(at("2026-11-20T12:00:00Z")) })
    );
    assert_eq!(
        strict.may_start(at("2026-11-20T13:30:00Z"), Duration::MAX),
        State::Shut(Shut { why: Why::TooShort { ends: at("2026-11-20T14:00:00Z") }, until: None })
    );
}

#[test]
fn what_cannot_be_a_window_is_refused() {
    let bad = [
        "allow = [{ from = '09:00', to = '09:00' }]",
        "allow = [{ from = '24:00', to = '09:00' }]",
        "deny = [{ first = '2026-02-02', last = '2026-02-01' }]",
    ];
    for config in bad {
        let config: WindowConfig = toml::from_str(config).unwrap();
        assert_eq!(Windows::new(&config).unwrap_err().code(), "daemon/window");
    }
    let many = WindowConfig { allow: vec![Default::default(); 51], ..Default::default() };
    assert!(Windows::new(&many).is_err());
    for config in [
        "allow = [{ from = '25:00' }]",
        "allow = [{ day = ['mon'] }]",
        "crossing = 'maybe'",
        "allow = [{ days = ['Mon'] }]",
    ] {
        assert!(toml::from_str::<WindowConfig>(config).is_err(), "{config}");
    }
}

#[test]
fn what_was_read_is_written_again() {
    let text = "tz = \"Europe/Berlin\"\ncrossing = \"finish-before\"\n\n[[allow]]\ndays = [\"mon\"]\nfrom = \"22:00\"\nto = \"24:00\"\nfirst = \"2026-01-01\"\n";
    let config: WindowConfig = toml::from_str(text).unwrap();
    assert_eq!(toml::from_str::<WindowConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Asks for every quarter of an hour of three days in which clocks change, and compares.
    #[test]
    fn what_is_said_about_later_comes_true(
        from in 0_i64..96, length in 1_i64..96, day in 0_usize..8,
        (zone, start) in prop::sample::select(vec![
            ("Europe/Berlin", "2026-03-28T00:00:00Z"), ("Europe/Berlin", "2026-10-24T00:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T00:00:00Z"), ("America/Santiago", "2026-09-05T00:00:00Z"),
        ]),
    ) {
        let time = |quarter: i64| format!("{:02}:{:02}", quarter / 4, quarter % 4 * 15);
        let (begin, end) = (time(from), time((from + length) % 96));
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].get(day).map_or(String::new(), |day| format!("'{day}'"));
        let windows = windows(&format!("tz = '{zone}'\nallow = [{{ days = [{days}], from = '{begin}', to = '{end}' }}]"));
        let rules = TimeZone::get(zone).unwrap();
        let start: Timestamp = start.parse().unwrap();
        let moments = (0..3 * 24 * 4).map(|quarter| start + SignedDuration::from_mins(15 * quarter));
        let open: Vec<_> = moments.map(|moment| (moment, windows.state(moment))).collect();
        for (index, (moment, state)) in open.iter().enumerate() {
            let shown = rules.to_datetime(*moment);
            let quarter = i64::from(shown.hour()) * 4 + i64::from(shown.minute()) / 15;
            let (last, over) = (from + length, from + length > 96);
            let weekday = |date: jiff::civil::Date| usize::try_from(date.weekday().to_monday_zero_offset()).unwrap();
            let begins = |date| day == 7 || weekday(date) == day;
            let inside = begins(shown.date()) && (from..last).contains(&quarter)
                || over && begins(shown.date().yesterday().unwrap()) && quarter < last - 96;
            prop_assert_eq!(*state == State::Open, inside, "{} {:?}", shown, state);
            if let State::Shut(Shut { until: Some(until), .. }) = state {
                prop_assert!(until > moment);
                let next = open[index..].iter().find(|(_, state)| *state == State::Open);
                prop_assert!(next.is_none_or(|(next, _)| next == until), "{} {:?}", until, next);
                prop_assert_eq!(windows.state(*until), State::Open);
            }
        }
    }
}
