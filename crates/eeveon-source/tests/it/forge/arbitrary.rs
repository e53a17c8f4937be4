//! Whatever comes in: never a panic, and never believed without the secret.

use eeveon_source::forge::{Filter, Hook, Provider, decide};
use proptest::prelude::*;

use super::{Header, NOW, header, malformed::kinds, now, read, receive, secret, signed, usual, v1};

/// Everything any forge is read by, and some more.
const NAMES: [&str; 16] = [
    "x-hub-signature-256",
    "x-hub-signature",
    "x-github-event",
    "x-gitlab-token",
    "x-gitea-signature",
    "x-gitea-event",
    "x-forgejo-signature",
    "x-event-key",
    "x-request-id",
    "authorization",
    "x-eeveon-token",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "idempotency-key",
    "content-type",
];

fn provider() -> impl Strategy<Value = Provider> {
    prop::sample::select(Provider::ALL.to_vec())
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "sha256=[0-9a-f]{64}".prop_map(String::into_bytes),
        "[0-9a-f]{64}".prop_map(String::into_bytes),
        "v1,[A-Za-z0-9+/]{43}=".prop_map(String::into_bytes),
        "Basic [A-Za-z0-9+/]{8,40}".prop_map(String::into_bytes),
        Just(NOW.to_string().into_bytes()),
    ];
    let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
    prop::collection::vec((name, value), 0..12)
}

/// JSON made of the words forges use.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    const KEYS: [&str; 28] = [
        "ref",
        "before",
        "after",
        "commits",
        "id",
        "added",
        "repository",
        "full_name",
        "sender",
        "login",
        "object_kind",
        "project",
        "path_with_namespace",
        "push",
        "changes",
        "old",
        "new",
        "type",
        "name",
        "target",
        "hash",
        "data",
        "resource",
        "refUpdates",
        "release",
        "tag_name",
        "action",
        "eventType",
    ];
    const WORDS: [&str; 14] = [
        "refs/heads/main",
        "refs/tags/v1",
        "refs/heads/--x",
        "main",
        "push",
        "tag_push",
        "release",
        "branch",
        "tag",
        "git.push",
        "published",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "0000000000000000000000000000000000000000",
        "\u{1b}[2J",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(WORDS.to_vec()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned),
                inner,
                0..8
            )
            .prop_map(|map| json!(map)),
        ]
    });
    prop::collection::btree_map(prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned), value, 0..10)
        .prop_map(|map| json!(map))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn hook_auth_no_stranger_is_believed(
        provider in provider(),
        headers in headers(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        second in any::<bool>(),
    ) {
        let text = secret(usual(provider));
        let hook = Hook::new(provider, &text, second.then_some(&text)).unwrap();
        prop_assert!(receive(&hook, &headers, &body).is_err());
    }

    #[test]
    fn hook_auth_a_signature_is_good_for_one_body_only(
        provider in provider(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        other in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assume!(body != other && !matches!(provider, Provider::GitLab | Provider::AzureDevOps));
        let text = usual(provider);
        let headers = signed(provider, "push", text, &body);
        let all = || headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let hook = super::hook(provider, text);
        prop_assert!(hook.verify(all(), &body, now()).is_ok());
        prop_assert!(hook.verify(all(), &other, now()).is_err());
    }

    #[test]
    fn hook_auth_only_the_secret_makes_a_password(
        provider in prop::sample::select(vec![Provider::GitLab, Provider::AzureDevOps]),
        text in "[ -~]{1,40}",
        given in "[ -~]{1,40}",
    ) {
        prop_assume!(!text.trim().is_empty() && text != given && !text.starts_with("whsec_"));
        let hook = super::hook(provider, &text);
        let name = if provider == Provider::GitLab { "x-gitlab-token" } else { "x-eeveon-token" };
        let verify = |value: &str| hook.verify([(name, value.as_bytes())], b"{}", now()).is_ok();
        prop_assert!(verify(&text));
        prop_assert!(!verify(&given));
    }

    #[test]
    fn hook_auth_what_is_signed_is_id_time_and_body(
        id in "[!-~]{1,40}",
        other in "[!-~]{1,40}",
        shift in -300i64..=300,
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let text = usual(Provider::Generic);
        let time = NOW + shift;
        let signature = v1(text, &id, time, &body);
        let hook = super::hook(Provider::Generic, text);
        let verify = |id: &str, time: i64| {
            let headers = [
                header("webhook-id", id),
                header("webhook-timestamp", time.to_string()),
                header("webhook-signature", &signature),
            ];
            let all = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            hook.verify(all, &body, now()).is_ok()
        };
        prop_assert!(verify(&id, time));
        prop_assert!(!verify(&id, time + 1));
        prop_assert_eq!(verify(&other, time), id == other);
    }

    #[test]
    fn hook_dos_any_bytes_are_read_or_refused(
        provider in provider(),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "\\PC{0,200}".prop_map(String::into_bytes),
        ],
    ) {
        for kind in kinds(provider) {
            let _ = read(provider, kind, &body);
        }
    }

    #[test]
    fn hook_dos_any_json_is_read_or_refused(
        provider in provider(),
        json in json(),
        branch in "[a-z]{1,6}",
        pattern in "[a-z*?\\[\\]!\\\\/]{0,12}",
    ) {
        let body = json.to_string();
        for kind in kinds(provider) {
            if let Ok(delivery) = read(provider, kind, body.as_bytes()) {
                let filter = Filter {
                    branch: branch.clone(),
                    paths: vec![pattern.clone()],
                    tags: Some(pattern.clone()),
                    releases: true,
                };
                let why = decide(&delivery.events, &filter).why;
                prop_assert!(!why.contains(eeveon_core::untrusted::is_hazard), "{}", why);
            }
        }
    }
}
