//! What deploys, and the words for it.

use eeveon_core::Untrusted;
use eeveon_source::{
    Want,
    forge::{Event, Filter, ReleaseAction, decide},
};

use super::commit;

fn filter() -> Filter {
    Filter { branch: "main".to_owned(), paths: Vec::new(), tags: None, releases: false }
}

fn push(branch: &str, paths: Option<&[&str]>) -> Event {
    Event::Push {
        branch: branch.to_owned(),
        before: commit('a'),
        after: commit('b'),
        forced: false,
        paths: paths.map(|paths| paths.iter().map(|path| Untrusted::from(*path)).collect()),
    }
}

fn tag(name: &str) -> Event {
    Event::Tag { tag: name.to_owned(), object: None }
}

fn release(action: ReleaseAction, draft: bool, prerelease: bool) -> Event {
    Event::Release { tag: "v1".to_owned(), action, draft, prerelease }
}

fn words(event: &Event, filter: &Filter) -> (Option<Want>, String) {
    let decision = decide(std::slice::from_ref(event), filter);
    (decision.deploy, decision.why)
}

#[test]
fn the_branch_is_spelt_exactly() {
    let (deploy, why) = words(&push("main", None), &filter());
    assert_eq!(deploy, Some(Want::Branch("main".to_owned())));
    assert_eq!(why, "push to `main` deploys: it is the branch of this project");
    let (deploy, why) = words(&push("dev", None), &filter());
    assert_eq!(deploy, None);
    assert_eq!(why, "push to `dev` ignored: this project deploys `main`");
    for other in ["Main", "main2", "x/main", "mai", "m*"] {
        assert_eq!(words(&push(other, None), &filter()).0, None, "{other}");
    }
}

#[test]
fn paths_are_patterns_as_in_deployignore() {
    let with = |patterns: &[&str], paths: &[&str]| {
        let paths_wanted = patterns.iter().map(|text| (*text).to_owned()).collect();
        words(&push("main", Some(paths)), &Filter { paths: paths_wanted, ..filter() })
    };
    for (patterns, paths, deploys) in [
        (&["app/"][..], &["app/a.rs"][..], true),
        (&["app/"], &["docs/a.md", "app/deep/er/a.rs"], true),
        (&["app/"], &["docs/a.md"], false),
        (&["app/"], &["app"], false),
        (&["/app"], &["x/app/a"], false),
        (&["*.rs"], &["x/y/a.rs"], true),
        (&["src/**/*.rs"], &["src/a/b/c.rs"], true),
        (&["src/**/*.rs"], &["test/a.rs"], false),
        (&["*", "!docs/"], &["docs/a"], false),
        (&["*", "!docs/"], &["docs/a", "b"], true),
        (&["app/"], &[], false),
        (&["*", "!docs/", "docs/api/"], &["docs/api/x"], true),
        (&["!docs/"], &["docs/a"], false),
        (&["!docs/"], &["docs/a", "src/a"], true),
        (&["app/"], &["//", "/"], false),
    ] {
        let (deploy, why) = with(patterns, paths);
        assert_eq!(deploy.is_some(), deploys, "{patterns:?} {paths:?}: {why}");
    }
    assert_eq!(with(&["app/"], &["b", "app/a"]).1, "push to `main` deploys: it changes `app/a`");
    assert_eq!(
        with(&["app/", "*.toml"], &["b", "c"]).1,
        "push to `main` ignored: it changes 2 other files, and this project deploys on changes of `app/`, `*.toml`"
    );
}

#[test]
fn what_is_not_listed_may_have_changed() {
    let (deploy, why) = words(&push("main", None), &Filter { paths: vec!["app/".to_owned()], ..filter() });
    assert_eq!(deploy, Some(Want::Branch("main".to_owned())));
    assert_eq!(why, "push to `main` deploys: the forge does not list every file that changed");
}

