//! Proving that a delivery comes from who knows the secret, before anything of it is read.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use eeveon_core::Secret;
use jiff::Timestamp;

use super::{Delivery, Provider, headers::Headers, parse};
use crate::SourceError;

/// How old or new a signed delivery may be, in seconds. Source: Standard Webhooks,
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>, whose
/// libraries agree on five minutes.
const TOLERANCE: u64 = 300;
/// How many bytes the key of a `whsec_` secret may have. Source: as above, "Signature scheme".
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// One address that a forge calls, and what proves that it is the forge.
pub struct Hook {
    provider: Provider,
    current: Proof,
    previous: Option<Proof>,
}

/// What a secret is good for. The secret itself is not kept.
enum Proof {
    /// The key of an HMAC-SHA256 over the body, written as hexadecimal digits.
    Body(hmac::Key),
    /// The key of a signature after Standard Webhooks.
    Standard(hmac::Key),
    /// The SHA-256 of a password. Comparing digests tells nothing about the password's length.
    Password(digest::Digest),
}

impl Hook {
    /// Makes a hook. While a secret is exchanged, `previous` is the one that still counts.
    ///
    /// # Errors
    ///
    /// `source/hook-secret`: a secret that begins with `whsec_` (or any for [`Provider::Generic`]) is
    /// not the base64 of 24 to 64 bytes.
    pub fn new(provider: Provider, current: &Secret, previous: Option<&Secret>) -> Result<Self, SourceError> {
        let proof = |secret: &Secret| Proof::new(provider, secret.expose());
        Ok(Self { provider, current: proof(current)?, previous: previous.map(proof).transpose()? })
    }

    /// Returns whose deliveries these are.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Proves that the request comes from who knows a secret. `body` is what came, byte by byte;
    /// `headers` are all that came, in any spelling.
    ///
    /// # Errors
    ///
    /// `source/hook-refused`. What it says is for the log; a stranger is told nothing.
    pub fn verify<'a>(
        &self,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        body: &'a [u8],
        now: Timestamp,
    ) -> Result<Authentic<'a>, SourceError> {
        let headers = Headers::pick(self.provider, headers)?;
        let current = self.proves(&self.current, &headers, body, now);
        let previous = self.previous.as_ref().map(|proof| self.proves(proof, &headers, body, now));
        // What is said is about the present secret; the other one is on its way out.
        match previous {
            Some(Ok(())) => {}
            _ => current?,
        }
        Ok(Authentic { provider: self.provider, headers, body })
    }

    fn proves(
        &self,
        proof: &Proof,
        headers: &Headers<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SourceError> {
        match (proof, self.provider) {
            (Proof::Standard(key), _) => standard(key, headers, body, now),
            (Proof::Password(digest), Provider::AzureDevOps) => password(digest, &basic(headers)?),
            (Proof::Password(digest), _) => password(digest, given(headers, "x-gitlab-token")?),
            (Proof::Body(key), provider) => {
                let (name, prefix) = match provider {
                    Provider::Gitea => ("x-gitea-signature", ""),
                    Provider::Forgejo => ("x-forgejo-signature", ""),
                    Provider::BitbucketCloud | Provider::BitbucketDataCenter => {
                        ("x-hub-signature", "sha256=")
                    }
                    _ => ("x-hub-signature-256", "sha256="),
                };
                let digits = given(headers, name)?
                    .strip_prefix(prefix.as_bytes())
                    .ok_or_else(|| refused("the signature is not an HMAC-SHA256"))?;
                let tag = hmac::sign(key, body);
                agree(hex(tag.as_ref()).as_bytes(), &digits.to_ascii_lowercase())
            }
        }
    }
}

/// Says nothing of the secrets.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.provider)
    }
}

