//! The signature of a webhook, by which receivers know it is ours, unaltered and recent.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use eeveon_core::Secret;

/// How many bytes a secret has.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What messages are signed with. It has no `Debug` on purpose.
pub(super) struct Key(hmac::Key);

impl Key {
    /// Reads `whsec_` and base64. What is wrong is said without the secret.
    pub(super) fn read(secret: &Secret) -> Result<Self, &'static str> {
        let bytes = secret
            .expose()
            .trim()
            .strip_prefix("whsec_")
            .and_then(|text| STANDARD.decode(text).ok())
            .filter(|bytes| KEY_BYTES.contains(&bytes.len()));
        match bytes {
            Some(bytes) => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
            None => Err("a signing secret is `whsec_` and 24 to 64 bytes in base64"),
        }
    }

    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// Returns the headers of a message: its id, which stays the same when it is sent again, the time
/// of this attempt in seconds since 1970, and one signature for each key.
pub(super) fn headers(keys: &[Key], id: &str, seconds: i64, body: &[u8]) -> Vec<(&'static str, String)> {
    let mut headers = vec![("webhook-id", id.to_owned()), ("webhook-timestamp", seconds.to_string())];
    if !keys.is_empty() {
        let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, seconds, body)).collect();
        headers.push(("webhook-signature", signatures.join(" ")));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<Key> {
        Secret::new(text).and_then(|secret| Key::read(&secret).ok())
    }

    fn of_bytes(count: usize) -> String {
        format!("whsec_{}", STANDARD.encode(vec![7; count]))
    }

    #[test]
    fn only_secrets_of_the_scheme_are_taken() {
        for good in [24, 32, 64] {
            assert!(key(&of_bytes(good)).is_some(), "{good}");
        }
        assert!(key(&format!(" {}\n", of_bytes(24))).is_some());
        for bad in [of_bytes(0), of_bytes(23), of_bytes(65), "hunter2".into(), "whsec_???".into()] {
            assert!(key(&bad).is_none(), "{bad}");
        }
        let unprefixed = of_bytes(24).replace("whsec_", "");
        assert!(key(&unprefixed).is_none());
    }

    #[test]
    fn two_keys_make_two_signatures_and_none_makes_none() {
        let keys: Vec<Key> = [of_bytes(24), of_bytes(32)].iter().filter_map(|text| key(text)).collect();
        let headers = headers(&keys, "id", 5, b"{}");
        let [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signatures)] =
            &headers[..]
        else {
            panic!("{headers:?}");
        };
        assert_eq!((id.as_str(), time.as_str()), ("id", "5"));
        let signatures: Vec<&str> = signatures.split(' ').collect();
        assert_eq!(signatures, [keys[0].sign("id", 5, b"{}"), keys[1].sign("id", 5, b"{}")]);
        assert_ne!(signatures[0], signatures[1]);
        assert_eq!(super::headers(&[], "id", 5, b"{}").len(), 2);
    }

    /// The vectors the scheme's authors publish.
    #[test]
    fn the_published_vectors_agree() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
        let folder = std::env::var("EEVEON_FIXTURES").unwrap_or_else(|_| fixtures.to_owned());
        let Ok(file) = std::fs::read(format!("{folder}/standard-webhooks/vectors.json")) else {
            eprintln!("skipped: no vectors in {folder}/standard-webhooks");
            return;
        };
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 2);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let signature = key(text("secret")).unwrap().sign(
                text("id"),
                vector["timestamp"].as_i64().unwrap(),
                text("payload").as_bytes(),
            );
            assert_eq!(signature == text("signature"), vector["valid"].as_bool().unwrap());
        }
    }
}
