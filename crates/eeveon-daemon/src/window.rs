//! When deployments may start: windows that allow, windows and holidays that deny, and a freeze.

use std::{fmt, time::Duration};

use eeveon_core::Untrusted;
use jiff::{SignedDuration, Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    calendar::Calendar,
    clock::{ClockTime, Day},
    error::DaemonError,
    zone::Zone,
};

/// How far ahead the next change is looked for. A year and a month, so that yearly ranges are found.
const HORIZON: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Windows of each kind a project may have.
const MOST_SPANS: usize = 50;

/// The windows as they are written in a project file.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// The time zone all times are meant in, unless a window names its own.
    pub tz: Zone,
    /// When deployments may start. Empty: always.
    pub allow: Vec<SpanConfig>,
    /// When no deployment may start. Wins over `allow`.
    pub deny: Vec<SpanConfig>,
    /// What happens at the end of a window.
    pub crossing: Crossing,
}

/// A window as it is written in a project file: these days, from this time to that, within these dates.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpanConfig {
    /// The days it begins on. Empty: every day.
    pub days: Vec<Day>,
    /// When it begins.
    pub from: ClockTime,
    /// When it ends; not included. Earlier than `from`: on the next day.
    pub to: ClockTime,
    /// The first date it begins on.
    pub first: Option<Date>,
    /// The last date it begins on.
    pub last: Option<Date>,
    /// A time zone of its own.
    pub tz: Option<Zone>,
    /// Shown to who has to wait.
    pub reason: Option<String>,
}

impl Default for SpanConfig {
    fn default() -> Self {
        Self {
            days: Vec::new(),
            from: ClockTime::START,
            to: ClockTime::END,
            first: None,
            last: None,
            tz: None,
            reason: None,
        }
    }
}

/// Whether a deployment that runs may go on when its window ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crossing {
    /// It may: only the start counts.
    #[default]
    Allow,
    /// It starts only when it is expected to end in time.
    FinishBefore,
}

/// Nothing may be deployed, because somebody said so.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Why.
    pub reason: Untrusted,
    /// When it ends by itself; none when it has to be lifted.
    pub until: Option<Timestamp>,
}

/// Whether a deployment may start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It may.
    Open,
    /// It may not.
    Shut(Shut),
}

impl State {
    /// Returns an error when shut.
    ///
    /// # Errors
    ///
    /// `daemon/window-shut`.
    pub fn admit(self) -> Result<(), DaemonError> {
        match self {
            Self::Open => Ok(()),
            Self::Shut(shut) => Err(DaemonError::Shut(shut)),
        }
    }
}

/// Why no deployment may start, and until when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shut {
    /// Why.
    pub why: Why,
    /// When one may; none when that is not known, or more than a year away.
    pub until: Option<Timestamp>,
}

/// What stands in the way of a deployment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// A freeze, with its reason.
    Frozen(Untrusted),
    /// A window that denies, with its reason.
    Denied(Option<Untrusted>),
    /// A holiday, with its name.
    Holiday(Untrusted),
    /// No window that allows is open.
    Outside,
    /// The window ends before the deployment is expected to.
    TooShort {
        /// When it ends.
        ends: Timestamp,
    },
}

impl std::error::Error for Shut {}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Frozen(reason) => write!(f, "frozen: {}", reason.for_terminal())?,
            Why::Denied(Some(reason)) => write!(f, "denied: {}", reason.for_terminal())?,
            Why::Denied(None) => f.write_str("a window denies it")?,
            Why::Holiday(name) => write!(f, "holiday: {}", name.for_terminal())?,
            Why::Outside => f.write_str("outside all windows that allow it")?,
            Why::TooShort { ends } => write!(f, "it would not be finished when the window ends at {ends}")?,
        }
        match self.until {
            Some(until) => write!(f, ", until {until}"),
            None => Ok(()),
        }
    }
}

/// A window, ready to be asked.
#[derive(Clone, Debug)]
struct Span {
    config: SpanConfig,
    zone: Zone,
}

impl Span {
    fn new(config: &SpanConfig, default: &Zone) -> Result<Self, DaemonError> {
        let refuse = |why: String| Err(DaemonError::Window { why });
        if config.from == config.to || config.from == ClockTime::END {
            return refuse(format!("from {} to {} is no time at all", config.from, config.to));
        }
        if let (Some(first), Some(last)) = (config.first, config.last)
            && first > last
        {
            return refuse(format!("its first date {first} is after its last {last}"));
        }
        let zone = config.tz.clone().unwrap_or_else(|| default.clone());
        Ok(Self { config: config.clone(), zone })
    }

    /// Tells whether the window begins on `date`.
    fn begins_on(&self, date: Date) -> bool {
        let config = &self.config;
        (config.days.is_empty() || config.days.contains(&Day::from(date.weekday())))
            && config.first.is_none_or(|first| first <= date)
            && config.last.is_none_or(|last| date <= last)
    }

    /// Tells whether the clock on the wall shows a time within the window.
    fn holds(&self, moment: Timestamp) -> bool {
        let shown = self.zone.rules().to_datetime(moment);
        let (date, time) = (shown.date(), ClockTime::of(shown));
        let (from, to) = (self.config.from, self.config.to);
        if from < to {
            return from <= time && time < to && self.begins_on(date);
        }
        (from <= time && self.begins_on(date))
            || (time < to && date.yesterday().is_ok_and(|date| self.begins_on(date)))
    }

