//! When schedules come true, and what happens to times that are missed.

use eeveon_core::Diagnose;
use eeveon_daemon::{DaemonError, Due, Missed, Schedule, ScheduleConfig};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proptest::prelude::*;

use crate::common::at;

fn utc(expression: &str) -> Schedule {
    expression.parse().unwrap()
}

#[test]
fn what_is_no_schedule_is_refused() {
    let long = format!("{} * * * *", ["1"; 200].join(","));
    let bad = [
        "",
        " ",
        "* * * *",
        "* * * * * * *",
        "0 0 0 1 1 * 2030",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "a * * * *",
        "5/5 * * * *",
        "/5 * * * *",
        "*/0 * * * *",
        "10-5 * * * *",
        "@reboot",
        "@wekly",
        "@daily @daily",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "* * * * *\u{0}",
        "* * * * *\n",
        "٠ * * * *",
        "0 0 * * mon#6",
        "0 0 15W-20 * *",
        &long,
    ];
    for expression in bad {
        let error = Schedule::parse(expression, "UTC").expect_err(expression);
        assert_eq!(error.code(), "daemon/schedule", "{expression}");
        let message = error.to_string();
        assert!(!message.ends_with('.') && !message.chars().any(char::is_control), "{message}");
    }
    assert!(matches!(Schedule::parse("* * * * *", "Nowhere"), Err(DaemonError::Zone { .. })));
}

#[test]
fn ten_thousand_fields_are_refused_at_once() {
    let many = "* ".repeat(10_000);
    assert!(Schedule::parse(&many, "UTC").unwrap_err().to_string().len() < 200);
}

#[test]
fn what_is_written_in_a_project_file_is_read() {
    let config: ScheduleConfig = toml::from_str("cron = '30 4 * * mon-fri'\ntz = 'Europe/Berlin'").unwrap();
    assert_eq!(config.missed, Missed::Once);
    let schedule = Schedule::try_from(&config).unwrap();
    assert_eq!(schedule.to_string(), "30 4 * * mon-fri (Europe/Berlin)");
    assert_eq!(schedule.next_after(at("2026-11-22T00:00:00Z")), Some(at("2026-11-23T03:30:00Z")));
    assert!(toml::from_str::<ScheduleConfig>("cron = '* * * * *'\nzone = 'UTC'").is_err());
    assert!(toml::from_str::<ScheduleConfig>("cron = '* * * * *'\ntz = 'Mars'").is_err());
}

#[test]
fn a_leap_day_comes_every_four_years_but_not_in_2100() {
    let leap = utc("0 12 29 2 *");
    let mut moment = at("2024-02-29T12:00:00Z");
    for expected in ["2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z"] {
        moment = leap.next_after(moment).unwrap();
        assert_eq!(moment, at(expected));
    }
    assert_eq!(leap.next_after(at("2096-03-01T00:00:00Z")), Some(at("2104-02-29T12:00:00Z")));
}

#[test]
fn the_rest_of_a_second_does_not_count_twice() {
    let every = utc("* * * * * *");
    assert_eq!(every.next_after(at("2026-01-01T00:00:00.5Z")), Some(at("2026-01-01T00:00:01Z")));
    let minute = utc("* * * * *");
    assert_eq!(minute.next_after(at("2026-01-01T00:00:00.000000001Z")), Some(at("2026-01-01T00:01:00Z")));
}

