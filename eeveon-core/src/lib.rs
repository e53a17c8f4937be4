//! The words, the plan, the journal and the engine of EEveon.
//!
//! *Facts become a plan; the engine carries out the plan and writes the journal; everything else
//! reads the journal.* Nothing here opens a socket, a file or a shell. Capability crates teach the
//! engine what to do by registering [`Action`]s, and learn what happened by following the [`Feed`].
//!
//! Where to start reading: [`strategy`] turns facts into a plan, [`engine`] carries it out,
//! [`state`] says what comes next, [`journal`] is what remains.

pub mod action;
pub mod content;
pub mod deployer;
pub mod engine;
pub mod failure;
pub mod feed;
pub mod journal;
pub mod offload;
pub mod plan;
pub mod retry;
pub mod secret;
pub mod state;
pub mod strategy;
pub mod untrusted;
pub mod words;

pub use action::{Action, Effect, Interrupted, OnFailure, Permit, Progress, Registry, StepContext};
pub use content::{ContentId, ContentReader, Contents, FileEntry, FileKind};
pub use deployer::{Deployer, Placed, Present, Reach, Removal, Traffic};
pub use engine::{Engine, EngineError, Session};
pub use failure::{Class, Diagnose, Failure, Retry, Stage, StepError};
pub use feed::{Feed, StepProgress};
pub use journal::{
    Clock, Durability, Entry, FORMAT, Journal, JournalError, Kind, Outcome, Quarantining, Record, Request,
    Seq, SystemClock,
};
pub use offload::offload;
pub use plan::{Plan, PlanBuilder, Slot, StepKey, StepSpec};
pub use retry::RetryPolicy;
pub use secret::{Secret, SecretError, SecretRef, Secrets};
pub use state::{Decision, Progress as StepStatus, State, decide};
pub use strategy::{Checkpoints, Facts, TargetFacts};
pub use untrusted::Untrusted;
pub use words::{
    Actor, CommitId, DeploymentId, Endpoint, Fence, InvalidName, Live, ProjectName, Release, ReleaseNumber,
    Revision, Target, TargetName, Trigger,
};
