//! Deliveries as forges really sent them: all are understood, and only pushes, tags and releases deploy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eeveon_source::forge::{Delivery, Event, Filter, Provider, decide};

use super::{code, fixtures, malformed::kinds, read};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|end| end == "json") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// Returns what deploys when everything may.
fn deploys(delivery: &Delivery) -> bool {
    let branch = delivery.events.iter().find_map(|event| match event {
        Event::Push { branch, .. } => Some(branch.clone()),
        _ => None,
    });
    let branch = branch.unwrap_or_else(|| "main".to_owned());
    let all = Filter { branch, paths: Vec::new(), tags: Some("**".to_owned()), releases: true };
    let decision = decide(&delivery.events, &all);
    assert!(!decision.why.is_empty());
    decision.deploy.is_some()
}

#[test]
fn every_kind_of_delivery_of_github_is_understood() {
    let Some(folder) = fixtures("github-octokit/payload-examples/api.github.com") else { return };
    let (mut seen, mut deployed, mut removed) = (0, 0, 0);
    for path in files(&folder) {
        let kind = path.strip_prefix(&folder).unwrap().iter().next().unwrap().to_str().unwrap().to_owned();
        let body = fs::read(&path).unwrap();
        let delivery =
            read(Provider::GitHub, &kind, &body).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        seen += 1;
        if deploys(&delivery) {
            deployed += 1;
            assert!(matches!(kind.as_str(), "push" | "create" | "release"), "{}", path.display());
            assert!(delivery.repository.is_some() && delivery.sender.is_some());
        }
        if delivery
            .events
            .iter()
            .any(|event| matches!(event, Event::TagDeleted { .. } | Event::BranchDeleted { .. }))
        {
            removed += 1;
            assert!(matches!(kind.as_str(), "push" | "delete"), "{}", path.display());
        }
        assert_eq!(delivery.events == [Event::Ping], kind == "ping", "{}", path.display());
    }
    // 2 pushes of 6, 4 tags of 4, 3 of 12 releases; 4 + 2 removals.
    assert!(seen > 250 && deployed >= 8 && removed >= 6, "{seen} {deployed} {removed}");
}

#[test]
fn deliveries_of_all_forges_are_understood() {
    let Some(folder) = fixtures("woodpecker/server/forge") else { return };
    let mut kinds_seen = Vec::new();
    for (name, provider) in [
        ("github", Provider::GitHub),
        ("gitlab", Provider::GitLab),
        ("gitea", Provider::Gitea),
        ("forgejo", Provider::Forgejo),
        ("bitbucket", Provider::BitbucketCloud),
        ("bitbucketdatacenter", Provider::BitbucketDataCenter),
    ] {
        let paths = files(&folder.join(name).join("fixtures"));
        assert!(!paths.is_empty(), "{name}");
        for path in paths {
            let file = path.file_stem().unwrap().to_str().unwrap();
            if file == "PostBuildStatus" {
                continue; // What is sent to the forge.
            }
            let pushed = file.starts_with("HookPush");
            let kind = match (provider, file) {
                (Provider::BitbucketCloud, _) if pushed => "repo:push",
                (Provider::BitbucketCloud, _) => "pullrequest:created",
                (Provider::BitbucketDataCenter, _) if pushed => "repo:refs_changed",
                (Provider::BitbucketDataCenter, _) => "pr:opened",
                (Provider::Gitea | Provider::Forgejo, "HookTag") => "create",
                (_, "HookTag") => "push",
                (_, "HookRelease") => "release",
                _ if pushed => "push",
                _ => "pull_request",
            };
            let body = fs::read(&path).unwrap();
            let delivery = read(provider, kind, &body).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            // A push of a branch to no commit is not among them.
            let wanted = pushed || matches!(file, "HookTag" | "HookRelease" | "WebhookReleaseBody");
            let wanted = wanted && !file.starts_with("HookPull");
            assert_eq!(deploys(&delivery), wanted, "{}: {:?}", path.display(), delivery.events);
            if wanted {
                let repository = delivery.repository.unwrap();
                assert!(!repository.urls.is_empty(), "{}", path.display());
                // GitLab does not say who made a release.
                assert_eq!(delivery.sender.is_none(), file == "WebhookReleaseBody", "{}", path.display());
                kinds_seen.push((provider, kind));
            }
        }
    }
    assert!(kinds_seen.len() >= 18, "{kinds_seen:?}");
}

/// What one forge sends, read as if another had sent it, or as another kind, or cut off.
#[test]
fn hook_dos_no_payload_disturbs_any_reader() {
    let folders = ["github-octokit/payload-examples/api.github.com", "woodpecker/server/forge"];
    for path in folders.into_iter().filter_map(fixtures).flat_map(|folder| files(&folder)) {
        let body = fs::read(&path).unwrap();
        for provider in Provider::ALL {
            for kind in kinds(provider) {
                for cut in [body.len(), body.len() / 2, body.len().saturating_sub(3)] {
                    let found = read(provider, kind, &body[..cut]);
                    if found.is_err() {
                        assert_eq!(code(found), "source/hook-malformed", "{}", path.display());
                    }
                }
            }
        }
    }
}
