//! Webhooks of forges: what proves a delivery, what is read of it, and what comes of it.

mod arbitrary;
mod decide;
mod malformed;
mod parse;
mod payloads;
mod verify;

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use eeveon_core::{CommitId, Diagnose, Secret};
use eeveon_source::{
    SourceError,
    forge::{Delivery, Event, Hook, Provider},
};
use jiff::Timestamp;

/// A secret for any forge.
pub(super) const PLAIN: &str = "correct horse battery staple";
/// A secret for signatures after Standard Webhooks.
pub(super) const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The time all tests happen at, in seconds.
pub(super) const NOW: i64 = 1_614_265_330;

pub(super) type Header = (String, Vec<u8>);

/// Returns where these fixtures are; says so when they are not there, and the test is skipped.
#[expect(clippy::print_stderr, reason = "whoever runs the tests should know what was skipped")]
pub(super) fn fixtures(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures");
    let folder = std::env::var("EEVEON_FIXTURES").unwrap_or_else(|_| beside.to_owned());
    let folder = Path::new(&folder).join(name);
    if !folder.is_dir() {
        eprintln!("skipped: no fixtures in {}", folder.display());
        return None;
    }
    Some(folder)
}

pub(super) fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

pub(super) fn hook(provider: Provider, text: &str) -> Hook {
    Hook::new(provider, &secret(text), None).unwrap()
}

/// The usual secret of a forge.
pub(super) fn usual(provider: Provider) -> &'static str {
    match provider {
        Provider::Generic => SIGNING,
        _ => PLAIN,
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub(super) fn header(name: &str, value: impl AsRef<[u8]>) -> Header {
    (name.to_owned(), value.as_ref().to_vec())
}

/// Returns HMAC-SHA256 in hexadecimal digits.
pub(super) fn hex(key: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a `v1` signature after Standard Webhooks.
pub(super) fn v1(secret: &str, id: &str, time: i64, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed);
    format!("v1,{}", STANDARD.encode(tag))
}

/// Returns the headers with which a forge sends `body`, which is about `event`.
pub(super) fn signed(provider: Provider, event: &str, text: &str, body: &[u8]) -> Vec<Header> {
    let hub = || format!("sha256={}", hex(text, body));
    let standard = || {
        vec![
            header("webhook-id", "msg_1"),
            header("webhook-timestamp", NOW.to_string()),
            header("webhook-signature", v1(text, "msg_1", NOW, body)),
        ]
    };
    match provider {
        Provider::GitHub => vec![
            header("X-GitHub-Event", event),
            header("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
            header("X-Hub-Signature", "sha1=0000000000000000000000000000000000000000"),
            header("X-Hub-Signature-256", hub()),
        ],
        Provider::GitLab if text.starts_with("whsec_") => standard(),
        Provider::GitLab => vec![
            header("X-Gitlab-Event", event),
            header("Idempotency-Key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
            header("X-Gitlab-Token", text),
        ],
        Provider::BitbucketCloud => vec![
            header("X-Event-Key", event),
            header("X-Request-UUID", "a1b2"),
            header("X-Hub-Signature", hub()),
        ],
        Provider::BitbucketDataCenter => vec![
            header("X-Event-Key", event),
            header("X-Request-Id", "c3d4"),
            header("X-Hub-Signature", hub()),
        ],
        Provider::Gitea => vec![
            header("X-Gitea-Event", event),
            header("X-Gitea-Delivery", "f6266f16-1bf3-46a5-9ea4-602e06ead473"),
            header("X-Gitea-Signature", hex(text, body)),
        ],
        Provider::Forgejo => vec![
            header("X-Forgejo-Event", event),
            header("X-Forgejo-Delivery", "f6266f16-1bf3-46a5-9ea4-602e06ead473"),
            header("X-Forgejo-Signature", hex(text, body)),
        ],
        Provider::AzureDevOps => {
            vec![header("Authorization", format!("Basic {}", STANDARD.encode(format!("eeveon:{text}"))))]
        }
        Provider::Generic => standard(),
    }
}

/// Proves and reads a delivery.
pub(super) fn receive(hook: &Hook, headers: &[Header], body: &[u8]) -> Result<Delivery, SourceError> {
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    hook.verify(headers, body, now())?.parse()
}

/// Reads a delivery that proves itself.
pub(super) fn read(provider: Provider, event: &str, body: &[u8]) -> Result<Delivery, SourceError> {
    let text = usual(provider);
    receive(&hook(provider, text), &signed(provider, event, text, body), body)
}

/// Reads the one thing a delivery tells of.
pub(super) fn one(provider: Provider, event: &str, body: &str) -> Event {
    let delivery = read(provider, event, body.as_bytes()).unwrap();
    assert_eq!(delivery.events.len(), 1);
    delivery.events.into_iter().next().unwrap()
}

pub(super) fn code(result: Result<Delivery, SourceError>) -> &'static str {
    result.unwrap_err().code()
}

pub(super) fn id(digit: char) -> String {
    digit.to_string().repeat(40)
}

pub(super) fn commit(digit: char) -> Option<CommitId> {
    Some(CommitId::new(id(digit)).unwrap())
}
