//! Holidays from calendar files, good and bad.

use eeveon_core::Diagnose;
use eeveon_daemon::{Calendar, DaemonError, Zone};
use proptest::prelude::*;

use crate::common::at;

fn berlin() -> Zone {
    Zone::new("Europe/Berlin").unwrap()
}

fn file(events: &[&str]) -> String {
    let events: String =
        events.iter().map(|event| format!("BEGIN:VEVENT\r\n{event}\r\nEND:VEVENT\r\n")).collect();
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//\r\n{events}END:VCALENDAR\r\n")
}

#[track_caller]
fn read(events: &[&str]) -> Calendar {
    Calendar::parse(file(events).as_bytes(), &berlin()).unwrap()
}

#[track_caller]
fn refused(events: &[&str]) -> String {
    let error = Calendar::parse(file(events).as_bytes(), &berlin()).unwrap_err();
    assert_eq!(error.code(), "daemon/calendar");
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control) && text.len() < 400, "{text}");
    text
}

/// Checks which holiday it is at some times; `""`: none.
#[track_caller]
fn check(calendar: &Calendar, cases: &[(&str, &str)]) {
    for (moment, name) in cases {
        let found = calendar.covering(at(moment)).map_or("", |name| name.as_raw());
        assert_eq!(found, *name, "{moment}");
    }
}

#[test]
fn a_whole_day_in_the_zone_of_the_windows() {
    let calendar =
        read(&["DTSTART;VALUE=DATE:20261225\r\nSUMMARY:Christmas\\, at last\r\nTRANSP:TRANSPARENT"]);
    check(
        &calendar,
        &[
            ("2026-12-24T23:59:59+01:00", ""),
            ("2026-12-25T00:00:00+01:00", "Christmas, at last"),
            ("2026-12-25T23:59:59+01:00", "Christmas, at last"),
            ("2026-12-26T00:00:00+01:00", ""),
        ],
    );
}

#[test]
fn several_days_with_an_end_or_a_length() {
    let calendar = read(&[
        "DTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227\r\nSUMMARY:A",
        "DTSTART;VALUE=DATE:20270105\r\nDURATION:P2D\r\nSUMMARY:B",
        "DTSTART;VALUE=DATE:20270110\r\nDTEND;VALUE=DATE:20270110\r\nSUMMARY:C",
    ]);
    check(
        &calendar,
        &[
            ("2026-12-26T23:59:00+01:00", "A"),
            ("2026-12-27T00:00:00+01:00", ""),
            ("2027-01-06T23:59:00+01:00", "B"),
            ("2027-01-07T00:00:00+01:00", ""),
            ("2027-01-10T12:00:00+01:00", "C"),
        ],
    );
}

#[test]
fn times_in_zones() {
    let calendar = read(&[
        "DTSTART;TZID=America/New_York:20261127T090000\r\nDTEND;TZID=America/New_York:20261127T170000\r\nSUMMARY:Black Friday",
        "DTSTART:20261201T100000Z\r\nDURATION:PT2H\r\nSUMMARY:UTC",
        "DTSTART:20261202T100000\r\nDURATION:PT2H\r\nSUMMARY:floating",
        "DTSTART;TZID=W. Europe Standard Time:20261203T100000\r\nDTEND:20261203T110000Z\r\nSUMMARY:mixed",
    ]);
    check(
        &calendar,
        &[
            ("2026-11-27T13:59:59Z", ""),
            ("2026-11-27T14:00:00Z", "Black Friday"),
            ("2026-11-27T22:00:00Z", ""),
            ("2026-12-01T11:59:59Z", "UTC"),
            ("2026-12-02T08:59:59Z", ""),
            ("2026-12-02T09:00:00Z", "floating"),
            ("2026-12-03T09:00:00Z", "mixed"),
            ("2026-12-03T10:59:59Z", "mixed"),
            ("2026-12-03T11:00:00Z", ""),
        ],
    );
}