#[test]
fn tags_deploy_when_they_match() {
    let (deploy, why) = words(&tag("v1.2"), &filter());
    assert_eq!((deploy, why.as_str()), (None, "tag `v1.2` ignored: this project deploys no tags"));
    let tags = Filter { tags: Some("v*".to_owned()), ..filter() };
    let (deploy, why) = words(&tag("v1.2"), &tags);
    assert_eq!(deploy, Some(Want::Tag("v1.2".to_owned())));
    assert_eq!(why, "tag `v1.2` deploys: it matches `v*`");
    for other in ["1.2", "nightly", "v1/x", "xv1"] {
        let (deploy, why) = words(&tag(other), &tags);
        assert_eq!(deploy, None, "{other}");
        assert_eq!(why, format!("tag `{other}` ignored: this project deploys tags `v*`"));
    }
}

#[test]
fn releases_deploy_when_they_are_published() {
    let yes = Filter { releases: true, ..filter() };
    let published = release(ReleaseAction::Published, false, false);
    let (deploy, why) = words(&published, &yes);
    assert_eq!(deploy, Some(Want::Tag("v1".to_owned())));
    assert_eq!(why, "release `v1` deploys: it was published");
    for (event, filter, against) in [
        (&published, &filter(), "this project deploys no releases"),
        (&release(ReleaseAction::Published, true, false), &yes, "it is a draft"),
        (&release(ReleaseAction::Published, false, true), &yes, "it is a pre-release"),
        (&release(ReleaseAction::Changed, false, false), &yes, "it was changed, not published"),
        (
            &release(ReleaseAction::Deleted, false, false),
            &yes,
            "it was removed, and what serves goes on serving",
        ),
    ] {
        let (deploy, why) = words(event, filter);
        assert_eq!(deploy, None);
        assert_eq!(why, format!("release `v1` ignored: {against}"));
    }
}

#[test]
fn removals_and_all_else_deploy_nothing() {
    let all = Filter { tags: Some("**".to_owned()), releases: true, ..filter() };
    for (event, said) in [
        (
            Event::BranchDeleted { branch: "main".to_owned() },
            "removal of branch `main` ignored: what serves goes on serving",
        ),
        (
            Event::TagDeleted { tag: "v1".to_owned() },
            "removal of tag `v1` ignored: what serves goes on serving",
        ),
        (Event::Ping, "ping answered: the hook works"),
        (
            Event::Other { name: "issues".into() },
            "event `issues` ignored: only pushes, tags and releases deploy",
        ),
    ] {
        assert_eq!(words(&event, &all), (None, said.to_owned()));
    }
    assert_eq!(decide(&[], &all).deploy, None);
}

#[test]
fn of_several_things_the_one_that_deploys_counts() {
    let tags = Filter { tags: Some("v*".to_owned()), ..filter() };
    let found = decide(&[push("dev", None), push("main", None), push("x", None)], &tags);
    assert_eq!(found.deploy, Some(Want::Branch("main".to_owned())));
    assert_eq!(found.why, "push to `main` deploys: it is the branch of this project (and 2 more)");
    let found = decide(&[tag("v1"), tag("v2"), tag("x")], &tags);
    assert_eq!(found.deploy, Some(Want::Tag("v2".to_owned())));
    let found = decide(&[push("dev", None), push("x", None)], &tags);
    assert_eq!(found.deploy, None);
    assert_eq!(found.why, "push to `dev` ignored: this project deploys `main` (and 1 more)");
}

#[test]
fn esc_words_cannot_disturb_a_terminal() {
    let evil = "a\u{1b}]8;;http://x\u{7}\n\u{202e}b";
    for event in [
        push(evil, None),
        push("main", Some(&[evil])),
        tag(evil),
        Event::Other { name: evil.into() },
        Event::BranchDeleted { branch: evil.to_owned() },
        Event::TagDeleted { tag: evil.to_owned() },
    ] {
        for paths in [Vec::new(), vec!["*".to_owned()]] {
            let (_, why) = words(&event, &Filter { paths, tags: Some("*".to_owned()), ..filter() });
            assert!(!why.contains(eeveon_core::untrusted::is_hazard), "{why}");
        }
    }
}
