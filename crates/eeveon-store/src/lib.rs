//! What EEveon remembers: journals, releases, leases, quarantine, requests to stop, and what those
//! who follow the journals have still to tell, deliveries of webhooks, small states.
//!
//! [`Store`] is the trait; [`SqliteStore`] is the default; [`MemoryStore`] serves embedders and
//! tests. The trait asks for nothing only SQLite has: compare-and-set appends, leases with fencing
//! numbers, counters. `eeveon_testkit::store` is the contract every implementation passes.

mod error;
mod inbox;
mod journal;
mod lease;
mod letter;
mod memory;
mod owner;
mod project;
mod sqlite;
mod ticks;
mod types;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use eeveon_core::{Actor, CommitId, DeploymentId, Durability, Entry, Fence, ProjectName, ReleaseNumber, Seq};
use jiff::Timestamp;

pub use error::StoreError;
pub use inbox::{DELIVERIES_KEPT, DELIVERY_BYTES, Delivery, STATE_BYTES, STATE_KEY_BYTES};
pub use journal::FencedJournal;
pub use lease::take_over;
pub use letter::{DEAD_LETTERS_KEPT, LETTERS_KEPT, Letter, LetterEnd, LetterFilter, LetterState, NewLetter};
pub use memory::MemoryStore;
pub use owner::{Liveness, Owner};
pub use sqlite::{SCHEMA_VERSION, SqliteStore};
pub use ticks::{SystemTicks, Tick, Ticks};
pub use types::{
    Acquired, AutomaticOff, CancelRequest, Checked, Deployment, DeploymentFilter, Holder, KnownRelease,
    Lease, Position, Quarantined, ReleaseStatus,
};

/// An entry and its place among those of all deployments, or why it cannot be read.
pub type Followed = (Position, Result<Entry, StoreError>);

