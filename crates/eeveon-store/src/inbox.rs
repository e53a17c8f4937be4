//! What comes in and is kept: deliveries of webhooks, and the small states that change with them. How
//! much may be kept is decided here, once, for every store.

use eeveon_core::{ProjectName, untrusted::printable};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// How many deliveries of one project are kept; the oldest go first.
pub const DELIVERIES_KEPT: usize = 1_000;

/// How many bytes the texts of one delivery may have together: 1 MiB.
pub const DELIVERY_BYTES: usize = 1 << 20;

/// How many bytes the key of a state may have.
pub const STATE_KEY_BYTES: usize = 128;

/// How many bytes the value of a state may have: 16 MiB.
pub const STATE_BYTES: usize = 16 << 20;

/// A delivery of a webhook, and what was decided about it. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// What it was delivered for.
    pub project: ProjectName,
    /// Who sent it, such as `github`.
    pub provider: String,
    /// Tells it from the provider's other deliveries for the project.
    pub id: String,
    /// When it came.
    pub received_at: Timestamp,
    /// Whether something came of it.
    pub accepted: bool,
    /// What was decided, and why, for people.
    pub why: String,
    /// The request it made, as JSON of its receiver's making. Holds no secret.
    pub ask: Option<String>,
    /// The number, in its receiver's counting, of the request that does what it asks for.
    #[serde(default)]
    pub request: Option<u64>,
}

impl Delivery {
    /// Tells whether it is more than a repetition of one with its id: something comes of it now, and
    /// nothing did before.
    pub(crate) fn replaces(&self, before: &Self) -> bool {
        self.accepted && !before.accepted
    }
}

/// Refuses a delivery that is larger than what is kept.
pub(crate) fn check_delivery(delivery: &Delivery) -> Result<(), StoreError> {
    let Delivery { provider, id, why, ask, .. } = delivery;
    let texts = [provider, id, why].into_iter().chain(ask);
    let bytes = texts.fold(0_usize, |sum, text| sum.saturating_add(text.len()));
    check("a delivery", bytes, DELIVERY_BYTES)
}

/// Refuses states that are larger than what is kept.
pub(crate) fn check_states(states: &[(String, Option<String>)]) -> Result<(), StoreError> {
    for (key, value) in states {
        check("the key of a state", key.len(), STATE_KEY_BYTES)?;
        let bytes = value.as_ref().map_or(0, String::len);
        check(&format!("the state `{}`", printable(key)), bytes, STATE_BYTES)?;
    }
    Ok(())
}

fn check(what: &str, bytes: usize, most: usize) -> Result<(), StoreError> {
    match bytes > most {
        true => Err(StoreError::TooLarge { what: what.to_owned(), bytes, most }),
        false => Ok(()),
    }
}
