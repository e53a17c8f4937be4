//! Holidays from an iCalendar file.
//!
//! Format: RFC 5545, <https://www.rfc-editor.org/rfc/rfc5545>. Events are read with the zones they name;
//! what recurs is written out up to the end of the century, so that asking is cheap.

use std::collections::BTreeMap;

use calcard::{
    Entry, Parser,
    common::{CalendarScale, PartialDateTime, timezone::Tz},
    icalendar::{
        ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarEntry, ICalendarFrequency,
        ICalendarParameterName, ICalendarProperty, ICalendarRecurrenceRule, ICalendarStatus, ICalendarValue,
        dates::TimeOrDelta, timezone::TzResolver,
    },
};
use eeveon_core::Untrusted;
use jiff::{Timestamp, ToSpan, civil::DateTime, tz::TimeZone};

use crate::{
    error::{DaemonError, shortened},
    zone::Zone,
};

/// Bytes a calendar file may have.
const LARGEST: usize = 1 << 20;

/// Events a file may have.
const MOST_EVENTS: usize = 10_000;

/// Events that recur. Each can cost some milliseconds to write out, however it is made.
const MOST_RECURRING: usize = 200;

/// Times one event may come back: every day of a century.
const MOST_OCCURRENCES: usize = 37_000;

/// Times all events together may come back.
const MOST_IN_ALL: usize = 100_000;

/// Nothing is looked for from this year on.
const END_YEAR: u16 = 2100;

/// Times at which nothing may be deployed, each with a name.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    /// In order, and none overlaps another.
    days: Vec<Holiday>,
}

#[derive(Clone, Debug)]
struct Holiday {
    begin: Timestamp,
    end: Timestamp,
    name: Untrusted,
}

impl Calendar {
    /// Reads the events of an iCalendar file. Times without a zone are meant in `zone`. Cancelled events
    /// are left out; those that are said to take no time (`TRANSP`) count, as holidays usually are.
    ///
    /// # Errors
    ///
    /// `daemon/calendar` when the file is too large, is no calendar, or has an event that cannot be
    /// understood: a holiday that is quietly left out would let a deployment through.
    pub fn parse(file: &[u8], zone: &Zone) -> Result<Self, DaemonError> {
        if file.len() > LARGEST {
            return Err(refuse(format!("it has more than {LARGEST} bytes")));
        }
        let text = str::from_utf8(file).map_err(|_| refuse("it is not UTF-8"))?;
        // The parser takes the end of the text for the end of whatever is open.
        let end = text.trim_end().rsplit('\n').next().unwrap_or_default();
        if !end.eq_ignore_ascii_case("END:VCALENDAR") {
            return Err(refuse("it does not end with END:VCALENDAR"));
        }
        let mut days = Vec::new();
        let mut parser = Parser::new(text);
        let mut calendars = 0;
        loop {
            match parser.entry() {
                Entry::ICalendar(calendar) => read(calendar, zone, &mut days)?,
                Entry::Eof if calendars > 0 => return Ok(Self { days: apart(days) }),
                Entry::InvalidLine(line) if line.trim().is_empty() => continue,
                _ => return Err(refuse("it is not a complete iCalendar file")),
            }
            calendars += 1;
        }
    }

    /// Returns the name of the holiday `moment` lies in.
    pub fn covering(&self, moment: Timestamp) -> Option<&Untrusted> {
        let begun = self.days.partition_point(|day| day.begin <= moment);
        let last = self.days.get(begun.checked_sub(1)?)?;
        (moment < last.end).then_some(&last.name)
    }

    /// Returns the first moment after `moment` at which a holiday begins or ends.
    pub(crate) fn edge(&self, moment: Timestamp) -> Option<Timestamp> {
        let first = self.days.partition_point(|day| day.end <= moment);
        let day = self.days.get(first)?;
        Some(if day.begin > moment { day.begin } else { day.end })
    }

    /// Tells how many times are known.
    pub fn len(&self) -> usize {
        self.days.len()
    }

    /// Tells whether none is known.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }
}

fn refuse(why: impl Into<String>) -> DaemonError {
    DaemonError::Calendar { why: why.into() }
}

