//! Freezes: nothing may be deployed now, because somebody said so. Kept in the store, where commands
//! put them and everybody who deploys looks them up, whether a daemon works or not.

use std::{collections::BTreeMap, time::Duration};

use eeveon_core::{Actor, Durability, Fence, ProjectName, Untrusted};
use eeveon_store::{Acquired, Owner, Store, take_over};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DaemonError, Freeze};

/// The name of the state, and of the lease of who changes it.
const FREEZES: &str = "daemon/freezes";

/// The version of their form.
const FORMAT: u32 = 1;

/// A change is over long before.
const LIFETIME: Duration = Duration::from_secs(10);

/// How often a change is tried while somebody else makes one.
const ATTEMPTS: u32 = 50;

/// A freeze, and who is to be asked about it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// Why.
    pub reason: Untrusted,
    /// When it ends by itself; none when it has to be lifted.
    pub until: Option<Timestamp>,
    /// Who did it.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

impl Frozen {
    /// Tells whether it has ended by itself.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Returns what windows have to know of it.
    pub fn freeze(&self) -> Freeze {
        Freeze { reason: self.reason.clone(), until: self.until }
    }
}

/// All freezes there are. Their JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freezes {
    format: u32,
    /// The freeze of everything.
    pub all: Option<Frozen>,
    /// Those of single projects.
    pub projects: BTreeMap<ProjectName, Frozen>,
}

impl Default for Freezes {
    fn default() -> Self {
        Self { format: FORMAT, all: None, projects: BTreeMap::new() }
    }
}

impl Freezes {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// `daemon/store`, `daemon/newer-format` or `daemon/damaged-state`: none is not what that means.
    pub async fn load(store: &dyn Store) -> Result<Self, DaemonError> {
        match store.state(FREEZES).await? {
            Some(text) => read(&text),
            None => Ok(Self::default()),
        }
    }

    /// Returns the freeze a project is under: of two the one that lasts longer.
    pub fn of(&self, project: &ProjectName) -> Option<&Frozen> {
        let both = self.projects.get(project).into_iter().chain(&self.all);
        both.max_by_key(|it| it.until.unwrap_or(Timestamp::MAX))
    }

    /// Freezes a project, or everything, or lifts that. Returns what was there before.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; `daemon/store` also when others go on changing them.
    pub async fn change(
        store: &dyn Store,
        me: &Owner,
        project: Option<&ProjectName>,
        freeze: Option<Frozen>,
    ) -> Result<Option<Frozen>, DaemonError> {
        for _ in 0..ATTEMPTS {
            match take_over(store, FREEZES, me, LIFETIME, Fence::default()).await? {
                Acquired::Granted(lease) => {
                    let changed = put(store, project, freeze).await;
                    store.release(&lease).await?;
                    return changed;
                }
                Acquired::Held(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(DaemonError::Store { why: "somebody else is changing freezes".to_owned() })
    }
}

async fn put(
    store: &dyn Store,
    project: Option<&ProjectName>,
    freeze: Option<Frozen>,
) -> Result<Option<Frozen>, DaemonError> {
    let mut freezes = Freezes::load(store).await?;
    let before = match (project, freeze) {
        (None, freeze) => std::mem::replace(&mut freezes.all, freeze),
        (Some(project), Some(freeze)) => freezes.projects.insert(project.clone(), freeze),
        (Some(project), None) => freezes.projects.remove(project),
    };
    let text = serde_json::to_string(&freezes).map_err(|error| damaged(&error))?;
    store.save_states(&[(FREEZES.to_owned(), Some(text))], Durability::Power).await?;
    Ok(before)
}

fn read(text: &str) -> Result<Freezes, DaemonError> {
    /// Reads the format, whatever else is there.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    if format > FORMAT {
        return Err(DaemonError::Newer { what: "list of freezes", found: format, known: FORMAT });
    }
    serde_json::from_str(text).map_err(|error| damaged(&error))
}

fn damaged(error: &serde_json::Error) -> DaemonError {
    DaemonError::Damaged { what: "list of freezes", why: error.to_string() }
}
