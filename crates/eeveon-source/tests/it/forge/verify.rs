//! Who is believed: signatures, passwords, two secrets, time, and every way to get around them.

use base64::{Engine, engine::general_purpose::STANDARD};
use eeveon_core::Secret;
use eeveon_source::forge::{Hook, Provider};
use jiff::Timestamp;

use super::{
    Header, NOW, PLAIN, SIGNING, code, fixtures, header, hex, hook, now, receive, secret, signed, usual, v1,
};

const PING: &[u8] = br#"{"type":"ping","zen":"x","eventType":"ping","object_kind":"ping"}"#;

fn vectors(name: &str) -> Option<serde_json::Value> {
    let table = std::fs::read(fixtures(name)?.join("vectors.json")).unwrap();
    Some(serde_json::from_slice(&table).unwrap())
}

#[test]
fn hook_auth_the_vectors_of_github_are_genuine() {
    let Some(table) = vectors("github-hmac") else { return };
    let vectors = table["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 2);
    for vector in vectors {
        let text = |key: &str| vector[key].as_str().unwrap();
        let hook = hook(Provider::GitHub, text("secret"));
        let verify = |signature: &str, body: &str| {
            let headers = [("x-hub-signature-256", signature.as_bytes())];
            hook.verify(headers, body.as_bytes(), now()).is_ok()
        };
        assert!(verify(text("signature"), text("payload")));
        assert!(verify(&text("signature").to_uppercase().replace("SHA256", "sha256"), text("payload")));
        assert!(!verify(text("signature"), &format!("{} ", text("payload"))));
        assert!(!verify(&text("signature").replace("sha256=", "sha1="), text("payload")));
    }
}

#[test]
fn hook_auth_the_vectors_of_standard_webhooks_agree() {
    let Some(table) = vectors("standard-webhooks") else { return };
    let vectors = table["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 2);
    for vector in vectors {
        let text = |key: &str| vector[key].as_str().unwrap();
        let time = vector["timestamp"].as_i64().unwrap();
        let written = time.to_string();
        for provider in [Provider::Generic, Provider::GitLab] {
            let found = hook(provider, text("secret")).verify(
                [
                    ("webhook-id", text("id").as_bytes()),
                    ("webhook-timestamp", written.as_bytes()),
                    ("webhook-signature", text("signature").as_bytes()),
                ],
                text("payload").as_bytes(),
                Timestamp::from_second(time).unwrap(),
            );
            assert_eq!(found.is_ok(), vector["valid"].as_bool().unwrap(), "{provider}: {vector}");
        }
    }
}

#[test]
fn hook_auth_every_forge_is_believed_with_the_secret_and_not_without() {
    for provider in Provider::ALL {
        let text = usual(provider);
        let hook = hook(provider, text);
        let headers = signed(provider, "ping", text, PING);
        assert!(receive(&hook, &headers, PING).is_ok(), "{provider}");
        assert_eq!(code(receive(&hook, &[], PING)), "source/hook-refused", "{provider}");
        let other = match provider {
            Provider::Generic => "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            _ => "another secret",
        };
        let theirs = signed(provider, "ping", other, PING);
        assert_eq!(code(receive(&hook, &theirs, PING)), "source/hook-refused", "{provider}");
        // What proves a delivery to one forge proves nothing to the hook of another.
        for caller in Provider::ALL.into_iter().filter(|caller| *caller != provider) {
            let alike = |one, two| [provider, caller] == [one, two] || [provider, caller] == [two, one];
            if !alike(Provider::BitbucketCloud, Provider::BitbucketDataCenter) {
                let theirs = signed(caller, "ping", usual(caller), PING);
                assert!(receive(&hook, &theirs, PING).is_err(), "{caller} at {provider}");
            }
        }
    }
}

#[test]
fn hook_auth_a_body_that_was_changed_is_refused() {
    for provider in Provider::ALL {
        if matches!(provider, Provider::AzureDevOps | Provider::GitLab) {
            continue;
        }
        let headers = signed(provider, "ping", usual(provider), PING);
        for at in 0..PING.len() {
            let mut body = PING.to_vec();
            body[at] ^= 1;
            let found = receive(&hook(provider, usual(provider)), &headers, &body);
            assert_eq!(code(found), "source/hook-refused", "{provider} {at}");
        }
        let longer = [PING, b"\n"].concat();
        assert!(receive(&hook(provider, usual(provider)), &headers, &longer).is_err(), "{provider}");
    }
}

#[test]
fn hook_auth_no_changed_signature_is_believed() {
    for provider in Provider::ALL {
        let text = usual(provider);
        let hook = hook(provider, text);
        let headers = signed(provider, "ping", text, PING);
        let proof = headers
            .iter()
            .position(|(name, _)| {
                ["X-Hub-Signature-256", "X-Gitlab-Token", "Authorization", "webhook-signature"]
                    .contains(&name.as_str())
                    || (name.ends_with("-Signature") && provider != Provider::GitHub)
            })
            .unwrap();
        let with = |value: Vec<u8>| {
            let mut changed = headers.clone();
            changed[proof].1 = value;
            receive(&hook, &changed, PING)
        };
        let genuine = headers[proof].1.clone();
        for length in 0..genuine.len() {
            assert!(with(genuine[..length].to_vec()).is_err(), "{provider}: {length} bytes");
        }
        let longer = |more: &[u8]| [genuine.as_slice(), more].concat();
        for more in [&b"0"[..], b"\xff", b",sha256=00", "ä".as_bytes()] {
            assert!(with(longer(more)).is_err(), "{provider}: and {more:?}");
        }
        for at in 0..genuine.len() {
            let mut value = genuine.clone();
            // Not the case of a letter, which counts in neither hexadecimal digits nor schemes.
            value[at] ^= 0x05;
            // In what is before the password, only the colon counts.
            if provider == Provider::AzureDevOps && at > 5 {
                let decoded = value.get(6..).and_then(|text| STANDARD.decode(text).ok());
                if decoded.is_some_and(|pair| pair.ends_with(format!(":{text}").as_bytes())) {
                    continue;
                }
            }
            assert!(with(value).is_err(), "{provider}: byte {at}");
        }
    }
}

#[test]
fn hook_auth_there_is_no_hook_without_a_secret() {
    assert!(Secret::new("").is_none());
    assert!(Secret::new(" \n").is_none());
    for bad in [
        "whsec_",
        "whsec_ ",
        "whsec_AAAA",
        "whsec_not base64",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        &format!("whsec_{}", STANDARD.encode([7; 65])),
    ] {
        for provider in [Provider::Generic, Provider::GitLab] {
            let error = Hook::new(provider, &secret(bad), None).unwrap_err();
            assert_eq!(eeveon_core::Diagnose::code(&error), "source/hook-secret", "{bad}");
            let kept = bad.len() < 8 || !error.to_string().contains(bad);
            assert!(kept, "{error}");
            assert!(Hook::new(provider, &secret(SIGNING), Some(&secret(bad))).is_err(), "{bad}");
        }
    }
    // An empty key proves nothing to any hook.
    for provider in Provider::ALL {
        let hook = hook(provider, usual(provider));
        for forged in [
            header("X-Hub-Signature-256", format!("sha256={}", hex("", PING))),
            header("X-Hub-Signature", format!("sha256={}", hex("", PING))),
            header("X-Gitea-Signature", hex("", PING)),
            header("X-Gitea-Signature", ""),
            header("X-Forgejo-Signature", hex("", PING)),
            header("X-Gitlab-Token", ""),
            header("X-EEveon-Token", ""),
            header("Authorization", format!("Basic {}", STANDARD.encode(":"))),
            header("Authorization", "Basic "),
            header("Authorization", ""),
        ] {
            assert!(receive(&hook, &[forged], PING).is_err(), "{provider}");
        }
    }
}

#[test]
fn hook_auth_sha1_alone_is_nothing_and_beside_sha256_no_matter() {
    let hook = hook(Provider::GitHub, PLAIN);
    // HMAC-SHA1 of the body under the secret, which older GitHub sends.
    let old = header("X-Hub-Signature", "sha1=8b0ba0ea8a1d4ec5b25a0a1a2f3f53dee4b5e8b2");
    assert_eq!(code(receive(&hook, std::slice::from_ref(&old), PING)), "source/hook-refused");
    let disguised = header("X-Hub-Signature-256", "sha1=8b0ba0ea8a1d4ec5b25a0a1a2f3f53dee4b5e8b2");
    assert_eq!(code(receive(&hook, &[disguised], PING)), "source/hook-refused");
    let mut both = signed(Provider::GitHub, "ping", PLAIN, PING);
    assert!(both.iter().any(|(name, _)| name == "X-Hub-Signature"));
    assert!(receive(&hook, &both, PING).is_ok());
    both.retain(|(name, _)| name != "X-Hub-Signature-256");
    assert_eq!(code(receive(&hook, &both, PING)), "source/hook-refused");
}

#[test]
fn hook_auth_a_header_that_counts_twice_is_refused() {
    for provider in Provider::ALL {
        let text = usual(provider);
        let genuine = signed(provider, "ping", text, PING);
        let read: Vec<&Header> = genuine
            .iter()
            .filter(|(name, _)| {
                let ignored =
                    (provider == Provider::GitHub && name == "X-Hub-Signature") || name == "X-Gitlab-Event";
                !ignored
            })
            .collect();
        assert!(!read.is_empty());
        for (name, value) in read {
            for twin in [value.clone(), b"forged".to_vec()] {
                for first in [true, false] {
                    let twin = (name.to_uppercase(), twin.clone());
                    let mut doubled = genuine.clone();
                    doubled.insert(if first { 0 } else { genuine.len() }, twin);
                    let found = receive(&hook(provider, text), &doubled, PING);
                    assert_eq!(code(found), "source/hook-refused", "{provider} {name}");
                }
            }
        }
        let mut more = genuine.clone();
        more.extend([header("X-Forwarded-For", "a"), header("X-Forwarded-For", "b")]);
        assert!(receive(&hook(provider, text), &more, PING).is_ok(), "{provider}");
    }
}

#[test]
fn hook_auth_two_secrets_count_while_one_is_exchanged() {
    for provider in Provider::ALL {
        let (old, new) = match provider {
            Provider::Generic => (SIGNING, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            _ => (PLAIN, "new secret"),
        };
        let both = Hook::new(provider, &secret(new), Some(&secret(old))).unwrap();
        let single = hook(provider, new);
        for (text, after) in [(old, false), (new, true)] {
            let headers = signed(provider, "ping", text, PING);
            assert!(receive(&both, &headers, PING).is_ok(), "{provider}");
            assert_eq!(receive(&single, &headers, PING).is_ok(), after, "{provider}");
        }
        assert!(!format!("{both:?}").contains(new) && !format!("{both:?}").contains(old));
    }
}

#[test]
fn hook_auth_secrets_may_be_any_text() {
    for text in ["ünï cødé 日本語", "a:b:c", " spaces ", "\u{1}\u{7f}", &"long".repeat(1000)] {
        for provider in Provider::ALL {
            if provider == Provider::Generic {
                continue;
            }
            let headers = signed(provider, "ping", text, PING);
            assert!(receive(&hook(provider, text), &headers, PING).is_ok(), "{provider} {text}");
        }
    }
}

#[test]
fn hook_auth_a_signed_time_counts_for_five_minutes() {
    for provider in [Provider::Generic, Provider::GitLab] {
        for (time, fine) in [
            (NOW, true),
            (NOW - 300, true),
            (NOW + 300, true),
            (NOW - 301, false),
            (NOW + 301, false),
            (0, false),
            (i64::MAX, false),
        ] {
            let headers = [
                header("webhook-id", "msg_1"),
                header("webhook-timestamp", time.to_string()),
                header("webhook-signature", v1(SIGNING, "msg_1", time, PING)),
            ];
            let found = receive(&hook(provider, SIGNING), &headers, PING);
            assert_eq!(found.is_ok(), fine, "{provider} {time}");
        }
    }
}

#[test]
fn hook_auth_a_replay_cannot_change_its_id_or_time() {
    let genuine = signed(Provider::Generic, "", SIGNING, PING);
    let hook = hook(Provider::Generic, SIGNING);
    assert_eq!(receive(&hook, &genuine, PING).unwrap().id.unwrap().as_str(), "msg_1");
    for (at, value) in [
        (0, "msg_2"),
        (0, ""),
        (0, "msg_1.1614265330"),
        (1, "1614265331"),
        (1, "+1614265330"),
        (1, " 1614265330"),
        (1, "1614265330.0"),
        (1, "-1"),
        (1, ""),
        (1, "99999999999999999999999"),
    ] {
        let mut replay = genuine.clone();
        replay[at].1 = value.as_bytes().to_vec();
        assert_eq!(code(receive(&hook, &replay, PING)), "source/hook-refused", "{value}");
    }
    for gone in 0..3 {
        let mut replay = genuine.clone();
        replay.remove(gone);
        assert_eq!(code(receive(&hook, &replay, PING)), "source/hook-refused");
    }
}

#[test]
fn hook_auth_any_of_several_signatures_counts() {
    let good = v1(SIGNING, "msg_1", NOW, PING);
    let bad = v1("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "msg_1", NOW, PING);
    for (given, fine) in [
        (good.clone(), true),
        (format!("{bad} {good}"), true),
        (format!("{good} {bad}"), true),
        (format!("v1a,AAAA  {good} "), true),
        (format!("{bad} {bad}"), false),
        (good.replace("v1,", "v2,"), false),
        (good.replace("v1,", ""), false),
        (format!("{bad},{good}"), false),
        ("v1, v1,".to_owned(), false),
        (String::new(), false),
    ] {
        let mut headers = signed(Provider::Generic, "", SIGNING, PING);
        headers[2].1 = given.clone().into_bytes();
        let found = receive(&hook(Provider::Generic, SIGNING), &headers, PING);
        assert_eq!(found.is_ok(), fine, "{given}");
    }
}

#[test]
fn hook_auth_a_signing_token_of_gitlab_is_no_password() {
    let hook = hook(Provider::GitLab, SIGNING);
    assert_eq!(code(receive(&hook, &[header("X-Gitlab-Token", SIGNING)], PING)), "source/hook-refused");
    // GitLab 19 sends id and time with every delivery, and with a signing token both proofs.
    let mut headers = signed(Provider::GitLab, "Push Hook", SIGNING, PING);
    headers.push(header("X-Gitlab-Token", PLAIN));
    assert!(receive(&hook, &headers, PING).is_ok());
    let plain = super::hook(Provider::GitLab, PLAIN);
    assert!(receive(&plain, &headers, PING).is_ok());
    headers.retain(|(name, _)| name != "webhook-signature");
    assert!(receive(&plain, &headers, PING).is_ok());
    assert!(receive(&hook, &headers, PING).is_err());
    // From one to the other.
    let both = Hook::new(Provider::GitLab, &secret(SIGNING), Some(&secret(PLAIN))).unwrap();
    assert!(receive(&both, &headers, PING).is_ok());
}

#[test]
fn hook_auth_azure_proves_itself_with_a_password() {
    let hook = hook(Provider::AzureDevOps, PLAIN);
    let basic = |text: &str| header("authorization", format!("Basic {}", STANDARD.encode(text)));
    for good in [
        basic(&format!("eeveon:{PLAIN}")),
        basic(&format!(":{PLAIN}")),
        header("Authorization", format!("bASIC {}", STANDARD.encode(format!("a:{PLAIN}")))),
        header("X-EEveon-Token", PLAIN),
    ] {
        assert!(receive(&hook, std::slice::from_ref(&good), PING).is_ok(), "{good:?}");
    }
    for bad in [
        basic(PLAIN),
        basic(&format!("{PLAIN}:")),
        basic(&format!("eeveon:{PLAIN} ")),
        header("Authorization", format!("Bearer {PLAIN}")),
        header("Authorization", "Basic"),
        header("Authorization", "Basic \u{e9}\u{e9}"),
        header("X-EEveon-Token", format!("{PLAIN}x")),
    ] {
        assert_eq!(code(receive(&hook, std::slice::from_ref(&bad), PING)), "source/hook-refused", "{bad:?}");
    }
    // The header decides where both are there: a proxy in between may use the other one for itself.
    let both = [basic(&format!("eeveon:{PLAIN}")), header("X-EEveon-Token", "wrong")];
    assert!(receive(&hook, &both, PING).is_err());
}

#[test]
fn a_secret_is_never_shown() {
    for provider in Provider::ALL {
        let hook = hook(provider, usual(provider));
        assert!(!format!("{hook:?}").contains(usual(provider)));
        let headers = signed(provider, "ping", usual(provider), PING);
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let authentic = hook.verify(headers, PING, now()).unwrap();
        assert!(!format!("{authentic:?}").contains(usual(provider)));
    }
}