/// Adds the times of a calendar's events.
fn read(calendar: ICalendar, default: &Zone, days: &mut Vec<Holiday>) -> Result<(), DaemonError> {
    // Events with the same id belong together: one may replace a single time of another.
    let mut groups: BTreeMap<String, Vec<ICalendarComponent>> = BTreeMap::new();
    let (mut events, mut recurring) = (0, 0);
    for component in &calendar.components {
        if component.component_type != ICalendarComponentType::VEvent {
            continue;
        }
        events += 1;
        recurring += usize::from(component.has_property(&ICalendarProperty::Rrule));
        let id = component.uid().map_or_else(|| format!("\0{events}"), str::to_owned);
        groups.entry(id).or_default().push(component.clone());
    }
    if events > MOST_EVENTS {
        return Err(refuse(format!("it has more than {MOST_EVENTS} events")));
    }
    if recurring > MOST_RECURRING {
        return Err(refuse(format!("it has more than {MOST_RECURRING} events that recur")));
    }
    let zones = calendar.build_tz_resolver();
    for group in groups.into_values() {
        write_out(group, default, &zones, days)?;
        if days.len() > MOST_IN_ALL {
            return Err(refuse(format!("its events come back more than {MOST_IN_ALL} times")));
        }
    }
    Ok(())
}

/// Writes out every time of events that belong together.
///
/// The library counts in times without a zone, as it has a database of its own and cannot do with hours
/// that do not exist. So all times are brought to the clock of the first event's zone, and back.
fn write_out(
    mut events: Vec<ICalendarComponent>,
    default: &Zone,
    zones: &TzResolver<&str>,
    days: &mut Vec<Holiday>,
) -> Result<(), DaemonError> {
    let first = events.iter().find_map(|event| event.property(&ICalendarProperty::Dtstart));
    let zone = match first {
        Some(start) => zone_of(start, default, zones)?,
        None => return Err(refuse("an event has no beginning")),
    };
    for event in &mut events {
        for entry in &mut event.entries {
            on_one_clock(entry, &zone, default, zones)?;
        }
    }
    let names: Vec<_> = events.iter().map(name_of).collect();
    let about = |comp: u32| names.get(usize::try_from(comp).unwrap_or(usize::MAX));
    let calendar = ICalendar { components: events };
    let found = calendar.expand_dates(Tz::Floating, MOST_OCCURRENCES + 1);
    if let Some(error) = found.errors.first() {
        let name = about(error.comp_id).map_or("", |about| about.name.as_raw());
        return Err(refuse(format!(
            "the event `{}`: {}",
            shortened(name),
            error.error.to_string().to_lowercase()
        )));
    }
    if found.events.len() > MOST_OCCURRENCES {
        return Err(refuse(format!("an event comes back more than {MOST_OCCURRENCES} times")));
    }
    for event in found.events {
        let Some(about) = about(event.comp_id).filter(|about| !about.cancelled) else { continue };
        let begin = shown(event.start.timestamp());
        let end = match event.end {
            TimeOrDelta::Time(end) => shown(end.timestamp()),
            TimeOrDelta::Delta(length) => shown(event.start.timestamp().saturating_add(length.num_seconds())),
        };
        let (Some(begin), Some(mut end)) = (begin, end) else {
            return Err(refuse(format!("the event `{}` is out of range", shortened(about.name.as_raw()))));
        };
        // Some programs let a whole day end on the day it begins.
        if end == begin && about.whole_day {
            end = begin.saturating_add(1.day());
        }
        if end <= begin {
            return Err(refuse(format!(
                "the event `{}` ends before it begins",
                shortened(about.name.as_raw())
            )));
        }
        if let (Ok(begin), Ok(end)) = (zone.to_timestamp(begin), zone.to_timestamp(end)) {
            days.push(Holiday { begin, end, name: about.name.clone() });
        }
    }
    Ok(())
}

/// What is to be remembered of an event.
struct About {
    name: Untrusted,
    cancelled: bool,
    whole_day: bool,
}

fn name_of(event: &ICalendarComponent) -> About {
    let summary = event.property(&ICalendarProperty::Summary).and_then(|entry| entry.values.first());
    let name: String =
        summary.and_then(ICalendarValue::as_text).unwrap_or("no name").chars().take(100).collect();
    let begin = event.property(&ICalendarProperty::Dtstart).and_then(|entry| entry.values.first());
    About {
        name: Untrusted::from(name),
        cancelled: event.status() == Some(&ICalendarStatus::Cancelled),
        whole_day: begin
            .and_then(ICalendarValue::as_partial_date_time)
            .is_some_and(|time| time.hour.is_none()),
    }
}

/// Returns the zone the times of `entry` are meant in.
fn zone_of(
    entry: &ICalendarEntry,
    default: &Zone,
    zones: &TzResolver<&str>,
) -> Result<TimeZone, DaemonError> {
    let time = entry.values.first().and_then(ICalendarValue::as_partial_date_time);
    if time.is_some_and(|time| time.tz_hour.is_some()) {
        return Ok(TimeZone::UTC);
    }
    let named = entry.parameter(&ICalendarParameterName::Tzid).and_then(|name| name.as_text());
    let Some(name) = named else { return Ok(default.rules().clone()) };
    let known = Zone::new(name).or_else(|unknown| {
        let alias = zones.resolve(name).and_then(|zone| zone.name());
        alias.ok_or(unknown).and_then(|alias| Zone::new(&alias))
    });
    match known {
        Ok(zone) => Ok(zone.rules().clone()),
        Err(_) => Err(refuse(format!("its time zone `{}` is not known", shortened(name)))),
    }
}