#[test]
fn every_year_until_the_end_of_the_century() {
    let calendar = read(&[
        "DTSTART;VALUE=DATE:19901003\r\nRRULE:FREQ=YEARLY\r\nSUMMARY:Unity",
        "DTSTART;VALUE=DATE:20201126\r\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH\r\nSUMMARY:Thanksgiving",
        "DTSTART;VALUE=DATE:20240229\r\nRRULE:FREQ=YEARLY\r\nSUMMARY:leap",
        "DTSTART;VALUE=DATE:20200101\r\nRRULE:FREQ=YEARLY;UNTIL=20250101\r\nSUMMARY:over",
        "DTSTART;VALUE=DATE:20260501\r\nRRULE:FREQ=YEARLY;COUNT=2\r\nSUMMARY:twice",
    ]);
    check(
        &calendar,
        &[
            ("2026-10-03T12:00:00Z", "Unity"),
            ("2099-10-03T12:00:00Z", "Unity"),
            ("2100-10-03T12:00:00Z", ""),
            ("2026-11-26T12:00:00Z", "Thanksgiving"),
            ("2027-11-25T12:00:00Z", "Thanksgiving"),
            ("2028-02-29T12:00:00Z", "leap"),
            ("2027-02-28T12:00:00Z", ""),
            ("2025-01-01T12:00:00Z", "over"),
            ("2026-01-01T12:00:00Z", ""),
            ("2027-05-01T12:00:00Z", "twice"),
            ("2028-05-01T12:00:00Z", ""),
        ],
    );
}

#[test]
fn exceptions_moves_and_cancellations() {
    let calendar = read(&[
        "UID:1\r\nDTSTART;VALUE=DATE:20260105\r\nRRULE:FREQ=WEEKLY;COUNT=5\r\nEXDATE;VALUE=DATE:20260112\r\nSUMMARY:weekly",
        "UID:1\r\nRECURRENCE-ID;VALUE=DATE:20260119\r\nDTSTART;VALUE=DATE:20260120\r\nSUMMARY:moved",
        "UID:1\r\nRECURRENCE-ID;VALUE=DATE:20260126\r\nDTSTART;VALUE=DATE:20260126\r\nSTATUS:CANCELLED\r\nSUMMARY:off",
        "UID:2\r\nDTSTART;VALUE=DATE:20260301\r\nSTATUS:CANCELLED\r\nSUMMARY:off",
    ]);
    check(
        &calendar,
        &[
            ("2026-01-05T12:00:00Z", "weekly"),
            ("2026-01-12T12:00:00Z", ""),
            ("2026-01-19T12:00:00Z", ""),
            ("2026-01-20T12:00:00Z", "moved"),
            ("2026-01-26T12:00:00Z", ""),
            ("2026-02-02T12:00:00Z", "weekly"),
            ("2026-03-01T12:00:00Z", ""),
        ],
    );
}

#[test]
fn days_begin_when_the_clock_says_so() {
    // In Santiago 2026-09-06 has no midnight.
    let text = file(&["DTSTART;VALUE=DATE:20260906\r\nSUMMARY:short day"]);
    let calendar = Calendar::parse(text.as_bytes(), &Zone::new("America/Santiago").unwrap()).unwrap();
    check(
        &calendar,
        &[
            ("2026-09-05T23:59:59-04:00", ""),
            ("2026-09-06T01:00:00-03:00", "short day"),
            ("2026-09-06T23:59:59-03:00", "short day"),
            ("2026-09-07T00:00:00-03:00", ""),
        ],
    );
    // In Berlin 2026-10-25 has 25 hours.
    let calendar = read(&[
        "DTSTART;TZID=Europe/Berlin:20261025T020000\r\nDTEND;TZID=Europe/Berlin:20261025T040000\r\nSUMMARY:long",
    ]);
    check(&calendar, &[("2026-10-25T02:30:00+01:00", "long"), ("2026-10-25T04:00:00+01:00", "")]);
}

#[test]
fn holidays_that_overlap_are_all_there() {
    let calendar = read(&[
        "DTSTART;VALUE=DATE:20261220\r\nDTEND;VALUE=DATE:20270110\r\nSUMMARY:break",
        "DTSTART;VALUE=DATE:20261225\r\nSUMMARY:Christmas",
        "DTSTART;VALUE=DATE:20270109\r\nDTEND;VALUE=DATE:20270112\r\nSUMMARY:fair",
    ]);
    check(
        &calendar,
        &[
            ("2026-12-25T12:00:00Z", "break"),
            ("2027-01-09T12:00:00Z", "break"),
            ("2027-01-11T12:00:00Z", "fair"),
        ],
    );
    assert_eq!(calendar.len(), 2);
}

