//! What only the operator may know: the address of a webhook, a token, a password.

use std::sync::Arc;

use eeveon_core::{Secret, SecretError, SecretRef, Secrets};

use crate::NotifyError;

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

    /// Returns the secret, as it is now. `channel` is what needs it.
    ///
    /// # Errors
    ///
    /// There is nothing where the reference points.
    pub async fn reveal(&self, channel: &str, secrets: &Arc<dyn Secrets>) -> Result<Secret, NotifyError> {
        let missing = |source| NotifyError::Secret { channel: channel.to_owned(), source };
        let at = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::At(at) => at.clone(),
        };
        let named = at.to_string();
        // A file may lie on a disk that hangs.
        let secrets = Arc::clone(secrets);
        let found = tokio::task::spawn_blocking(move || secrets.reveal(&at)).await;
        found
            .unwrap_or_else(|_| Err(SecretError::Missing { at: named, why: "was not read".to_owned() }))
            .map_err(missing)
    }
}
