//! The contract of every `Store`: what no implementation may do otherwise.
//!
//! An implementation's own test makes a [`Subject`] and calls [`run_all`]. Every property is also a
//! function of its own, to be run alone while looking for a fault.
#![expect(clippy::unwrap_used, reason = "a contract is broken by panicking")]

mod failing;
mod followers;
mod inbox;
mod journals;
mod leases;
mod letters;
mod lists;
mod words;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{DeploymentId, Entry, ProjectName, Seq};
use eeveon_store::{
    AutomaticOff, CancelRequest, Delivery, Deployment, DeploymentFilter, KnownRelease, Letter, LetterFilter,
    Position, Quarantined, Store, StoreError, Tick, Ticks,
};

pub use self::{failing::*, followers::*, inbox::*, journals::*, leases::*, letters::*, lists::*, words::*};

/// A store under test, empty at first.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Returns the store.
    fn store(&self) -> Arc<dyn Store>;
    /// Returns the clock its leases are measured by.
    fn ticks(&self) -> &ManualTicks;
    /// Opens the same data once more, as another process would; absent for a store that keeps
    /// nothing outside itself.
    async fn reopen(&self) -> Option<Arc<dyn Store>>;
    /// Replaces an entry by one that only a later version understands. Returns false where that is
    /// not possible.
    async fn write_future_entry(&self, deployment: DeploymentId, at: Seq) -> bool;
}

/// Runs every property, each on a fresh subject.
pub async fn run_all<S: Subject>(make: impl AsyncFn() -> S) {
    numbers_are_never_given_twice(&make().await).await;
    entries_go_to_the_next_position_only(&make().await).await;
    of_many_who_append_one_wins(&make().await).await;
    a_journal_opens_once_and_ends_once(&make().await).await;
    what_was_appended_is_read_back(&make().await).await;
    only_the_newest_lease_may_append(&make().await).await;
    a_refused_append_changes_nothing(&make().await).await;
    a_lease_excludes_everybody_else(&make().await).await;
    a_lease_ends_with_its_time(&make().await).await;
    a_lease_can_be_prolonged_until_it_is_taken(&make().await).await;
    a_lease_ends_with_its_holder(&make().await).await;
    a_fence_is_higher_than_any_seen(&make().await).await;
    a_lease_ends_with_the_machine(&make().await).await;
    of_many_who_ask_for_a_lease_one_gets_it(&make().await).await;
    deployments_are_summed_up(&make().await).await;
    deployments_are_listed_newest_first(&make().await).await;
    a_release_that_succeeded_stays_so(&make().await).await;
    pins_outlive_deployments(&make().await).await;
    outcomes_fill_and_empty_the_quarantine(&make().await).await;
    a_commit_is_put_aside_once(&make().await).await;
    the_first_request_to_stop_counts(&make().await).await;
    an_entry_of_a_later_version_is_not_skipped(&make().await).await;
    entries_are_followed_in_the_order_they_were_recorded(&make().await).await;
    of_many_who_append_every_entry_is_followed_once(&make().await).await;
    a_follower_goes_on_behind_what_it_cannot_read(&make().await).await;
    letters_and_cursor_move_together(&make().await).await;
    several_followers_of_one_name_post_each_entry_once(&make().await).await;
    letters_are_added_beside_the_journal(&make().await).await;
    letters_are_listed_oldest_first(&make().await).await;
    of_many_who_send_a_letter_one_gets_it(&make().await).await;
    a_letter_ends_as_it_was_settled(&make().await).await;
    a_dead_letter_can_be_revived_or_forgotten(&make().await).await;
    too_many_letters_crowd_out_the_oldest(&make().await).await;
    dead_letters_are_purged_and_limited(&make().await).await;
    a_letter_is_replaced_as_a_whole(&make().await).await;
    of_many_who_replace_a_letter_one_is_told_so(&make().await).await;
    automatic_deploys_are_off_until_switched_on(&make().await).await;
    states_are_saved_together(&make().await).await;
    a_delivery_is_taken_in_once(&make().await).await;
    of_many_who_take_a_delivery_one_is_told_so(&make().await).await;
    the_newest_deliveries_are_kept(&make().await).await;
    a_forgotten_project_keeps_its_history(&make().await).await;
    everything_is_there_after_reopening(&make().await).await;
    care_changes_nothing(&make().await).await;
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualTicks(Mutex<(u64, u64)>);

impl ManualTicks {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 += by;
    }

    /// Restarts the machine: another boot, counting from zero.
    pub fn reboot(&self) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = (now.0 + 1, 0);
    }
}

impl Ticks for ManualTicks {
    fn now(&self) -> Tick {
        let (boot, ms) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Tick { boot: format!("boot-{boot}"), ms }
    }
}

/// Everything a store shows about its projects, to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// Every deployment, with its journal and the request to stop it.
    pub deployments: Vec<(Deployment, Vec<Entry>, Option<CancelRequest>)>,
    /// The releases of each project.
    pub releases: Vec<Vec<KnownRelease>>,
    /// The quarantine of each project.
    pub quarantined: Vec<Vec<Quarantined>>,
    /// Who switched the automatic deploys of each project off.
    pub automatic: Vec<Option<AutomaticOff>>,
    /// Every entry, as a follower sees it.
    pub followed: Vec<(Position, Entry)>,
    /// How far [`FOLLOWER`] has come.
    pub cursor: Option<Position>,
    /// Its letters.
    pub letters: Vec<Letter>,
    /// The deliveries for each project.
    pub deliveries: Vec<Vec<Delivery>>,
    /// What is saved under [`STATES`].
    pub states: Vec<Option<String>>,
}

/// The follower whose letters are part of [`Contents`].
pub const FOLLOWER: &str = "notify";

/// The keys whose states are part of [`Contents`].
pub const STATES: [&str; 3] = ["poll/shop", "schedule", "none"];

/// Reads everything a store shows about `projects`.
///
/// # Errors
///
/// Whatever cannot be read.
pub async fn contents(store: &dyn Store, projects: &[ProjectName]) -> Result<Contents, StoreError> {
    let mine = LetterFilter { follower: FOLLOWER.to_owned(), ..LetterFilter::default() };
    let mut contents = Contents {
        deployments: Vec::new(),
        releases: Vec::new(),
        quarantined: Vec::new(),
        automatic: Vec::new(),
        followed: followed(store, Position(0), u32::MAX).await?,
        cursor: store.cursor(FOLLOWER).await?,
        letters: store.letters(&mine).await?,
        deliveries: Vec::new(),
        states: Vec::new(),
    };
    for deployment in store.deployments(&DeploymentFilter::default()).await? {
        let journal = store.read(deployment.id, Seq(0)).await?;
        let cancel = store.cancel_requested(deployment.id).await?;
        contents.deployments.push((deployment, journal, cancel));
    }
    for project in projects {
        contents.releases.push(store.releases(project).await?);
        contents.quarantined.push(store.quarantined(project).await?);
        contents.automatic.push(store.automatic(project).await?);
        contents.deliveries.push(store.deliveries(project, u32::MAX).await?);
    }
    for key in STATES {
        contents.states.push(store.state(key).await?);
    }
    Ok(contents)
}
