//! Times of day and days of the week, as people write them in settings.

use std::{fmt, str::FromStr};

use jiff::civil::{Date, DateTime, Weekday};
use serde::{Deserialize, Serialize};

use crate::error::DaemonError;

/// A day of the week.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "days need no explanation")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

/// A time of day to the minute, from `00:00` to `24:00`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClockTime(u16);

impl ClockTime {
    /// The beginning of a day.
    pub const START: Self = Self(0);
    /// The end of a day.
    pub const END: Self = Self(24 * 60);

    /// Returns the time the clock shows, without seconds.
    pub fn of(moment: DateTime) -> Self {
        Self(u16::from(moment.hour().unsigned_abs()) * 60 + u16::from(moment.minute().unsigned_abs()))
    }

    /// Returns the moment it means on `date`; `24:00` is on the day after.
    pub(crate) fn on(self, date: Date) -> Option<DateTime> {
        let date = if self == Self::END { date.tomorrow().ok()? } else { date };
        let (hour, minute) = (self.0 / 60 % 24, self.0 % 60);
        Some(date.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0))
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl FromStr for ClockTime {
    type Err = DaemonError;

    fn from_str(text: &str) -> Result<Self, DaemonError> {
        let digits = |text: &str| {
            (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u16>().ok())?
        };
        let time = text.split_once(':').and_then(|(hour, minute)| Some((digits(hour)?, digits(minute)?)));
        match time {
            Some((hour @ 0..=23, minute @ 0..=59)) => Ok(Self(hour * 60 + minute)),
            Some((24, 0)) => Ok(Self::END),
            _ => Err(DaemonError::Window {
                why: format!("`{}` is not a time from 00:00 to 24:00", crate::error::shortened(text)),
            }),
        }
    }
}

impl TryFrom<String> for ClockTime {
    type Error = DaemonError;
    fn try_from(text: String) -> Result<Self, DaemonError> {
        text.parse()
    }
}

impl From<ClockTime> for String {
    fn from(time: ClockTime) -> String {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_written() {
        for text in ["00:00", "09:05", "23:59", "24:00"] {
            assert_eq!(text.parse::<ClockTime>().unwrap().to_string(), text);
        }
        for text in ["", "9:00", "24:01", "12:60", "-1:00", "+1:00", "12", "12:0", "12:000", "١٢:٠٠"] {
            assert!(text.parse::<ClockTime>().is_err(), "{text}");
        }
    }
}
