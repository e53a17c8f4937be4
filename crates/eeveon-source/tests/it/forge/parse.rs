//! What is read of deliveries, forge by forge.

use eeveon_source::forge::{Event, Provider, ReleaseAction, RepoNames, steps};
use serde_json::{Value, json};

use super::{commit, id, one, read};

const ZERO: &str = "0000000000000000000000000000000000000000";

fn github(more: Value) -> String {
    let mut body = json!({
        "ref": "refs/heads/main", "before": id('a'), "after": id('b'),
        "created": false, "deleted": false, "forced": false,
        "commits": [{"id": id('b'), "added": ["new"], "modified": ["src/a.rs"], "removed": []}],
        "repository": {"full_name": "acme/shop", "clone_url": "https://github.com/acme/shop.git"},
        "pusher": {"name": "someone"}, "sender": {"login": "ada"},
        "head_commit": {"author": {"name": "mallory"}},
    });
    merge(&mut body, more);
    body.to_string()
}

fn merge(body: &mut Value, more: Value) {
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
}

fn paths(event: Event) -> Option<Vec<String>> {
    match event {
        Event::Push { paths, .. } => {
            paths.map(|paths| paths.iter().map(|path| path.as_raw().to_owned()).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn gate_identity_a_push_of_github_says_who_and_where() {
    let delivery = read(Provider::GitHub, "push", github(json!({})).as_bytes()).unwrap();
    assert_eq!(delivery.id.unwrap().as_str(), "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    assert_eq!(delivery.sender, Some("ada".into()));
    let names =
        RepoNames { full_name: "acme/shop".into(), urls: vec!["https://github.com/acme/shop.git".into()] };
    assert_eq!(delivery.repository, Some(names));
    let expected = Event::Push {
        branch: "main".to_owned(),
        before: commit('a'),
        after: commit('b'),
        forced: false,
        paths: Some(vec!["new".into(), "src/a.rs".into()]),
    };
    assert_eq!(delivery.events, [expected]);
}

#[test]
fn branches_and_tags_that_come_and_go_are_told_apart() {
    let tell = |more: Value| one(Provider::GitHub, "push", &github(more));
    assert_eq!(
        tell(json!({"before": ZERO, "created": true})),
        Event::Push {
            branch: "main".to_owned(),
            before: None,
            after: commit('b'),
            forced: false,
            paths: None
        }
    );
    assert_eq!(
        tell(json!({"after": ZERO, "deleted": true, "commits": []})),
        Event::BranchDeleted { branch: "main".to_owned() }
    );
    assert_eq!(
        tell(json!({"ref": "refs/tags/v1", "before": ZERO})),
        Event::Tag { tag: "v1".to_owned(), object: commit('b') }
    );
    assert_eq!(
        tell(json!({"ref": "refs/tags/v1", "after": "0".repeat(64)})),
        Event::TagDeleted { tag: "v1".to_owned() }
    );
    assert_eq!(tell(json!({"ref": "refs/notes/x"})), Event::Other { name: "push to refs/notes/x".into() });
    let made = |name: &str, kind: &str| {
        let body = json!({"ref": "v1", "ref_type": kind, "repository": {"full_name": "a/b"}});
        one(Provider::Gitea, name, &body.to_string())
    };
    assert_eq!(made("create", "tag"), Event::Tag { tag: "v1".to_owned(), object: None });
    assert_eq!(made("delete", "tag"), Event::TagDeleted { tag: "v1".to_owned() });
    assert_eq!(made("delete", "branch"), Event::BranchDeleted { branch: "v1".to_owned() });
    assert_eq!(made("create", "branch"), Event::Other { name: "create".into() });
}

#[test]
fn files_are_told_only_when_all_are_listed() {
    let listed = |more: Value| paths(one(Provider::GitHub, "push", &github(more)));
    let commit = |digit: char| json!({"id": id(digit), "added": ["a"]});
    let many = |count: usize| {
        let mut commits = vec![commit('c'); count - 1];
        commits.push(commit('b'));
        json!({ "commits": commits })
    };
    assert_eq!(listed(many(19)).unwrap().len(), 19);
    for (what, more) in [
        ("as many commits as may have been left out", many(20)),
        ("more commits than are looked at", many(150)),
        ("the newest commit is not among them", json!({"commits": [commit('c')]})),
        ("no commit", json!({"commits": []})),
        ("no list of commits", json!({"commits": null})),
        ("a commit without lists", json!({"commits": [{"id": id('b')}]})),
        ("commits were taken away", json!({"forced": true})),
        ("too many files", json!({"commits": [{"id": id('b'), "added": vec!["f"; 3000]}]})),
        ("far too many files", json!({"commits": [{"id": id('b'), "removed": vec!["f"; 9000]}]})),
    ] {
        assert_eq!(listed(more), None, "{what}");
    }
    // Go writes an empty list as null.
    let go = json!({"commits": [{"id": id('b'), "added": null, "modified": ["x"], "removed": null}]});
    assert_eq!(listed(go).unwrap(), ["x"]);

    let gitea = |more: Value| {
        let mut body: Value = serde_json::from_str(&github(more)).unwrap();
        body.as_object_mut().unwrap().remove("created");
        paths(one(Provider::Gitea, "push", &body.to_string()))
    };
    assert!(gitea(many(4)).is_some());
    assert_eq!(gitea(many(5)), None);
    let mut told = many(5);
    told["total_commits"] = json!(5);
    assert!(gitea(told.clone()).is_some());
    told["total_commits"] = json!(6);
    assert_eq!(gitea(told), None);
}

#[test]
fn releases_are_understood() {
    let tell = |provider: Provider, action: &str, draft: bool| {
        let body = json!({
            "action": action, "release": {"tag_name": "v1", "draft": draft, "prerelease": true},
            "repository": {"full_name": "a/b"},
        });
        one(provider, "release", &body.to_string())
    };
    for (told, expected) in [
        ("published", ReleaseAction::Published),
        ("released", ReleaseAction::Published),
        ("edited", ReleaseAction::Changed),
        ("created", ReleaseAction::Changed),
        ("updated", ReleaseAction::Changed),
        ("deleted", ReleaseAction::Deleted),
        ("unpublished", ReleaseAction::Deleted),
    ] {
        for provider in [Provider::GitHub, Provider::Gitea, Provider::Forgejo] {
            let event = tell(provider, told, false);
            let release =
                Event::Release { tag: "v1".to_owned(), action: expected, draft: false, prerelease: true };
            assert_eq!(event, release, "{told}");
        }
    }
    assert!(matches!(tell(Provider::GitHub, "created", true), Event::Release { draft: true, .. }));
    let nameless = |draft: bool| {
        let body = json!({
            "action": "created", "release": {"tag_name": "", "draft": draft},
            "repository": {"full_name": "a/b"},
        });
        read(Provider::GitHub, "release", body.to_string().as_bytes())
    };
    assert_eq!(nameless(true).unwrap().events, [Event::Other { name: "release".into() }]);
    assert!(nameless(false).is_err());
    let gitlab = |action: &str| {
        let body = json!({
            "object_kind": "release", "action": action, "tag": "v1",
            "project": {"path_with_namespace": "a/b/c"},
        });
        one(Provider::GitLab, "", &body.to_string())
    };
    for (told, action) in [
        ("create", ReleaseAction::Published),
        ("update", ReleaseAction::Changed),
        ("delete", ReleaseAction::Deleted),
    ] {
        let release = Event::Release { tag: "v1".to_owned(), action, draft: false, prerelease: false };
        assert_eq!(gitlab(told), release);
    }
}

#[test]
fn gitlab_says_in_the_body_what_it_is_about() {
    let push = |kind: &str, total: u64| {
        json!({
            "object_kind": kind, "ref": "refs/heads/main", "before": id('a'), "after": id('b'),
            "user_username": "ada", "user_name": "Ada", "total_commits_count": total,
            "commits": [{"id": id('b'), "added": [], "modified": ["x"], "removed": []}],
            "project": {"path_with_namespace": "group/sub/shop", "git_ssh_url": "git@h:group/sub/shop.git"},
        })
        .to_string()
    };
    let delivery = read(Provider::GitLab, "anything", push("push", 1).as_bytes()).unwrap();
    assert_eq!(delivery.id.unwrap().as_str(), "f5e5f430-f57b-4e6e-9fac-d9128cd7232f");
    assert_eq!(delivery.sender, Some("ada".into()));
    assert_eq!(delivery.repository.unwrap().full_name, "group/sub/shop".into());
    assert_eq!(paths(one(Provider::GitLab, "", &push("push", 1))), Some(vec!["x".to_owned()]));
    assert_eq!(paths(one(Provider::GitLab, "", &push("push", 2))), None);
    assert_eq!(
        one(Provider::GitLab, "Push Hook", r#"{"object_kind":"issue"}"#),
        Event::Other { name: "issue".into() }
    );
    assert_eq!(
        one(Provider::GitLab, "System Hook", r#"{"event_name":"project_create"}"#),
        Event::Other { name: "project_create".into() }
    );
}

#[test]
fn bitbucket_tells_of_several_changes_at_once() {
    let state = |kind: &str, name: &str, digit: char| json!({"type": kind, "name": name, "target": {"hash": id(digit)}});
    let body = json!({
        "actor": {"nickname": "ada", "display_name": "Ada"},
        "repository": {"full_name": "acme/shop", "links": {"html": {"href": "https://bitbucket.org/acme/shop"}}},
        "push": {"changes": [
            {"old": state("branch", "main", 'a'), "new": state("branch", "main", 'b'), "forced": true},
            {"old": state("branch", "old", 'a'), "new": null, "closed": true},
            {"old": null, "new": state("tag", "v1", 'c'), "created": true},
            {"old": state("tag", "v0", 'c'), "new": null},
            {"old": null, "new": state("bookmark", "b", 'c')},
        ]},
    });
    let delivery = read(Provider::BitbucketCloud, "repo:push", body.to_string().as_bytes()).unwrap();
    assert_eq!(delivery.sender, Some("ada".into()));
    let pushed = |forced: bool| Event::Push {
        branch: "main".to_owned(),
        before: commit('a'),
        after: commit('b'),
        forced,
        paths: None,
    };
    let rest = [
        Event::BranchDeleted { branch: "old".to_owned() },
        Event::Tag { tag: "v1".to_owned(), object: commit('c') },
        Event::TagDeleted { tag: "v0".to_owned() },
    ];
    assert_eq!(delivery.events[0], pushed(true));
    assert_eq!(delivery.events[1..4], rest);
    assert_eq!(delivery.events[4], Event::Other { name: "push to bookmark b".into() });

    let change =
        |name: &str, from: &str, to: &str| json!({"ref": {"id": name}, "fromHash": from, "toHash": to});
    let body = json!({
        "actor": {"name": "ada"},
        "repository": {"slug": "shop", "project": {"key": "ACME"}, "links": {"clone": [
            {"name": "ssh", "href": "ssh://git@h:7999/acme/shop.git"},
        ]}},
        "changes": [
            change("refs/heads/main", &id('a'), &id('b')),
            change("refs/heads/old", &id('a'), ZERO),
            change("refs/tags/v1", ZERO, &id('c')),
            change("refs/tags/v0", &id('c'), ZERO),
        ],
    });
    let delivery =
        read(Provider::BitbucketDataCenter, "repo:refs_changed", body.to_string().as_bytes()).unwrap();
    assert_eq!(delivery.repository.unwrap().full_name, "ACME/shop".into());
    assert_eq!(delivery.events[0], pushed(false));
    assert_eq!(delivery.events[1..], rest);
    assert_eq!(one(Provider::BitbucketDataCenter, "diagnostics:ping", r#"{"test":true}"#), Event::Ping);
}

#[test]
fn azure_tells_of_updates_and_has_its_id_in_the_body() {
    let update =
        |name: &str, old: &str, new: &str| json!({"name": name, "oldObjectId": old, "newObjectId": new});
    let body = |updates: Value| {
        json!({
            "id": "03c164c2-8912-4d5e-8009-3707d5f83734", "eventType": "git.push", "publisherId": "tfs",
            "resource": {
                "refUpdates": updates,
                "repository": {
                    "name": "Shop", "project": {"name": "Acme"},
                    "remoteUrl": "https://dev.azure.com/acme/Acme/_git/Shop",
                },
                "pushedBy": {"displayName": "Ada", "uniqueName": "ada@example.org"},
            },
        })
        .to_string()
    };
    let updates =
        json!([update("refs/heads/main", &id('a'), &id('b')), update("refs/tags/v0", &id('c'), ZERO),]);
    let delivery = read(Provider::AzureDevOps, "", body(updates).as_bytes()).unwrap();
    assert_eq!(delivery.id.unwrap().as_str(), "03c164c2-8912-4d5e-8009-3707d5f83734");
    assert_eq!(delivery.sender, Some("ada@example.org".into()));
    let repository = delivery.repository.unwrap();
    assert_eq!(repository.full_name, "Acme/Shop".into());
    let ours = "https://ada@dev.azure.com/acme/Acme/_git/Shop".parse().unwrap();
    assert!(repository.may_be(&ours));
    assert!(matches!(&delivery.events[0], Event::Push { branch, .. } if branch == "main"));
    assert_eq!(delivery.events[1], Event::TagDeleted { tag: "v0".to_owned() });
    let error = read(Provider::AzureDevOps, "", body(Value::Null).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("Resource details to send"), "{error}");
    assert_eq!(
        one(Provider::AzureDevOps, "", r#"{"eventType":"workitem.created"}"#),
        Event::Other { name: "workitem.created".into() }
    );
}

#[test]
fn anything_else_says_as_little_as_it_likes() {
    assert_eq!(
        one(Provider::Generic, "", r#"{"type":"push","data":{"ref":"refs/heads/main"}}"#),
        Event::Push { branch: "main".to_owned(), before: None, after: None, forced: false, paths: None }
    );
    assert_eq!(
        one(Provider::Generic, "", r#"{"type":"push","data":{"ref":"refs/tags/v1"}}"#),
        Event::Tag { tag: "v1".to_owned(), object: None }
    );
    let gone = json!({"type": "push", "data": {"ref": "refs/heads/main", "after": ZERO}});
    assert_eq!(
        one(Provider::Generic, "", &gone.to_string()),
        Event::BranchDeleted { branch: "main".to_owned() }
    );
    let full = json!({"type": "push", "timestamp": "2026-01-01T00:00:00Z", "data": {
        "ref": "refs/heads/main", "before": id('a'), "after": id('b'), "forced": true,
        "paths": ["a"], "repository": "acme/shop", "sender": "robot",
    }});
    let delivery = read(Provider::Generic, "", full.to_string().as_bytes()).unwrap();
    assert_eq!(delivery.sender, Some("robot".into()));
    assert_eq!(paths(delivery.events[0].clone()), Some(vec!["a".to_owned()]));
    assert!(matches!(
        one(Provider::Generic, "", r#"{"type":"release","data":{"tag":"v1"}}"#),
        Event::Release { action: ReleaseAction::Published, draft: false, prerelease: false, .. }
    ));
    assert_eq!(one(Provider::Generic, "", r#"{"type":"ping"}"#), Event::Ping);
    assert_eq!(
        one(Provider::Generic, "", r#"{"type":"invoice.paid","data":{}}"#),
        Event::Other { name: "invoice.paid".into() }
    );
}

#[test]
fn there_are_steps_for_every_forge() {
    for provider in Provider::ALL {
        let steps = steps(provider, "https://ci.example.org/hooks/shop/x");
        assert!(steps.len() >= 4, "{provider}");
        assert_eq!(
            steps.iter().filter(|step| step.contains("https://ci.example.org/hooks/shop/x")).count(),
            1
        );
        assert!(steps.iter().any(|step| step.to_lowercase().contains("secret")), "{provider}");
    }
}