impl Proof {
    fn new(provider: Provider, secret: &str) -> Result<Self, SourceError> {
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let base64 = secret.strip_prefix("whsec_");
        match (provider, base64) {
            // GitLab makes signing tokens of this form, and only they are used for signatures:
            // <https://docs.gitlab.com/user/project/integrations/webhooks/#signing-tokens>.
            (Provider::Generic, _) | (Provider::GitLab, Some(_)) => {
                let bytes = STANDARD
                    .decode(base64.unwrap_or(secret))
                    .ok()
                    .filter(|bytes| KEY_BYTES.contains(&bytes.len()))
                    .ok_or(SourceError::HookSecret {
                        rule: "it must be `whsec_` and the base64 of 24 to 64 bytes",
                    })?;
                Ok(Self::Standard(key(&bytes)))
            }
            (Provider::GitLab | Provider::AzureDevOps, _) => Ok(Self::Password(sha256(secret.as_bytes()))),
            _ => Ok(Self::Body(key(secret.as_bytes()))),
        }
    }
}

/// A delivery whose sender has shown that it knows the secret. There is no other way to read one.
pub struct Authentic<'a> {
    pub(super) provider: Provider,
    pub(super) headers: Headers<'a>,
    pub(super) body: &'a [u8],
}

impl Authentic<'_> {
    /// Reads the delivery. Takes time and memory in proportion to the body; blocks for tens of
    /// milliseconds on the largest bodies forges send (25 MiB).
    ///
    /// # Errors
    ///
    /// `source/hook-malformed`, with what is wrong with it.
    pub fn parse(&self) -> Result<Delivery, SourceError> {
        parse::delivery(self)
    }
}

impl fmt::Debug for Authentic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authentic({}, {} bytes)", self.provider, self.body.len())
    }
}

/// Makes the error for who does not prove anything.
pub(super) fn refused(why: &'static str) -> SourceError {
    SourceError::HookRefused { why }
}

fn given<'a>(headers: &Headers<'a>, name: &str) -> Result<&'a [u8], SourceError> {
    headers
        .get(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| refused("nothing in the request proves who sent it"))
}

/// Checks a signature after Standard Webhooks: over id, time and body; any of several counts.
fn standard(key: &hmac::Key, headers: &Headers<'_>, body: &[u8], now: Timestamp) -> Result<(), SourceError> {
    let signatures = given(headers, "webhook-signature")?;
    let (id, time) = (given(headers, "webhook-id")?, given(headers, "webhook-timestamp")?);
    let seconds = str::from_utf8(time)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<i64>().ok())
        .ok_or_else(|| refused("the time of the delivery is not a number of seconds"))?;
    let mut signed = hmac::Context::with_key(key);
    for part in [id, b".", time, b".", body] {
        signed.update(part);
    }
    let ours = signed.sign();
    let known = signatures
        .split(|byte| *byte == b' ')
        .filter_map(|entry| STANDARD.decode(entry.strip_prefix(b"v1,")?).ok())
        .any(|theirs| verify_slices_are_equal(ours.as_ref(), &theirs).is_ok());
    match known {
        false => Err(refused("the signature is not made with a secret of this hook")),
        true if now.as_second().abs_diff(seconds) > TOLERANCE => {
            Err(refused("it was signed more than five minutes before or after now"))
        }
        true => Ok(()),
    }
}

/// Returns the password of the request: `X-EEveon-Token`, for where something in between uses
/// `Authorization` itself, or else that of basic authentication (RFC 7617), whoever the user is.
fn basic(headers: &Headers<'_>) -> Result<Vec<u8>, SourceError> {
    if let Some(token) = headers.get("x-eeveon-token") {
        return Ok(token.to_vec());
    }
    let value = given(headers, "authorization")?;
    let encoded = match value.split_at_checked(6) {
        Some((scheme, encoded)) if scheme.eq_ignore_ascii_case(b"basic ") => encoded.trim_ascii(),
        _ => return Err(refused("the request uses no basic authentication")),
    };
    let pair = STANDARD.decode(encoded).unwrap_or_default();
    // A user has no colon, a password may have some.
    match pair.iter().position(|byte| *byte == b':') {
        Some(colon) => Ok(pair.into_iter().skip(colon + 1).collect()),
        None => Err(refused("the basic authentication of the request is malformed")),
    }
}

fn password(expected: &digest::Digest, given: &[u8]) -> Result<(), SourceError> {
    agree(expected.as_ref(), sha256(given).as_ref())
}

/// Compares in a time that does not depend on where the two differ.
fn agree(expected: &[u8], given: &[u8]) -> Result<(), SourceError> {
    verify_slices_are_equal(expected, given)
        .map_err(|_| refused("what the request proves is not a secret of this hook"))
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
