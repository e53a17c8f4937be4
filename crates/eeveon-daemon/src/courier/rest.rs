//! How long a channel is left alone after it failed. The wait belongs to the channel and not to the
//! message that failed: whatever else waits for it waits as well, also in other processes. Only a secret
//! that one process lacks is the business of no other.

use std::{collections::BTreeMap, sync::PoisonError};

use eeveon_core::{Durability, ProjectName};
use eeveon_notify::Patience;
use eeveon_store::StoreError;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Courier;

/// The version of [`Rest`]'s form.
const FORMAT: u32 = 1;

/// How long a process that lacks a secret does not look for it again.
const LACKS: SignedDuration = SignedDuration::from_mins(1);

/// A channel is left alone. Its JSON form is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Rest {
    format: u32,
    pub(super) until: Timestamp,
    /// Whether the service asked for it, so that nobody may end it.
    asked: bool,
}

impl Rest {
    pub(super) fn new(until: Timestamp, asked: bool) -> Self {
        Self { format: FORMAT, until, asked }
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|it: &Self| it.format == FORMAT)
    }

    /// Tells whether it is not over yet. One that is longer than any can be was written by a clock
    /// that has been put right since.
    pub(super) fn lasts(&self, now: Timestamp, patience: &Patience) -> bool {
        let longest = now.saturating_add(patience.longest).unwrap_or(Timestamp::MAX);
        now < self.until && self.until <= longest
    }
}

fn key(project: &ProjectName, channel: &str) -> String {
    format!("notify/rest/{project}/{channel}")
}

impl Courier {
    /// Lets a channel be tried at once that is left alone because it failed. One that asked to be left
    /// alone is not asked before its time. Returns until when that is.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn wake(&self, project: &ProjectName, channel: &str) -> Result<Option<Timestamp>, StoreError> {
        let rest = self.rest(project, channel).await?;
        match rest.filter(|it| it.lasts(self.clock.now(), &self.patience)) {
            Some(rest) if rest.asked => Ok(Some(rest.until)),
            Some(_) => self.set_rest(project, channel, None).await.map(|()| None),
            None => Ok(None),
        }
    }

    /// Returns how long a channel is left alone. What cannot be read keeps nobody.
    pub(super) async fn rest(
        &self,
        project: &ProjectName,
        channel: &str,
    ) -> Result<Option<Rest>, StoreError> {
        let saved = self.store.state(&key(project, channel)).await?;
        Ok(saved.as_deref().and_then(Rest::read))
    }

    pub(super) async fn set_rest(
        &self,
        project: &ProjectName,
        channel: &str,
        rest: Option<Rest>,
    ) -> Result<(), StoreError> {
        let value = rest.and_then(|rest| serde_json::to_string(&rest).ok());
        self.store.save_states(&[(key(project, channel), value)], Durability::Process).await
    }
}

/// What this process lacks the secret of, and until when it does not look for it again.
pub(super) type Lacking = BTreeMap<(ProjectName, String), Timestamp>;

impl Courier {
    /// Takes note that this process lacks the secret of a channel.
    pub(super) fn lacks_secret(&self, project: &ProjectName, channel: &str) {
        let until = self.clock.now().saturating_add(LACKS).unwrap_or(Timestamp::MAX);
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.insert((project.clone(), channel.to_owned()), until);
    }

    /// Tells whether this process lacked the secret of a channel a moment ago.
    pub(super) fn lacks_still(&self, channel: &(ProjectName, String)) -> bool {
        let now = self.clock.now();
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is longer than any can be was written by a clock that has been put right since.
        lacking.retain(|_, until| now < *until && until.duration_since(now) <= LACKS);
        lacking.contains_key(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = include_str!("../../tests/golden/rest-1.json");

    #[test]
    fn format_1_is_written_as_it_was() {
        let rest = Rest::new("2026-03-04T05:06:07Z".parse().unwrap(), true);
        assert_eq!(Rest::read(V1.trim()), Some(rest));
        assert_eq!(serde_json::to_string(&rest).unwrap(), V1.trim());
        assert_eq!(Rest::read(&V1.replace("\"format\":1", "\"format\":2")), None);
        assert_eq!(Rest::read("damaged"), None);
    }

    #[test]
    fn it_lasts_to_its_moment_and_no_longer_than_any_can() {
        let patience = Patience::default();
        let now: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let rest = |seconds: i64| Rest::new(now + jiff::SignedDuration::from_secs(seconds), false);
        assert!(rest(1).lasts(now, &patience) && rest(3600).lasts(now, &patience));
        assert!(!rest(0).lasts(now, &patience) && !rest(3601).lasts(now, &patience));
    }
}