/// What EEveon remembers. Every method is one transaction: it happens entirely or not at all, also
/// when the process dies in it.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Returns an id for a new deployment, greater than every one returned before.
    async fn reserve_deployment(&self) -> Result<DeploymentId, StoreError>;

    /// Returns a number for a new release of `project`, greater than every one returned before for
    /// it and than `above`.
    async fn reserve_release(
        &self,
        project: &ProjectName,
        above: ReleaseNumber,
    ) -> Result<ReleaseNumber, StoreError>;

    /// Records `entry` at exactly its position, together with what follows from it for
    /// [`Store::deployments`], [`Store::releases`] and [`Store::quarantined`].
    ///
    /// # Errors
    ///
    /// `Conflict` when the position is not the next one of that journal, or when `lease` is given and
    /// is not the newest of its name any more or was given back; `Illegal` when the journal would not
    /// begin with the record that opens it, or go on after its end. Nothing is changed then.
    async fn append(
        &self,
        entry: &Entry,
        durability: Durability,
        lease: Option<&Lease>,
    ) -> Result<(), StoreError>;

    /// Reads the entries of one deployment from `from` on, in order.
    ///
    /// # Errors
    ///
    /// `Unreadable` for an entry this version cannot read; nothing is skipped.
    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, StoreError>;

    /// Reads the entries of all deployments after a position, in the order they were recorded; at
    /// most `limit`.
    ///
    /// An entry that is damaged, or that this version cannot read, is an error in its place. So it is
    /// in nobody's way, and whoever follows says that it was there and goes on behind it. An entry
    /// that was only to outlive its process can still be lost in a power cut, and its position be given
    /// to another: whoever tells others of it makes something durable first, such as by
    /// [`Store::begin_sending`].
    async fn follow(&self, after: Position, limit: u32) -> Result<Vec<Followed>, StoreError>;

    /// Returns the position of the newest entry, zero if there is none. A follower that is not to tell
    /// of what was before it begins here.
    async fn newest_position(&self) -> Result<Position, StoreError>;

    /// Returns how far a follower has come; `None` if it never posted anything.
    async fn cursor(&self, follower: &str) -> Result<Option<Position>, StoreError>;

    /// Takes in a follower's letters, and notes that it is done with everything up to `upto`. Returns
    /// false, and changes nothing, unless that leads it forward.
    ///
    /// Several processes may follow under one name. A letter whose `position` the cursor had passed
    /// before was posted by another of them, and maybe delivered since: it is ignored. So is one that is
    /// there already, with the same project, channel and key. When more than [`LETTERS_KEPT`]
    /// letters of a project are on their way, the oldest that wait become dead ones.
    async fn post(&self, follower: &str, upto: Position, letters: &[NewLetter]) -> Result<bool, StoreError>;

    /// Takes in letters of a follower about what no entry tells: their positions do not matter, and the
    /// cursor stays. They are kept as [`Store::post`] keeps them; not even a power cut undoes that.
    async fn add_letters(&self, follower: &str, letters: &[NewLetter]) -> Result<(), StoreError>;

    /// Lists letters, oldest first.
    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, StoreError>;

    /// Replaces a letter that waits by others of the same follower: one that was written before anybody
    /// knew whom it is for. Those are kept as [`Store::post`] keeps them, except that their positions do
    /// not matter. Not even a power cut undoes that. Returns false, and changes nothing, when the letter
    /// does not wait, or is gone: of many who ask one is told true.
    async fn replace(&self, letter: u64, by: &[NewLetter]) -> Result<bool, StoreError>;

    /// Returns when the first of a follower's waiting letters is due.
    async fn next_due(&self, follower: &str) -> Result<Option<Timestamp>, StoreError>;

    /// Notes that a letter is being sent, once more, before it leaves: not even a power cut undoes
    /// that. Of many who ask one gets it. `None` when it does not wait, or is gone.
    async fn begin_sending(&self, letter: u64) -> Result<Option<Letter>, StoreError>;

    /// Notes what came of sending a letter. One that was delivered is removed, whatever its state; the
    /// other ends count only for a letter that is being sent, also one that a dead process left so.
    /// Returns whether it counted. Of a project's dead letters [`DEAD_LETTERS_KEPT`] are kept.
    async fn settle(&self, letter: u64, end: LetterEnd) -> Result<bool, StoreError>;

    /// Lets a dead letter wait again: due at once, as if it had never been tried. Returns whether there
    /// is such a letter and it was dead.
    async fn revive(&self, letter: u64, now: Timestamp) -> Result<bool, StoreError>;

    /// Removes a letter, whatever its state. Returns whether there was one.
    async fn forget(&self, letter: u64) -> Result<bool, StoreError>;

    /// Removes the dead letters that were written before a moment; returns how many.
    async fn purge_dead(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Returns who switched automatic deploys of `project` off; `None` while they are on.
    async fn automatic(&self, project: &ProjectName) -> Result<Option<AutomaticOff>, StoreError>;

    /// Switches automatic deploys of `project` off, or on again with `None`.
    async fn set_automatic(&self, project: &ProjectName, off: Option<AutomaticOff>)
    -> Result<(), StoreError>;

    /// Returns what was saved under a key.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is damaged: it is never taken for absent.
    async fn state(&self, key: &str) -> Result<Option<String>, StoreError>;

    /// Saves values under their keys, all of them or none; `None` removes what is there.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a key of more than [`STATE_KEY_BYTES`] bytes or a value of more than
    /// [`STATE_BYTES`].
    async fn save_states(
        &self,
        states: &[(String, Option<String>)],
        durability: Durability,
    ) -> Result<(), StoreError>;

    /// Takes in a delivery, and saves `states` as [`Store::save_states`] does, together: not even a power
    /// cut undoes that. Of many who ask one is told true. Returns false, and changes nothing, when the
    /// project has one of that provider and id already; one that was not accepted is replaced by one that
    /// is. Of a project's deliveries [`DELIVERIES_KEPT`] are
    /// kept: one that came before those is taken for new, and so are all after
    /// [`Store::forget_project`].
    ///
    /// # Errors
    ///
    /// `TooLarge` when a state is, or when the delivery has more than [`DELIVERY_BYTES`] bytes.
    async fn take_delivery(
        &self,
        delivery: &Delivery,
        states: &[(String, Option<String>)],
    ) -> Result<bool, StoreError>;

    /// Lists the deliveries of `project`, the last to be taken in first; at most `limit`.
    async fn deliveries(&self, project: &ProjectName, limit: u32) -> Result<Vec<Delivery>, StoreError>;

    /// Returns one delivery.
    async fn delivery(
        &self,
        project: &ProjectName,
        provider: &str,
        id: &str,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Removes what is kept of a project besides its history: letters, deliveries, quarantine, and whether
    /// automatic deploys are off. Deployments, releases and the numbers given out stay.
    async fn forget_project(&self, project: &ProjectName) -> Result<(), StoreError>;

    /// Returns one deployment, summed up.
    async fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>, StoreError>;

    /// Lists deployments, newest first.
    async fn deployments(&self, filter: &DeploymentFilter) -> Result<Vec<Deployment>, StoreError>;

    /// Lists every release of `project` ever made, newest first, those long removed included.
    async fn releases(&self, project: &ProjectName) -> Result<Vec<KnownRelease>, StoreError>;

    /// Keeps a release from being removed, or lets it go again. Returns whether there is such a
    /// release.
    async fn pin(
        &self,
        project: &ProjectName,
        release: ReleaseNumber,
        pinned: bool,
    ) -> Result<bool, StoreError>;

    /// Takes the lease `name` for `ttl`, unless it is held already, be it by the same owner. The store
    /// measures time by a clock that never goes back, and no lease outlives a restart of the machine.
    /// A holder whose fence is `dead` counts as gone: the caller has
    /// seen that its process does not exist any more. Every grant has a higher fence than all
    /// before of that name, and than `above`: the highest a target has seen. A store that was lost,
    /// or put back from an older copy, does not know of those.
    async fn acquire(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
        dead: Option<Fence>,
        above: Fence,
    ) -> Result<Acquired, StoreError>;

    /// Prolongs a lease by `ttl` from now, also one whose time has run out. Returns false when it is no longer the newest of its
    /// name, or was released: then nothing may be changed under it any more.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError>;

    /// Gives a lease back. Harmless when it is lost already.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Returns who holds the lease `name`, also when its time has run out but nobody took it since.
    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError>;

    /// Puts a commit aside: no trigger may deploy it. Again for the same commit changes nothing.
    async fn quarantine(&self, project: &ProjectName, what: &Quarantined) -> Result<(), StoreError>;

    /// Lets a commit be deployed again. Returns whether it had been put aside.
    async fn lift(&self, project: &ProjectName, commit: &CommitId) -> Result<bool, StoreError>;

    /// Lists the commits put aside, newest first.
    async fn quarantined(&self, project: &ProjectName) -> Result<Vec<Quarantined>, StoreError>;

    /// Asks the process that runs `deployment` to stop and go back. Only the first request counts.
    async fn request_cancel(
        &self,
        deployment: DeploymentId,
        by: &Actor,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Returns the request to stop, if there is one.
    async fn cancel_requested(&self, deployment: DeploymentId) -> Result<Option<CancelRequest>, StoreError>;

    /// Verifies that everything stored is whole; returns one line, fit for a terminal, per defect.
    async fn verify(&self) -> Result<Vec<String>, StoreError>;

    /// Gives back space that is no longer needed; returns how many bytes.
    async fn vacuum(&self) -> Result<u64, StoreError>;
}
