//! Schedules where the clock is put forward and back, in six zones.

use eeveon_daemon::Schedule;

use crate::common::at;

/// Checks the times of `expression` after `start`.
#[track_caller]
fn times(zone: &str, expression: &str, start: &str, expected: &[&str]) {
    let schedule = Schedule::parse(expression, zone).unwrap();
    let mut moment = at(start);
    for expected in expected {
        moment = schedule.next_after(moment).unwrap();
        assert_eq!(moment, at(expected), "{expression} in {zone}: {moment}");
    }
}

#[test]
fn berlin_forward() {
    // 2026-03-29: 02:00 is followed by 03:00.
    let start = "2026-03-28T12:00:00+01:00";
    times("Europe/Berlin", "30 2 * * *", start, &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]);
    times("Europe/Berlin", "0 3 * * *", start, &["2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"]);
    times(
        "Europe/Berlin",
        "0 * * * *",
        "2026-03-29T01:00:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"],
    );
}

#[test]
fn berlin_back() {
    // 2026-10-25: 02:59 summer time is followed by 02:00 winter time.
    let start = "2026-10-24T12:00:00+02:00";
    times("Europe/Berlin", "30 2 * * *", start, &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
    times(
        "Europe/Berlin",
        "30 * * * *",
        "2026-10-25T01:45:00+02:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"],
    );
}

#[test]
fn new_york_forward_and_back() {
    times(
        "America/New_York",
        "30 2 * * *",
        "2026-03-07T12:00:00-05:00",
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
    );
    times(
        "America/New_York",
        "30 1 * * *",
        "2026-10-31T12:00:00-04:00",
        &["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
    );
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    // 2026-10-04: 02:00 is followed by 02:30. 2026-04-05: 02:00 summer time is followed by 01:30.
    times(
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T12:00:00+10:30",
        &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
    );
    times(
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-04T12:00:00+11:00",
        &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
    );
    times(
        "Australia/Lord_Howe",
        "*/15 * * * *",
        "2026-04-05T01:44:00+11:00",
        &["2026-04-05T01:45:00+11:00", "2026-04-05T01:30:00+10:30", "2026-04-05T01:45:00+10:30"],
    );
}

#[test]
fn santiago_has_no_midnight_and_an_hour_before_it_twice() {
    // 2026-09-06: 24:00 is followed by 01:00. 2026-04-05: 24:00 of the day before is 23:00 again.
    times(
        "America/Santiago",
        "0 0 * * *",
        "2026-09-05T12:00:00-04:00",
        &["2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"],
    );
    times(
        "America/Santiago",
        "30 23 * * *",
        "2026-04-04T12:00:00-03:00",
        &["2026-04-04T23:30:00-03:00", "2026-04-05T23:30:00-04:00"],
    );
}

#[test]
fn st_johns_is_half_an_hour_off() {
    times(
        "America/St_Johns",
        "30 2 * * *",
        "2026-03-07T12:00:00-03:30",
        &["2026-03-08T03:00:00-02:30", "2026-03-09T02:30:00-02:30"],
    );
    times(
        "America/St_Johns",
        "30 1 * * *",
        "2026-10-31T12:00:00-02:30",
        &["2026-11-01T01:30:00-02:30", "2026-11-02T01:30:00-03:30"],
    );
}

#[test]
fn kathmandu_never_changes() {
    times(
        "Asia/Kathmandu",
        "30 2 * * *",
        "2026-03-28T00:00:00Z",
        &["2026-03-28T20:45:00Z", "2026-03-29T20:45:00Z", "2026-03-30T20:45:00Z"],
    );
}

#[test]
fn a_day_that_was_left_out_altogether() {
    // Samoa went from 2011-12-29 straight to 2011-12-31.
    times(
        "Pacific/Apia",
        "0 12 * * *",
        "2011-12-29T13:00:00-10:00",
        &["2011-12-31T12:00:00+14:00", "2012-01-01T12:00:00+14:00"],
    );
}
