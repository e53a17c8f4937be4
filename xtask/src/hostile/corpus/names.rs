//! Names of branches and addresses that try to be something else: options, commands, sequences.

use super::Class;
use crate::hostile::{
    repo::ordinary,
    stage::{Expect, Scene},
};

/// Branches git allows, and those it does not.
pub(super) fn branches() -> Class {
    let mut class = Class::new("branch");
    for (name, branch) in [
        ("command", "a;touch${IFS}$PWNED"),
        ("substitution", "$(touch${IFS}pwned)"),
        ("backticks", "`touch${IFS}pwned`"),
        ("pipe", "a|touch${IFS}pwned"),
        ("quotes", "a'b\"c"),
        ("bidi", "main\u{202e}niam"),
        ("csi", "main\u{9b}2J"),
        ("osc", "main\u{9d}0;title\u{9c}"),
        ("invisible", "ma\u{200b}in\u{feff}"),
        ("percent", "%0aHost%20x"),
        ("folder", "refs/heads/main"),
    ] {
        class.case(name, move |place| {
            let repo = place.repo()?;
            let tree = repo.tree_of(&[b"index.html"])?;
            repo.commit_raw(branch, &ordinary(&tree, "something"))?;
            let live = Expect::Live(vec![
                ("index.html", b"x\n".to_vec()),
                ("branch.txt", branch.as_bytes().to_vec()),
            ]);
            let mut scene = Scene::of(&repo.path, live);
            scene.branch = branch.to_owned();
            scene.build = vec!["printf %s \"$EEVEON_BRANCH\" > branch.txt"];
            Ok(scene)
        });
    }
    for (name, branch) in [
        ("option", "--upload-pack=touch pwned"),
        ("dash", "-x"),
        ("dots", "a..b"),
        ("reflog", "@{-1}"),
        ("newline", "a\nb"),
        ("escape", "a\u{1b}[2Jb"),
        ("lock", "a.lock"),
        ("traversal", "../../hooks/x"),
        ("space", "a b"),
    ] {
        class.case(name, move |place| {
            let repo = place.repo()?;
            repo.commit(&repo.tree_of(&[b"index.html"])?)?;
            let mut scene = Scene::of(&repo.path, Expect::Refused(&["config/invalid"]));
            scene.branch = branch.to_owned();
            Ok(scene)
        });
    }
    class.case("long", |place| {
        let repo = place.repo()?;
        let (tree, branch) = (repo.tree_of(&[b"index.html"])?, "b".repeat(240));
        repo.commit_raw(&branch, &ordinary(&tree, "something"))?;
        let mut scene = Scene::of(&repo.path, Expect::Live(vec![("index.html", b"x\n".to_vec())]));
        scene.branch = branch;
        Ok(scene)
    });
    class
}

/// Addresses that start programs, read other places, or smuggle a second line.
pub(super) fn addresses() -> Class {
    let mut class = Class::new("address");
    for (name, address) in [
        ("ext", "ext::sh -c touch% $PWNED"),
        ("fd", "fd::17"),
        ("upload-pack", "--upload-pack=touch $PWNED"),
        ("short-option", "-utouch $PWNED"),
        ("proxy-command", "ssh://-oProxyCommand=touch$PWNED/x"),
        ("proxy-command-scp", "-oProxyCommand=touch$PWNED:x"),
        ("proxy-command-user", "-oProxyCommand=x@host:x"),
        ("file-elsewhere", "file://elsewhere/x"),
        ("http", "http://example.org/x.git"),
        ("git", "git://example.org/x.git"),
        ("password", "https://ada:pass-that-must-not-show@example.org/x.git"),
        ("newline", "https://example.org/x\nhost=evil.example"),
        ("return", "https://example.org/x\rhost=evil.example"),
        ("encoded-newline", "ssh://example.org/x%0ahost=evil"),
        ("escape", "https://example.org/\u{1b}[2J"),
        ("nul", "ssh://example.org/x%00y"),
        ("host-command", "ssh://$(touch$PWNED)/x"),
        ("no-host", "https:///x.git"),
        ("helper", "transport::https://example.org/x"),
    ] {
        class.case(name, move |place| {
            place.repo()?;
            let address = address.replace("$PWNED", &place.pwned());
            Ok(Scene::of(address, Expect::Refused(&["config/invalid"])))
        });
    }
    class.case("path-command", |place| {
        let path = place.repos().join("a;touch pwned;$(touch pwned) '\"&");
        let repo = crate::hostile::repo::Repo::make(&path)?;
        repo.commit(&repo.tree_of(&[b"index.html"])?)?;
        Ok(Scene::of(&path, Expect::Live(vec![("index.html", b"x\n".to_vec())])))
    });
    class.case("path-bidi", |place| {
        let path = place.repos().join("a\u{202e}tig.b");
        let repo = crate::hostile::repo::Repo::make(&path)?;
        repo.commit(&repo.tree_of(&[b"index.html"])?)?;
        Ok(Scene::of(&path, Expect::Live(vec![("index.html", b"x\n".to_vec())])))
    });
    class
}