    /// Returns the first moment after `moment` where [`Self::holds`] may change.
    fn edge(&self, moment: Timestamp) -> Option<Timestamp> {
        let rules = self.zone.rules();
        let today = rules.to_datetime(moment).date();
        let days = std::iter::successors(today.yesterday().ok(), |day| day.tomorrow().ok()).take(4);
        let times = days.flat_map(|day| [self.config.from.on(day), self.config.to.on(day)]).flatten();
        // A time the clock shows twice, or never, is an edge on both sides of that hour.
        let moments = times.flat_map(|time| {
            let either = rules.to_ambiguous_timestamp(time);
            [either.earlier().ok(), either.later().ok()].into_iter().flatten()
        });
        let clock_changes = rules.following(moment).next().map(|change| change.timestamp());
        moments.chain(clock_changes).filter(|edge| *edge > moment).min()
    }
}

/// All that decides whether a deployment may start.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    allow: Vec<Span>,
    deny: Vec<Span>,
    holidays: Calendar,
    freeze: Option<Freeze>,
    crossing: Crossing,
}

impl Windows {
    /// Makes windows from settings.
    ///
    /// # Errors
    ///
    /// `daemon/window` when one of them can never hold, or there are too many.
    pub fn new(config: &WindowConfig) -> Result<Self, DaemonError> {
        let spans = |configs: &[SpanConfig]| {
            if configs.len() > MOST_SPANS {
                return Err(DaemonError::Window {
                    why: format!("there are more than {MOST_SPANS} of a kind"),
                });
            }
            configs.iter().map(|span| Span::new(span, &config.tz)).collect::<Result<Vec<_>, _>>()
        };
        let (allow, deny) = (spans(&config.allow)?, spans(&config.deny)?);
        Ok(Self { allow, deny, crossing: config.crossing, ..Self::default() })
    }

    /// Adds holidays, on which nothing may start.
    pub fn set_holidays(&mut self, holidays: Calendar) {
        self.holidays = holidays;
    }

    /// Freezes, or lifts the freeze.
    pub fn set_freeze(&mut self, freeze: Option<Freeze>) {
        self.freeze = freeze;
    }

    /// Says whether `now` is a time at which deployments may start.
    pub fn state(&self, now: Timestamp) -> State {
        match self.against(now) {
            None => State::Open,
            Some(why) => State::Shut(Shut { why, until: self.change(now, now) }),
        }
    }

    /// Returns when [`Self::state`] has something else to say; none when that is more than a year away.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.change(now, now)
    }

    /// Says whether a deployment that is expected to take `expected` may start, honouring what is said
    /// about crossing the end of a window.
    pub fn may_start(&self, now: Timestamp, expected: Duration) -> State {
        let state = self.state(now);
        // When the window that is open at `start` ends too early: its end.
        let too_early = |start: Timestamp| {
            let end = start.checked_add(expected).ok();
            self.change(start, now).filter(|ends| end.is_none_or(|end| *ends < end))
        };
        if self.crossing == Crossing::Allow {
            return state;
        }
        let mut start = match &state {
            State::Open => now,
            State::Shut(Shut { until: Some(until), .. }) => *until,
            State::Shut(_) => return state,
        };
        let Some(first_end) = too_early(start) else { return state };
        // The next window that is long enough, if there is one.
        let mut ends = Some(first_end);
        while let Some(end) = ends {
            let Some(next) = self.change(end, now) else {
                return too_short(state, first_end, None);
            };
            // Beyond the horizon nothing is known about the end of a window.
            let horizon = now.checked_add(HORIZON).ok();
            if next.checked_add(expected).ok().is_none_or(|end| horizon.is_none_or(|horizon| end > horizon)) {
                return too_short(state, first_end, None);
            }
            (start, ends) = (next, too_early(next));
        }
        too_short(state, first_end, Some(start))
    }

    /// Returns what stands in the way at `moment`.
    fn against(&self, moment: Timestamp) -> Option<Why> {
        let frozen = self.freeze.as_ref().filter(|freeze| freeze.until.is_none_or(|until| moment < until));
        if let Some(freeze) = frozen {
            return Some(Why::Frozen(freeze.reason.clone()));
        }
        if let Some(span) = self.deny.iter().find(|span| span.holds(moment)) {
            return Some(Why::Denied(span.config.reason.as_deref().map(Untrusted::from)));
        }
        if let Some(name) = self.holidays.covering(moment) {
            return Some(Why::Holiday(name.clone()));
        }
        let inside = self.allow.is_empty() || self.allow.iter().any(|span| span.holds(moment));
        (!inside).then_some(Why::Outside)
    }

    /// Returns the first moment after `moment` at which it turns from open to shut, or back. Looks no
    /// further than [`HORIZON`] from `now`.
    fn change(&self, moment: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let last = now.checked_add(HORIZON).ok()?;
        let shut = self.against(moment).is_some();
        let thaw = self.freeze.as_ref().and_then(|freeze| freeze.until);
        let next = |moment: Timestamp| {
            let spans = self.allow.iter().chain(&self.deny).filter_map(|span| span.edge(moment));
            let thaw = thaw.filter(|thaw| *thaw > moment);
            spans.chain(self.holidays.edge(moment)).chain(thaw).min()
        };
        let edges = std::iter::successors(next(moment), |edge| next(*edge)).take_while(|edge| *edge <= last);
        edges.into_iter().find(|edge| self.against(*edge).is_some() != shut)
    }
}

/// Says that the window ends too early, unless there is a better reason, and when a longer one begins.
fn too_short(state: State, ends: Timestamp, until: Option<Timestamp>) -> State {
    match state {
        State::Open => State::Shut(Shut { why: Why::TooShort { ends }, until }),
        State::Shut(shut) => State::Shut(Shut { until, ..shut }),
    }
}
