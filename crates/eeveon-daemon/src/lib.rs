//! Decides when to deploy.
//!
//! All but the courier is pure: time comes in as a parameter, what happened comes in as an event, and what
//! is to be done comes out as data. Nothing is fetched, stored, started or slept for.
//!
//! [`Schedule`] says when the time has come, [`Windows`] whether now is a time to deploy at all,
//! [`Graph`] what follows on another project's success, [`Polling`] which repositories to look at, and
//! [`Queue`] which deployment starts next.

pub mod after;
pub mod calendar;
pub mod clock;
pub mod control;
pub mod courier;
pub mod deaths;
pub mod error;
pub mod freezes;
mod handle;
mod lane;
pub mod polling;
pub mod queue;
pub mod random;
pub mod runtime;
pub mod saved;
pub mod schedule;
pub mod window;
pub mod words;
pub mod world;
pub mod zone;

pub use after::{AfterConfig, Cycle, Edge, Follow, Graph, Progress};
pub use calendar::Calendar;
pub use clock::{ClockTime, Day};
pub use courier::{AddressBook, Addressees, Channel, Courier, Doing, Round, Trouble, Waiting, WaitsFor};
pub use error::DaemonError;
pub use freezes::{Freezes, Frozen};
pub use handle::{Cancel, Cancelled, End, Handle, News, Overview, Taken};
pub use polling::{Looked, Polling, PollingConfig, Tell, Watch};
pub use queue::Queue;
pub use runtime::Daemon;
pub use saved::{Saved, end_of};
pub use schedule::{Due, Missed, Schedule, ScheduleConfig};
pub use window::{Crossing, Freeze, Shut, SpanConfig, State, Why, WindowConfig, Windows};
pub use words::{Answer, Ask, Decision, Event, Fate, Held, Limits, Refusal, RequestId, Seen, Start, Want};
pub use world::{Done, Project, Projects, Sighting, Unusable, World};
pub use zone::Zone;