#[test]
fn what_is_not_understood_is_refused_and_not_left_out() {
    let bad = [
        "SUMMARY:when?",
        "DTSTART;VALUE=DATE:20261399",
        "DTSTART;VALUE=DATE:soon",
        "DTSTART;TZID=Mars/Olympus:20261225T000000",
        "DTSTART;VALUE=DATE:20261225\r\nDTEND;VALUE=DATE:20261224",
        "DTSTART;VALUE=DATE:20261225\r\nDURATION:-P1D",
        "DTSTART;VALUE=DATE:20261225\r\nRRULE:every year",
        "DTSTART;VALUE=DATE:20261225\r\nRRULE:FREQ=HOURLY",
        "DTSTART;VALUE=DATE:20261225\r\nRRULE:FREQ=DAILY;BYHOUR=1,2",
        "DTSTART;VALUE=DATE:20261225\r\nRRULE:FREQ=YEARLY;UNTIL=20200101",
        "DTSTART;VALUE=DATE:20261225\r\nRRULE:RSCALE=HEBREW;FREQ=YEARLY",
    ];
    for event in bad {
        refused(&[event]);
    }
    assert!(
        refused(&["DTSTART;VALUE=DATE:99990101\r\nRRULE:FREQ=YEARLY\r\nSUMMARY:\u{1b}[2J"])
            .contains("\\u{1b}[2J")
    );
}

#[test]
fn what_is_no_calendar_is_refused() {
    let unfinished = file(&["DTSTART;VALUE=DATE:20261225"]).replace("END:VCALENDAR\r\n", "");
    let card = "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Ada\r\nEND:VCARD\r\n";
    for text in ["", "hello", "<html></html>", "BEGIN:VCALENDAR", &unfinished, card] {
        let found = Calendar::parse(text.as_bytes(), &berlin());
        assert!(matches!(found, Err(DaemonError::Calendar { .. })), "{text}: {found:?}");
    }
    assert!(Calendar::parse(b"BEGIN:VCALENDAR\r\nX:\xff\r\nEND:VCALENDAR\r\n", &berlin()).is_err());
    assert!(read(&[]).is_empty());
}

#[test]
fn what_is_too_much_is_refused() {
    let large = format!("{}{}", file(&[]), " ".repeat(1 << 20));
    assert!(Calendar::parse(large.as_bytes(), &berlin()).is_err());
    assert!(refused(&vec!["DTSTART:20260101T000000Z"; 10_001]).contains("10000 events"));
    let never = "DTSTART;VALUE=DATE:20260101\r\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31";
    assert!(refused(&vec![never; 201]).contains("200 events that recur"));
    let daily = "DTSTART;VALUE=DATE:20100101\r\nRRULE:FREQ=DAILY";
    assert!(refused(&[daily; 4]).contains("100000 times"));
    let nested = "BEGIN:X-A\r\n".repeat(20_000);
    let nested = format!("BEGIN:VCALENDAR\r\n{nested}");
    assert!(Calendar::parse(nested.as_bytes(), &berlin()).is_err());
}

#[test]
fn a_day_that_never_comes_does_no_harm() {
    let calendar =
        read(&["DTSTART;VALUE=DATE:20260101\r\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31\r\nSUMMARY:never"]);
    assert!(calendar.is_empty());
}

proptest! {
    #[test]
    fn nothing_that_is_written_does_harm(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "BEGIN:VCALENDAR", "END:VCALENDAR", "BEGIN:VEVENT", "END:VEVENT", "BEGIN:VTIMEZONE",
                "END:VTIMEZONE", "TZID:X", "DTSTART;VALUE=DATE:20260101", "DTSTART:20260101T000000Z",
                "DTSTART;TZID=X:20260101T000000", "DTEND;VALUE=DATE:20260102", "DURATION:P1W",
                "RRULE:FREQ=YEARLY;INTERVAL=0", "RRULE:FREQ=MONTHLY;BYSETPOS=-366;BYDAY=MO", "RRULE:FREQ=DAILY;COUNT=0",
                "RRULE:FREQ=YEARLY;BYYEARDAY=-366;BYWEEKNO=53", "EXDATE:20260101", "RDATE;VALUE=PERIOD:20260101T000000Z/P1D",
                "RECURRENCE-ID:20260101T000000Z", "SUMMARY:x", " folded", "UID:1", ";:;,\"", "",
            ]),
            0..30,
        ),
        whole in any::<bool>(),
    ) {
        let body = lines.join("\r\n");
        let text = if whole { file(&[&body]) } else { body };
        if let Ok(calendar) = Calendar::parse(text.as_bytes(), &berlin()) {
            calendar.covering(at("2026-01-01T00:00:00Z"));
        }
    }

    #[test]
    fn bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut text = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n".to_vec();
        text.extend(bytes);
        let _ = Calendar::parse(&text, &berlin());
    }
}
