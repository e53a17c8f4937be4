//! Cron expressions in a time zone: when the time has come, and what to do about times that were missed.

use std::{fmt, str::FromStr};

use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Year},
};
use jiff::{SignedDuration, Timestamp, civil::DateTime};
use serde::{Deserialize, Serialize};

use crate::{
    error::{DaemonError, shortened},
    zone::Zone,
};

/// Bytes a cron expression may have. A list of every minute fits.
const LONGEST: usize = 256;

/// How late a run may start and still count as being on time: whoever asks may be busy for a moment.
const ON_TIME: SignedDuration = SignedDuration::from_secs(60);

/// A last run that lies further ahead than this was noted by a clock that was wrong.
const MOST_AHEAD: SignedDuration = SignedDuration::from_hours(48);

/// Before every time that is asked about; used to find out whether an expression ever comes true.
const LONG_AGO: DateTime = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);

/// Where a zone left out a whole day, as islands that crossed the date line did, the search is taken up
/// again after so many of these steps at most.
const STEP: SignedDuration = SignedDuration::from_hours(6);
const MOST_STEPS: i32 = 8;

/// What to do about times that passed while nobody looked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// Run once, however many were missed.
    #[default]
    Once,
    /// Wait for the next.
    Skip,
}

/// A schedule as it is written in a project file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The cron expression.
    pub cron: String,
    /// The time zone it is meant in.
    #[serde(default)]
    pub tz: Zone,
    /// What to do about missed times.
    #[serde(default)]
    pub missed: Missed,
}

/// What follows from looking at a schedule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Due {
    /// The time to run for now.
    pub run: Option<Timestamp>,
    /// What is to be remembered as the last run, whether or not there is one now.
    pub handled: Timestamp,
    /// When to look again; none when the schedule never comes true any more.
    pub next: Option<Timestamp>,
}

/// A cron expression in a time zone.
///
/// The dialect is OCPS 1.4 without years: five fields, or six with seconds first, or a nickname such as
/// `@daily`. Day of month and day of week are alternatives when both are given, unless the latter begins
/// with `+`. Source: <https://github.com/open-source-cron/ocps>.
///
/// Where the clock is put forward, a fixed time that does not exist runs at the first moment after the
/// gap; where it is put back, a fixed time runs in the first of the two hours only. Expressions with `*`
/// in minutes or hours mean an interval, and follow the time that really passes. A day that a zone left out
/// altogether has no times.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    cron: Cron,
    zone: Zone,
}

impl Schedule {
    /// Reads `expression`, meant in the time zone called `tz`.
    ///
    /// # Errors
    ///
    /// `daemon/schedule` when the expression is not valid or never comes true, `daemon/time-zone` when
    /// there is no such zone.
    pub fn parse(expression: &str, tz: &str) -> Result<Self, DaemonError> {
        Self::in_zone(expression, Zone::new(tz)?)
    }

