//! Time zones by name, also on machines that have no time zone database.

use std::fmt;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::error::{DaemonError, shortened};

/// Longer than any name in the IANA database.
const LONGEST_NAME: usize = 64;

/// A time zone that exists.
///
/// The machine's database is asked first, because it follows changes of law without a new EEveon; the
/// one in the binary is for machines without. Names: <https://www.iana.org/time-zones>.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// Finds the zone called `name`, such as `Europe/Berlin`.
    ///
    /// # Errors
    ///
    /// `daemon/time-zone` when neither database knows it.
    pub fn new(name: &str) -> Result<Self, DaemonError> {
        let legible = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
        let found = (name.len() <= LONGEST_NAME && name.bytes().all(legible))
            .then(|| TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name)).ok())
            .flatten()
            .filter(|zone| !zone.is_unknown());
        match found {
            Some(zone) => Ok(Self { name: zone.iana_name().unwrap_or(name).to_owned(), zone }),
            None => Err(DaemonError::Zone { name: shortened(name) }),
        }
    }

    /// Returns Coordinated Universal Time.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its rules.
    pub fn rules(&self) -> &TimeZone {
        &self.zone
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::utc()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl TryFrom<String> for Zone {
    type Error = DaemonError;
    fn try_from(name: String) -> Result<Self, DaemonError> {
        Self::new(&name)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_zone_is_refused() {
        let long = "A".repeat(65);
        for name in ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Etc/Unknown", "UTC\n", &long]
        {
            let error = Zone::new(name).unwrap_err();
            assert!(matches!(error, DaemonError::Zone { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn names_are_read_back() {
        let zone = Zone::new("America/St_Johns").unwrap();
        let text = serde_json::to_string(&zone).unwrap();
        assert_eq!(text, "\"America/St_Johns\"");
        assert_eq!(serde_json::from_str::<Zone>(&text).unwrap(), zone);
    }

    #[test]
    fn the_binary_brings_its_own_database() {
        let bundled = TimeZoneDatabase::bundled();
        for name in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"] {
            assert!(bundled.get(name).is_ok(), "{name}");
        }
    }
}