#[test]
fn missed_times_are_made_up_once_or_not_at_all() {
    let hourly = utc("@hourly");
    let (last, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T05:30:00Z"));
    let (newest, next) = (at("2026-01-01T05:00:00Z"), Some(at("2026-01-01T06:00:00Z")));
    assert_eq!(hourly.due(last, now, Missed::Once), Due { run: Some(newest), handled: newest, next });
    assert_eq!(hourly.due(last, now, Missed::Skip), Due { run: None, handled: newest, next });
    // Asked again, nothing more comes of it.
    assert_eq!(hourly.due(newest, now, Missed::Once), Due { run: None, handled: newest, next });
}

#[test]
fn a_moment_late_is_not_missed() {
    let hourly = utc("@hourly");
    let (last, newest) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z"));
    for (now, runs) in
        [("2026-01-01T01:00:00Z", true), ("2026-01-01T01:01:00Z", true), ("2026-01-01T01:01:01Z", false)]
    {
        let due = hourly.due(last, at(now), Missed::Skip);
        assert_eq!((due.run.is_some(), due.handled), (runs, newest), "{now}");
    }
}

#[test]
fn a_clock_put_back_runs_nothing_twice() {
    let hourly = utc("@hourly");
    let last = at("2026-01-10T12:00:00Z");
    for back in ["2026-01-10T11:59:59Z", "2026-01-10T09:30:00Z", "2026-01-09T12:00:00Z"] {
        let due = hourly.due(last, at(back), Missed::Once);
        assert_eq!(due, Due { run: None, handled: last, next: Some(at("2026-01-10T13:00:00Z")) }, "{back}");
    }
}

#[test]
fn a_last_run_noted_by_a_wrong_clock_does_not_silence_a_schedule() {
    let hourly = utc("@hourly");
    let now = at("2026-01-10T12:30:00Z");
    let due = hourly.due(at("2036-01-10T12:00:00Z"), now, Missed::Once);
    assert_eq!(due, Due { run: None, handled: now, next: Some(at("2026-01-10T13:00:00Z")) });
}

#[test]
fn ten_years_forward_run_once() {
    let every = utc("* * * * * *");
    let (last, now) = (at("2026-01-01T00:00:00Z"), at("2036-01-01T00:00:00.7Z"));
    let due = every.due(last, now, Missed::Once);
    assert_eq!(due.run, Some(at("2036-01-01T00:00:00Z")));
    assert_eq!(due.next, Some(at("2036-01-01T00:00:01Z")));
}

/// A field with one value, a list, a range or a step, and the values it stands for.
fn field(min: u8, max: u8) -> impl Strategy<Value = (String, Vec<u8>)> {
    let one = (min..=max).prop_map(|value| (value.to_string(), vec![value]));
    let list = (min..=max, min..=max).prop_map(|(a, b)| (format!("{a},{b}"), vec![a, b]));
    let range = (min..=max, min..=max).prop_map(|(a, b)| {
        let (a, b) = (a.min(b), a.max(b));
        (format!("{a}-{b}"), (a..=b).collect())
    });
    let step = (min..=max, min..=max, 1..=max).prop_map(|(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        (format!("{a}-{b}/{step}"), (a..=b).step_by(step.into()).collect())
    });
    let all = Just(("*".to_owned(), (min..=max).collect::<Vec<_>>()));
    prop_oneof![one, list, range, step, all]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Looks at every minute, one after the other, for as long as a leap year.
    #[test]
    fn the_next_time_is_the_first_minute_that_matches(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12),
        weekday in field(0, 6), start in 1_700_000_000_i64..1_900_000_000,
    ) {
        let text = format!("{} {} {} {} {}", minute.0, hour.0, day.0, month.0, weekday.0);
        let start = Timestamp::from_second(start).unwrap();
        let matches = |moment: Timestamp| {
            let shown = TimeZone::UTC.to_datetime(moment);
            let has = |values: &[u8], value: i8| values.contains(&value.unsigned_abs());
            let by_day = has(&day.1, shown.day());
            let by_weekday = has(&weekday.1, shown.weekday().to_sunday_zero_offset());
            let on_day = match (day.0 == "*", weekday.0 == "*") {
                (false, false) => by_day || by_weekday,
                _ => by_day && by_weekday,
            };
            has(&minute.1, shown.minute()) && has(&hour.1, shown.hour()) && has(&month.1, shown.month()) && on_day
        };
        let first = Timestamp::from_second(start.as_second().div_euclid(60) * 60 + 60).unwrap();
        let minutes = std::iter::successors(Some(first), |moment| moment.checked_add(SignedDuration::from_mins(1)).ok());
        let expected = minutes.take(60 * 24 * 366).find(|moment| matches(*moment));
        // Days that never come in a year are not looked for further.
        if let Some(expected) = expected {
            let schedule = Schedule::parse(&text, "UTC").unwrap();
            prop_assert_eq!(schedule.next_after(start), Some(expected), "{}", text);
        }
    }

    #[test]
    fn whoever_asks_often_runs_each_time_once(
        minute in field(0, 59), hour in field(0, 23), pauses in prop::collection::vec(1_i64..40_000, 1..60),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"]),
    ) {
        let schedule = Schedule::parse(&format!("{} {} * * *", minute.0, hour.0), zone).unwrap();
        let mut now = at("2026-03-25T00:00:00Z");
        let mut handled = now;
        let mut runs = Vec::new();
        for pause in pauses {
            now += SignedDuration::from_secs(pause);
            let due = schedule.due(handled, now, Missed::Once);
            prop_assert!(due.handled >= handled && due.next.is_some_and(|next| next > now));
            runs.extend(due.run);
            handled = due.handled;
            prop_assert_eq!(schedule.due(handled, now, Missed::Once).run, None);
        }
        let mut times = std::iter::successors(schedule.next_after(at("2026-03-25T00:00:00Z")), |last| schedule.next_after(*last));
        prop_assert!(runs.is_sorted());
        for run in &runs {
            prop_assert!(times.any(|time| time == *run), "{} is no time of it, or came twice", run);
        }
    }

    #[test]
    fn nothing_that_is_written_does_harm(text in "[-0-9*/,?LW#+@a-zA-Z \t]{0,40}|\\PC{0,60}") {
        if let Ok(schedule) = Schedule::parse(&text, "Europe/Berlin") {
            let next = schedule.next_after(at("2026-03-29T00:00:00Z"));
            prop_assert!(next.is_none_or(|next| next > at("2026-03-29T00:00:00Z")));
        }
    }
}
