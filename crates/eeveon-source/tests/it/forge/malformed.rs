//! Genuine deliveries that make no sense: refused with a reason, and never with a panic or much memory.

use eeveon_source::forge::{Event, Hook, Provider};
use serde_json::json;

use super::{code, header, hook, id, read, receive, signed, usual};

/// The kinds of event that are read, by forge.
pub(super) fn kinds(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::GitHub | Provider::Gitea | Provider::Forgejo => {
            &["push", "create", "delete", "release", "ping", "issues"]
        }
        Provider::BitbucketCloud => &["repo:push", "repo:fork"],
        Provider::BitbucketDataCenter => &["repo:refs_changed", "diagnostics:ping", "pr:opened"],
        Provider::GitLab | Provider::AzureDevOps | Provider::Generic => &[""],
    }
}

/// A push each forge would send.
fn pushes() -> Vec<(Provider, &'static str, String)> {
    let github = json!({
        "ref": "refs/heads/main", "before": id('a'), "after": id('b'),
        "commits": [], "repository": {"full_name": "a/b"}, "sender": {"login": "ada"},
    });
    let gitlab = json!({
        "object_kind": "push", "ref": "refs/heads/main", "before": id('a'), "after": id('b'),
        "commits": [], "project": {"path_with_namespace": "a/b"},
    });
    let state = json!({"type": "branch", "name": "main", "target": {"hash": id('a')}});
    let cloud = json!({
        "repository": {"full_name": "a/b"}, "push": {"changes": [{"old": state, "new": state}]},
    });
    let center = json!({
        "repository": {"slug": "b", "project": {"key": "A"}},
        "changes": [{"ref": {"id": "refs/heads/main"}, "fromHash": id('a'), "toHash": id('b')}],
    });
    let azure = json!({"eventType": "git.push", "resource": {"refUpdates": [
        {"name": "refs/heads/main", "oldObjectId": id('a'), "newObjectId": id('b')},
    ]}});
    let generic = json!({"type": "push", "data": {"ref": "refs/heads/main", "after": id('b')}});
    vec![
        (Provider::GitHub, "push", github.to_string()),
        (Provider::Gitea, "push", github.to_string()),
        (Provider::Forgejo, "push", github.to_string()),
        (Provider::GitLab, "", gitlab.to_string()),
        (Provider::BitbucketCloud, "repo:push", cloud.to_string()),
        (Provider::BitbucketDataCenter, "repo:refs_changed", center.to_string()),
        (Provider::AzureDevOps, "", azure.to_string()),
        (Provider::Generic, "", generic.to_string()),
    ]
}

#[test]
fn hook_dos_a_truncated_push_is_refused() {
    for (provider, event, body) in pushes() {
        assert!(read(provider, event, body.as_bytes()).is_ok(), "{provider}");
        for length in 0..body.len() {
            let found = read(provider, event, &body.as_bytes()[..length]);
            assert_eq!(code(found), "source/hook-malformed", "{provider} {length}");
        }
    }
}

#[test]
fn inj_ref_names_git_would_not_allow_are_refused() {
    for bad in [
        "refs/heads/--exec=x",
        "refs/heads/a..b",
        "refs/heads/",
        "refs/heads/a b",
        "refs/tags/-x",
        "refs/tags/a\\nb",
    ] {
        for (provider, event, body) in pushes() {
            let found = match provider {
                Provider::BitbucketCloud => {
                    let name = bad.trim_start_matches("refs/heads/").trim_start_matches("refs/tags/");
                    read(provider, event, body.replace("\"main\"", &format!("\"{name}\"")).as_bytes())
                }
                _ => read(provider, event, body.replace("refs/heads/main", bad).as_bytes()),
            };
            assert_eq!(code(found), "source/hook-malformed", "{provider} {bad}");
        }
    }
}

#[test]
fn ids_that_are_none_are_refused() {
    for bad in ["", "HEAD", "abc", &"B".repeat(40), &"b".repeat(41), &"é".repeat(40)] {
        for (provider, event, body) in pushes() {
            // Bitbucket Cloud's has no b.
            let changed = body.replace(&id('b'), bad).replace(&id('a'), bad);
            let found = read(provider, event, changed.as_bytes());
            assert_eq!(code(found), "source/hook-malformed", "{provider} {bad}");
        }
    }
}

#[test]
fn hook_dos_depth_and_bytes_that_are_no_text_are_no_trouble() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    for provider in Provider::ALL {
        for kind in kinds(provider) {
            for body in [
                deep("[", "]").into_bytes(),
                deep("{\"a\":", "}").into_bytes(),
                "[".repeat(100_000).into_bytes(),
                b"\xff\xfe\x00".to_vec(),
                b"{\"ref\":\"\xff\"}".to_vec(),
                b"{\"ref\":\"\\ud800\"}".to_vec(),
                b"null".to_vec(),
                b"[]".to_vec(),
                b"{}".to_vec(),
                b"{\"ref\":1}".to_vec(),
                b"".to_vec(),
                b"payload=%7B%7D".to_vec(),
            ] {
                if let Err(error) = read(provider, kind, &body) {
                    let shown = error.to_string();
                    assert_eq!(code(Err(error)), "source/hook-malformed", "{provider} {kind}");
                    assert!(shown.len() < 2000 && !shown.contains(eeveon_core::untrusted::is_hazard));
                }
            }
        }
    }
    // Deep inside what is not looked at, it does not even matter.
    for (provider, event, body) in pushes() {
        let body = body.replacen('{', &format!("{{\"unknown\":{},", deep("[", "]")), 1);
        assert!(read(provider, event, body.as_bytes()).is_ok(), "{provider}");
    }
}