    /// Reads `expression`, meant in `zone`.
    ///
    /// # Errors
    ///
    /// `daemon/schedule` when the expression is not valid or never comes true.
    pub fn in_zone(expression: &str, zone: Zone) -> Result<Self, DaemonError> {
        let refuse = |why: String| DaemonError::Schedule { expression: shortened(expression), why };
        if expression.len() > LONGEST {
            return Err(refuse(format!("it has more than {LONGEST} bytes")));
        }
        if let Some(strange) = expression.chars().find(|c| !matches!(c, ' '..='~' | '\t')) {
            return Err(refuse(format!("`{}` has no meaning in it", strange.escape_default())));
        }
        if let Some(step) = too_long_a_step(expression) {
            return Err(refuse(format!("a step of {step} is longer than what it steps through")));
        }
        let midnight = expression.trim().eq_ignore_ascii_case("@midnight");
        let pattern = if midnight { "@daily" } else { expression };
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| refuse(reason(&error)))?;
        cron.find_next_occurrence(&LONG_AGO, false).map_err(|error| refuse(reason(&error)))?;
        Ok(Self { text: expression.trim().to_owned(), cron, zone })
    }

    /// Returns the first time later than `after`; none when there is none before the year 5000.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        (0..=MOST_STEPS).find_map(|steps| {
            let start = after.checked_add(STEP * steps).ok()?.to_zoned(self.zone.rules().clone());
            let next = self.cron.find_next_occurrence(&start, false).ok()?.timestamp();
            (next > after).then_some(next)
        })
    }

    /// Says whether to run now, given that everything up to `last_run` has been dealt with. For a new
    /// schedule that is the moment it was made.
    ///
    /// No time is run for twice, also when the clock is put back. A last run that lies more than two days
    /// ahead of `now` was noted by a clock that was wrong, and counting begins anew.
    pub fn due(&self, last_run: Timestamp, now: Timestamp, missed: Missed) -> Due {
        if last_run.duration_since(now) > MOST_AHEAD {
            return Due { run: None, handled: now, next: self.next_after(now) };
        }
        let first = self.next_after(last_run);
        let Some(first) = first.filter(|first| *first <= now) else {
            return Due { run: None, handled: last_run, next: first };
        };
        let newest = self.newest(first, now);
        let run = match missed {
            Missed::Once => Some(newest),
            Missed::Skip => (now.duration_since(newest) <= ON_TIME).then_some(newest),
        };
        Due { run, handled: newest, next: self.next_after(newest) }
    }

    /// Returns the last time from `first` on that is not after `now`, by halving: after ten years off
    /// there may be millions of times in between.
    fn newest(&self, first: Timestamp, now: Timestamp) -> Timestamp {
        let (mut newest, mut low, mut high) = (first, first.as_second(), now.as_second());
        while low < high {
            let middle = low.midpoint(high);
            let next = Timestamp::from_second(middle).ok().and_then(|middle| self.next_after(middle));
            match next.filter(|next| *next <= now) {
                Some(next) => (newest, low) = (next, next.as_second()),
                None => high = middle,
            }
        }
        newest
    }

    /// Returns the time zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.zone)
    }
}

impl FromStr for Schedule {
    type Err = DaemonError;
    fn from_str(expression: &str) -> Result<Self, DaemonError> {
        Self::in_zone(expression, Zone::utc())
    }
}

impl TryFrom<&ScheduleConfig> for Schedule {
    type Error = DaemonError;
    fn try_from(config: &ScheduleConfig) -> Result<Self, DaemonError> {
        Self::in_zone(&config.cron, config.tz.clone())
    }
}

/// Finds a step such as `*/90` minutes, which would come true once an hour and not every hour and a half.
fn too_long_a_step(expression: &str) -> Option<&str> {
    // Second, minute, hour, day, month, day of the week: from the end, as the first may be left out.
    let longest = [7_u32, 12, 31, 23, 59, 59];
    let fields = expression.split_whitespace().rev().zip(longest);
    let steps = fields.flat_map(|(field, longest)| field.split(',').map(move |part| (part, longest)));
    steps
        .filter_map(|(part, longest)| Some((part.split_once('/')?.1, longest)))
        .find_map(|(step, longest)| step.parse::<u32>().is_ok_and(|length| length > longest).then_some(step))
}

/// Words a parser's complaint the way ours are worded.
fn reason(error: &CronError) -> String {
    let text = match error {
        CronError::EmptyPattern => "it is empty",
        CronError::InvalidPattern(text) | CronError::ComponentError(text) => text,
        CronError::IllegalCharacters(_) => "it has characters that mean nothing there",
        CronError::InvalidDate | CronError::InvalidTime | CronError::TimeSearchLimitExceeded => {
            "no such time ever comes"
        }
    };
    let mut text: String = text.trim_end_matches('.').chars().take(200).collect();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}
