//! The few headers a forge's deliveries are read by.

use super::{Provider, parse::malformed, verify::refused};
use crate::SourceError;

/// The headers that count for one forge. All others, however many, are not kept.
pub(super) struct Headers<'a>(Vec<(&'static str, &'a [u8])>);

/// Returns what is read of this forge's requests, in lower case.
fn read_by(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::GitHub => &["x-hub-signature-256", "x-github-event", "x-github-delivery"],
        Provider::GitLab => {
            &["x-gitlab-token", "webhook-id", "webhook-timestamp", "webhook-signature", "idempotency-key"]
        }
        Provider::BitbucketCloud => &["x-hub-signature", "x-event-key", "x-request-uuid"],
        Provider::BitbucketDataCenter => &["x-hub-signature", "x-event-key", "x-request-id"],
        Provider::Gitea => &["x-gitea-signature", "x-gitea-event", "x-gitea-delivery"],
        Provider::Forgejo => &["x-forgejo-signature", "x-forgejo-event", "x-forgejo-delivery"],
        Provider::AzureDevOps => &["authorization", "x-eeveon-token"],
        Provider::Generic => &["webhook-id", "webhook-timestamp", "webhook-signature"],
    }
}

impl<'a> Headers<'a> {
    /// Picks out what counts. A header that is there twice is refused: parts of a chain of proxies
    /// could each believe another one.
    pub(super) fn pick(
        provider: Provider,
        all: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, SourceError> {
        let names = read_by(provider);
        let mut kept: Vec<(&'static str, &[u8])> = Vec::new();
        for (name, value) in all {
            let Some(name) = names.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if kept.iter().any(|(other, _)| other == name) {
                return Err(refused("a header that counts was sent twice"));
            }
            kept.push((name, value));
        }
        Ok(Self(kept))
    }

    /// Returns the value.
    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Returns the value as text, if there is one.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, SourceError> {
        self.get(name)
            .map(|value| {
                str::from_utf8(value).map_err(|_| malformed(format!("header `{name}` is not UTF-8")))
            })
            .transpose()
    }

    /// Returns the value as text.
    pub(super) fn required(&self, name: &'static str) -> Result<&'a str, SourceError> {
        self.text(name)?.ok_or_else(|| malformed(format!("header `{name}` is missing")))
    }
}