#[test]
fn hook_dos_long_lists_are_passed_over() {
    let body = |list: &str, item: &str, rest: serde_json::Value| {
        let many = vec![item; 200_000].join(",");
        rest.to_string().replace(&format!("\"{list}\":[]"), &format!("\"{list}\":[{many}]"))
    };
    let push = json!({
        "ref": "refs/heads/main", "before": id('a'), "after": id('b'), "commits": [],
        "repository": {"full_name": "a/b"},
    });
    let found = read(Provider::GitHub, "push", body("commits", r#"{"id":"x"}"#, push).as_bytes());
    assert_eq!(found.unwrap().events.len(), 1);
    let center = json!({"repository": {"slug": "b", "project": {"key": "A"}}, "changes": []});
    let change = format!(r#"{{"ref":{{"id":"refs/heads/main"}},"fromHash":"{0}","toHash":"{0}"}}"#, id('a'));
    let found =
        read(Provider::BitbucketDataCenter, "repo:refs_changed", body("changes", &change, center).as_bytes());
    let error = found.unwrap_err().to_string();
    assert!(error.contains("more than 1000"), "{error}");
}

#[test]
fn hook_dos_long_names_are_cut_and_long_paths_not_matched() {
    let long = "x/".repeat(100_000);
    let body = json!({"type": "push", "data": {
        "ref": "refs/heads/main", "paths": [long], "repository": long, "sender": long,
    }});
    let delivery = read(Provider::Generic, "", body.to_string().as_bytes()).unwrap();
    assert!(matches!(&delivery.events[0], Event::Push { paths: None, .. }));
    assert!(delivery.sender.unwrap().as_raw().len() < 1000);
    assert!(delivery.repository.unwrap().full_name.as_raw().len() < 1000);
    let body = json!({"type": long});
    let delivery = read(Provider::Generic, "", body.to_string().as_bytes()).unwrap();
    assert!(matches!(&delivery.events[0], Event::Other { name } if name.as_raw().len() < 1000));
}

#[test]
fn a_form_is_told_from_json() {
    let error = read(Provider::GitHub, "push", b"payload=%7B%22ref%22%3A1%7D").unwrap_err();
    assert!(error.to_string().contains("application/json"), "{error}");
}

#[test]
fn what_is_said_twice_is_refused() {
    for (provider, event, body) in pushes() {
        let twice = match provider {
            Provider::GitLab => body.replacen("{", r#"{"object_kind":"issue","#, 1),
            Provider::AzureDevOps => body.replacen("{", r#"{"eventType":"x","#, 1),
            Provider::Generic => body.replacen("{", r#"{"type":"ping","#, 1),
            _ => body.replacen("{", r#"{"repository":{"full_name":"c/d"},"#, 1),
        };
        assert_eq!(code(read(provider, event, twice.as_bytes())), "source/hook-malformed", "{provider}");
    }
}

#[test]
fn headers_that_are_read_are_checked() {
    let with = |provider: Provider, name: &str, value: &[u8]| {
        let body = b"{}";
        let mut headers = signed(provider, "issues", usual(provider), body);
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        headers.push(header(name, value));
        receive(&hook(provider, usual(provider)), &headers, body)
    };
    assert!(with(Provider::GitHub, "X-GitHub-Delivery", b"abc-1").is_ok());
    for bad in [&b""[..], b"a b", b"\xff", "ä".as_bytes(), &[b'x'; 201]] {
        assert_eq!(code(with(Provider::GitHub, "X-GitHub-Delivery", bad)), "source/hook-malformed");
        assert_eq!(code(with(Provider::Gitea, "X-Gitea-Delivery", bad)), "source/hook-malformed");
    }
    assert_eq!(code(with(Provider::GitHub, "X-GitHub-Event", b"\xff")), "source/hook-malformed");
    let hostile = with(Provider::GitHub, "X-GitHub-Event", "a\u{9b}2J".as_bytes()).unwrap();
    assert!(!format!("{hostile:?}").contains('\u{9b}'));
    // Without its event header, a delivery says nothing.
    for (provider, _, body) in pushes() {
        let hook: Hook = hook(provider, usual(provider));
        let mut headers = signed(provider, "push", usual(provider), body.as_bytes());
        let before = headers.len();
        headers.retain(|(name, _)| {
            !matches!(name.as_str(), "X-GitHub-Event" | "X-Gitea-Event" | "X-Forgejo-Event" | "X-Event-Key")
        });
        if headers.len() < before {
            assert_eq!(code(receive(&hook, &headers, body.as_bytes())), "source/hook-malformed");
        }
    }
}
