//! What to go back to, what to keep, and which commits may go live.
//!
//! Everything here is decided from facts that are passed in; nothing is read or changed. [`order`]
//! compares two commits, [`quarantine`] knows which are put aside, [`gates`] makes both into steps
//! of a plan, [`target`] chooses what to go back to, [`retention`] what need not be kept.

mod error;
pub mod gates;
pub mod order;
pub mod quarantine;
pub mod retention;
pub mod target;

pub use error::{Listed, RollbackError, Unfit};
pub use gates::{GateState, OrderFacts, OrderGate, QuarantineFacts, QuarantineGate};
pub use order::{Parents, Verdict, relate};
pub use quarantine::PutAside;
pub use retention::{Kept, Policy, Roles, Standing, outworn};
pub use target::{Candidates, KnownRelease, choose, crossed, predecessor};
