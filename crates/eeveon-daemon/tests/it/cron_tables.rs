//! Tables of cron facts that other projects publish. Where we differ from one, it is listed with the reason.

use eeveon_daemon::Schedule;
use jiff::{Timestamp, civil::DateTime, fmt::strtime, tz::TimeZone};
use serde_json::Value;

/// Reads a table, or says that it is not there.
fn table(name: &str) -> Option<Value> {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures");
    let folder = std::env::var("EEVEON_FIXTURES").unwrap_or_else(|_| fixtures.to_owned());
    let Ok(text) = std::fs::read_to_string(format!("{folder}/cron/{name}")) else {
        eprintln!("skipped: no table {folder}/cron/{name}");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn strings(row: &Value) -> Vec<&str> {
    row.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// Reads a time as the tables write them, with the zone it names, if any.
fn time(text: &str, zone: &TimeZone) -> Timestamp {
    if let Ok(moment) = text.parse() {
        return moment;
    }
    if let Ok(moment) = strtime::parse("%Y-%m-%dT%H:%M:%S%z", text).and_then(|parts| parts.to_timestamp()) {
        return moment;
    }
    // Some rows name a wrong day of the week; theirs is not read either.
    let (_, text) = text.split_once(' ').unwrap();
    let shown =
        ["%b %d %H:%M:%S %Y", "%b %d %H:%M %Y"].iter().find_map(|form| DateTime::strptime(form, text).ok());
    zone.to_timestamp(shown.unwrap_or_else(|| panic!("{text}"))).unwrap()
}

/// Writes out `5/15` as `5-59/15`: we refuse the short form, as OCPS 1.0 and the croner table ask for.
fn spelled_out(expression: &str) -> String {
    let mut fields: Vec<String> = expression.split(' ').map(str::to_owned).collect();
    let last: &[u8] = if fields.len() == 5 { &[59, 23, 31, 12, 6] } else { &[59, 59, 23, 31, 12, 6] };
    for (field, last) in fields.iter_mut().zip(last) {
        *field = match field.split_once('/') {
            Some((first, step)) if first != "*" && !first.contains('-') => {
                let name = if first == "Mon" { "1" } else { first };
                format!("{name}-{last}/{step}")
            }
            _ => field.clone(),
        };
    }
    fields.join(" ")
}

/// Rows of robfig's table of next times where we differ: time, expression, what we say.
const OTHERWISE: &[(&str, &str, &str)] = &[
    // A fixed time that the clock leaves out runs after the gap; there it waits for the next day or year.
    ("2012-03-11T00:00:00-0500", "0 30 2 11 Mar ?", "2012-03-11T03:00:00-0400"),
    ("2012-03-11T00:00:00-0500", "0 0 2 * * ?", "2012-03-11T03:00:00-0400"),
    // A fixed time in an hour that comes twice runs once; there twice.
    ("2012-11-04T01:45:00-0400", "0 30 1 04 Nov ?", "2013-11-04T01:30:00-0500"),
    ("2012-11-04T01:00:00-0400", "0 0 1 * * ?", "2012-11-05T01:00:00-0500"),
];

#[test]
fn robfigs_next_times() {
    let Some(robfig) = table("robfig.json") else { return };
    let mut rows: Vec<_> = robfig["tables"]["TestNext"].as_array().unwrap().iter().map(strings).collect();
    assert!(rows.len() > 50);
    let with_zones = robfig["tables"]["TestNextWithTz"].as_array().unwrap().iter().map(strings);
    rows.extend(with_zones);
    let (mut failures, mut differ) = (Vec::new(), 0);
    for row in rows {
        let [start, expression, expected] = row[..] else { panic!("{row:?}") };
        // A zone before the time or the expression is the setting `tz` here.
        let named =
            |text: &str| text.split_once("TZ=").map(|(_, rest)| rest.split_once(' ').unwrap().0.to_owned());
        let zone =
            named(expression).or_else(|| named(start)).unwrap_or_else(|| match start.contains("+0530") {
                true => "Asia/Kolkata".to_owned(),
                false => "UTC".to_owned(),
            });
        let bare = |text: &str| match named(text) {
            Some(_) => text.split_once(' ').unwrap().1.to_owned(),
            None => text.to_owned(),
        };
        let (start, expression) = (bare(start), spelled_out(&bare(expression)));
        let rules = TimeZone::get(&zone).unwrap();
        let other = OTHERWISE.iter().find(|(time, text, _)| *time == start && *text == expression);
        differ += usize::from(other.is_some_and(|(_, _, ours)| time(ours, &rules) != time(expected, &rules)));
        let expected = other.map_or(expected, |(_, _, ours)| *ours);
        let expected = (!expected.is_empty()).then(|| time(expected, &rules));
        let found = Schedule::parse(&expression, &zone)
            .ok()
            .and_then(|schedule| schedule.next_after(time(&start, &rules)));
        if found != expected {
            failures.push(format!("{start} {expression} {zone}: {found:?}, not {expected:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    // The last one stands in the table twice.
    assert_eq!(differ, OTHERWISE.len() + 1);
}

#[test]
fn robfigs_activations() {
    let Some(robfig) = table("robfig.json") else { return };
    let rows = robfig["tables"]["TestActivation"].as_array().unwrap();
    assert!(rows.len() > 20);
    let mut failures = Vec::new();
    for row in rows {
        let [start, expression] = strings(row)[..] else { panic!("{row}") };
        let moment = time(start, &TimeZone::UTC);
        let schedule = Schedule::parse(&spelled_out(expression), "UTC").unwrap();
        let before = moment - jiff::SignedDuration::from_secs(1);
        let activates = schedule.next_after(before) == Some(moment);
        if activates != row[2].as_bool().unwrap() {
            failures.push(row.to_string());
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn robfigs_errors() {
    let Some(robfig) = table("robfig.json") else { return };
    for expression in strings(&robfig["tables"]["TestErrors"]) {
        assert!(Schedule::parse(expression, "UTC").is_err(), "{expression}");
    }
}

/// Tests of croner that are about something else than the expression, which is a good one.
const ABOUT_OPTIONS: &[&str] = &[
    "croner.test.ts: Array passed",
    "croner.test.ts: Text as",
    "croner.test.ts: Initializing two jobs",
    "croner.test.ts: Invalid date should",
    "day-offset.test.ts",
    "options.test.ts",
    "new-edge-cases.test.ts: UTC offset",
    "disable-fields.test.ts: invalid mode",
    // Five and six fields are both good here, whatever mode that test is in.
    "disable-fields.test.ts: 5-part mode should reject 6-part",
    "disable-fields.test.ts: 6-part mode should reject 5-part",
    "disable-fields.test.ts: 7-part mode",
    "disable-fields.test.ts: 6-or-7-parts mode",
];

#[test]
fn what_croner_refuses_is_refused() {
    let Some(croner) = table("croner.json") else { return };
    let (mut refused, mut failures) = (0, Vec::new());
    for row in croner["must_reject"].as_array().unwrap() {
        let name = format!("{}: {}", row["file"].as_str().unwrap(), row["name"].as_str().unwrap());
        let about_options =
            ABOUT_OPTIONS.iter().any(|start| name.trim_start_matches("test/").starts_with(start));
        for expression in strings(&row["patterns"]) {
            match (Schedule::parse(expression, "UTC").is_err(), about_options) {
                (true, false) => refused += 1,
                (false, true) => {}
                (_, _) => failures.push(format!("{name}: {expression}")),
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(refused > 55, "{refused}");
}

/// The rules of the Open Cron Pattern Specification that have an example. Its fixture lists which libraries
/// conform, not expressions, so these are taken from the text.
/// Source: <https://github.com/open-source-cron/ocps>, 1.0 to 1.4.
#[test]
fn the_examples_of_the_specification() {
    // Expression, a time from which to look, and what comes next. 2026-01-01 is a Thursday.
    let cases = [
        ("  0\t12 * *   * ", "2026-01-01T12:00:00Z", "2026-01-02T12:00:00Z"),
        ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("0 0 * jan SuN", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("5-59/15 * * * *", "2026-01-01T00:35:00Z", "2026-01-01T00:50:00Z"),
        ("0 12 1 * MON", "2026-01-01T12:00:00Z", "2026-01-05T12:00:00Z"),
        ("0 12 1 * +MON", "2026-01-01T12:00:00Z", "2026-06-01T12:00:00Z"),
        ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@annually", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("@daily", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("@midnight", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
        ("0 0 L * *", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z"),
        ("0 0 * * FRI#L", "2026-01-01T00:00:00Z", "2026-01-30T00:00:00Z"),
        ("0 0 * * 5L", "2026-01-01T00:00:00Z", "2026-01-30T00:00:00Z"),
        ("0 0 * * 2#3", "2026-01-01T00:00:00Z", "2026-01-20T00:00:00Z"),
        ("0 0 * * MON#1", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"),
        // 2026-02-15 is a Sunday, 2026-08-01 a Saturday.
        ("0 12 15W * *", "2026-02-01T00:00:00Z", "2026-02-16T12:00:00Z"),
        ("0 12 1W 8 *", "2026-07-01T00:00:00Z", "2026-08-03T12:00:00Z"),
        ("0 0 ? * ?", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("30 * * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z"),
    ];
    for (expression, start, expected) in cases {
        let schedule = Schedule::parse(expression, "UTC").unwrap();
        assert_eq!(
            schedule.next_after(start.parse().unwrap()),
            Some(expected.parse().unwrap()),
            "{expression}"
        );
    }
    for bad in ["0 +12 * * *", "0 12 1 * +", "0 12 1-15W * *", "? * * * *", "@reboot"] {
        assert!(Schedule::parse(bad, "UTC").is_err(), "{bad}");
    }
}
