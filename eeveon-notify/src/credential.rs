//! What only the operator may know: the address of a webhook, a token, a password.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use eeveon_core::{Secret, SecretError, SecretRef, Secrets};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::NotifyError;

/// How long a file may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who reads files: no more at once, should they lie on a disk that hangs.
static READERS: Semaphore = Semaphore::const_new(64);

/// Which files are being read: one reader for each, so that one that hangs leaves places for the others.
static FILES: Mutex<BTreeMap<String, Weak<Semaphore>>> = Mutex::new(BTreeMap::new());

/// An address or a token as configuration gives it: written out, or where it is to be found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// Written out.
    Given(Secret),
    /// To be found here, each time it is needed.
    At(SecretRef),
}

impl Credential {
    /// Reads what stands in configuration: `env:NAME`, `file:PATH`, or the value itself.
    ///
    /// # Errors
    ///
    /// It is empty, or begins like a reference and is none.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        match SecretRef::parse(text)? {
            Some(at) => Ok(Self::At(at)),
            None => Secret::new(text).map(Self::Given).ok_or(SecretError::Reference("it is empty")),
        }
    }

    /// Returns the secret, as it is now. `channel` is what needs it. Takes at most ten seconds.
    ///
    /// # Errors
    ///
    /// There is nothing where the reference points, or the file is not read in time.
    pub async fn reveal(&self, channel: &str, secrets: &Arc<dyn Secrets>) -> Result<Secret, NotifyError> {
        let found = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::At(at @ SecretRef::Env(_)) => secrets.reveal(at),
            Self::At(at @ SecretRef::File(_)) => from_file(at, secrets).await,
        };
        found.map_err(|source| NotifyError::Secret { channel: channel.to_owned(), source })
    }
}

/// Reads a file in a thread of its own, which nobody waits for when the disk hangs: not even a runtime that
/// shuts down, as it does for its own.
async fn from_file(at: &SecretRef, secrets: &Arc<dyn Secrets>) -> Result<Secret, SecretError> {
    let (wanted, secrets) = (at.clone(), Arc::clone(secrets));
    let read = async {
        // Before the place: whoever waits for a file that hangs takes none.
        let turn = turn_at(&wanted).acquire_owned().await;
        let place = READERS.acquire().await;
        let (tell, told) = oneshot::channel();
        let reader = thread::Builder::new().name("secret".to_owned()).spawn(move || {
            let (_turn, _place) = (turn, place);
            // Whoever asked may have gone.
            let _told = tell.send(secrets.reveal(&wanted));
        });
        reader.ok()?;
        told.await.ok()
    };
    let late = |why: String| Err(SecretError::Missing { at: at.to_string(), why });
    match timeout(PATIENCE, read).await {
        Ok(Some(found)) => found,
        Ok(None) => late("was not read".to_owned()),
        Err(_) => late(format!("was not read within {} s", PATIENCE.as_secs())),
    }
}

/// Returns what lets one reader at a time read the file `at`. It is kept for as long as somebody waits or reads.
fn turn_at(at: &SecretRef) -> Arc<Semaphore> {
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    files.retain(|_, turn| turn.strong_count() > 0);
    let known = files.get(&at.to_string()).and_then(Weak::upgrade);
    known.unwrap_or_else(|| {
        let turn = Arc::new(Semaphore::new(1));
        files.insert(at.to_string(), Arc::downgrade(&turn));
        turn
    })
}