/// Rewrites the times of `entry` as the clock in `zone` shows them, and refuses what is not understood.
fn on_one_clock(
    entry: &mut ICalendarEntry,
    zone: &TimeZone,
    default: &Zone,
    zones: &TzResolver<&str>,
) -> Result<(), DaemonError> {
    use ICalendarProperty::{Dtend, Dtstart, Duration, Exdate, Rdate, RecurrenceId, Rrule};
    if !matches!(entry.name, Dtstart | Dtend | Duration | Exdate | Rdate | RecurrenceId | Rrule) {
        return Ok(());
    }
    let own = zone_of(entry, default, zones)?;
    entry.params.retain(|param| param.name != ICalendarParameterName::Tzid);
    for value in &mut entry.values {
        match (&entry.name, value) {
            (Rrule, ICalendarValue::RecurrenceRule(rule)) => bound(rule, zone)?,
            (Duration, ICalendarValue::Duration(_)) => {}
            (Dtstart | Dtend | Exdate | Rdate | RecurrenceId, ICalendarValue::PartialDateTime(time)) => {
                move_to(time, &own, zone)?;
            }
            (name, _) => return Err(refuse(format!("{} of an event is not understood", name.as_str()))),
        }
    }
    Ok(())
}

/// Refuses rules that no holiday has, and lets the others end.
fn bound(rule: &mut ICalendarRecurrenceRule, zone: &TimeZone) -> Result<(), DaemonError> {
    use ICalendarFrequency::{Daily, Monthly, Weekly, Yearly};
    let by_clock = !(rule.byhour.is_empty() && rule.byminute.is_empty() && rule.bysecond.is_empty());
    if by_clock || !matches!(rule.freq, Daily | Weekly | Monthly | Yearly) {
        return Err(refuse("an event comes back several times a day"));
    }
    if !matches!(rule.rscale, None | Some(CalendarScale::Gregorian)) {
        return Err(refuse("an event recurs by another calendar than the Gregorian"));
    }
    if let Some(until) = &mut rule.until {
        if until.tz_hour.is_some() {
            move_to(until, &TimeZone::UTC, zone)?;
        }
        if until.hour.is_none() {
            (until.hour, until.minute, until.second) = (Some(23), Some(59), Some(59));
        }
    }
    if rule.until.as_ref().and_then(|until| until.year).is_none_or(|year| year >= END_YEAR) {
        rule.until = Some(PartialDateTime {
            year: Some(END_YEAR - 1),
            month: Some(12),
            day: Some(31),
            hour: Some(23),
            minute: Some(59),
            second: Some(59),
            ..PartialDateTime::default()
        });
    }
    Ok(())
}

/// Rewrites a time that is meant in `from` as the clock in `to` shows it.
fn move_to(time: &mut PartialDateTime, from: &TimeZone, to: &TimeZone) -> Result<(), DaemonError> {
    let moment = time.to_date_time().and_then(|time| shown(time.date_time.and_utc().timestamp()));
    let moved = moment.and_then(|moment| {
        // A date has no zone: it means that day wherever the event takes place.
        let stays = from == to || time.hour.is_none();
        Some(if stays { moment } else { to.to_datetime(from.to_timestamp(moment).ok()?) })
    });
    let Some(moved) = moved else { return Err(refuse("a time of an event does not exist")) };
    let whole_day = time.hour.is_none();
    *time = PartialDateTime::from_naive_timestamp(shown_seconds(moved));
    if whole_day {
        (time.hour, time.minute, time.second) = (None, None, None);
    }
    Ok(())
}

/// Returns the clock's reading that is `seconds` after 1970 began on that clock.
fn shown(seconds: i64) -> Option<DateTime> {
    Timestamp::from_second(seconds).ok().map(|moment| TimeZone::UTC.to_datetime(moment))
}

/// The reverse of [`shown`].
fn shown_seconds(reading: DateTime) -> i64 {
    reading.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs()
}

/// Puts times in order and cuts off what overlaps an earlier one.
fn apart(mut days: Vec<Holiday>) -> Vec<Holiday> {
    days.sort_by_key(|day| (day.begin, day.end));
    let mut result: Vec<Holiday> = Vec::with_capacity(days.len());
    for mut day in days {
        if let Some(before) = result.last() {
            day.begin = day.begin.max(before.end);
        }
        if day.begin < day.end {
            result.push(day);
        }
    }
    result
}
