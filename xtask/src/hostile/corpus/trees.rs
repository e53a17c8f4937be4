//! Trees whose entries have names no file should have, or that stand in each other's way.

use super::Class;
use crate::hostile::{
    repo::Entry,
    stage::{Expect, Scene},
};

const REFUSED: Expect = Expect::Refused(&["source/path"]);

/// Names.
pub(super) fn names() -> Class {
    let mut class = Class::new("name");
    let bad: [(&str, &[u8]); 18] = [
        ("dot-git", b".git"),
        ("dot-git-upper", b".GIT"),
        ("dot-git-mixed", b".GiT"),
        ("dot-git-short", b"git~1"),
        ("dot-git-zwnj", ".g\u{200c}it".as_bytes()),
        ("dot-git-bom", ".git\u{feff}".as_bytes()),
        ("dot-git-stream", b".git::$INDEX_ALLOCATION"),
        ("dot-git-space", b".git "),
        ("dot-git-dots", b".git..."),
        ("dot-git-backslash", b".git\\hooks"),
        ("parent", b".."),
        ("self", b"."),
        ("absolute", b"/etc/passwd"),
        ("traversal", b"../../../../../../outside/pwned"),
        ("inner-traversal", b"a/../../b"),
        ("slash", b"a/b"),
        ("long", &[b'n'; 256]),
        ("very-long", &[b'n'; 5000]),
    ];
    for (name, entry) in bad {
        class.case(name, move |place| {
            let repo = place.repo()?;
            repo.commit(&repo.tree_of(&[entry])?)?;
            Ok(Scene::of(&repo.path, REFUSED))
        });
        class.case(format!("{name}-folder"), move |place| {
            let repo = place.repo()?;
            let inner = repo.tree_of(&[b"config"])?;
            repo.commit(&repo.tree(&[("40000", entry, &inner)])?)?;
            Ok(Scene::of(&repo.path, REFUSED))
        });
    }
    // What is only odd is deployed as it is.
    let odd: [(&str, &'static str); 12] = [
        ("option", "-rf"),
        ("command", "$(touch pwned);`touch pwned`|&"),
        ("newline", "a\nb"),
        ("escape", "\u{1b}[2J\u{1b}]0;x\u{7}"),
        ("c1", "\u{9b}31m"),
        ("bidi", "\u{202e}txt.exe"),
        ("backslash", "a\\..\\b"),
        ("glob", "*"),
        ("device", "con"),
        ("tilde", "~"),
        ("ours", ".eeveon"),
        ("hidden-config", ".gitconfig"),
    ];
    for (name, entry) in odd {
        class.case(name, move |place| {
            let repo = place.repo()?;
            repo.commit(&repo.tree_of(&[entry.as_bytes()])?)?;
            Ok(Scene::of(&repo.path, Expect::Live(vec![(entry, b"x\n".to_vec())])))
        });
    }
    class.case("empty", |place| {
        // git gives up on it at the other end.
        let repo = place.repo()?;
        repo.commit(&repo.tree_of(&[b""])?)?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/path", "source/protocol"])))
    });
    class.case("not-utf-8", |place| {
        let repo = place.repo()?;
        repo.commit(&repo.tree_of(&[b"\xff\xfe\x80", b"index.html"])?)?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("index.html", b"x\n".to_vec())])))
    });
    class.case("modes", |place| {
        let repo = place.repo()?;
        let blob = repo.blob("x\n")?;
        // Set-user-id, world-writable, and a mode git has long forgotten.
        let entries: [Entry<'_>; 3] =
            [("104755", b"a", blob.as_str()), ("100666", b"b", &blob), ("100664", b"c", &blob)];
        repo.commit(&repo.tree(&entries)?)?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("c", b"x\n".to_vec())])))
    });
    class.case("mode-device", |place| {
        let repo = place.repo()?;
        let blob = repo.blob("x\n")?;
        repo.commit(&repo.tree(&[("20644", b"tty", &blob), ("10644", b"pipe", &blob)])?)?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/corrupt", "source/path"])))
    });
    class
}

/// Entries in each other's way.
pub(super) fn collisions() -> Class {
    let mut class = Class::new("collision");
    class.case("case", |place| {
        let repo = place.repo()?;
        repo.modes(&[("100644", "README", b"upper\n"), ("100644", "readme", b"lower\n")])?;
        let both = vec![("README", b"upper\n".to_vec()), ("readme", b"lower\n".to_vec())];
        Ok(Scene::of(&repo.path, Expect::Live(both)))
    });
    class.case("normal-form", |place| {
        let repo = place.repo()?;
        repo.modes(&[("100644", "caf\u{e9}", b"composed\n"), ("100644", "cafe\u{301}", b"decomposed\n")])?;
        let both = vec![("caf\u{e9}", b"composed\n".to_vec()), ("cafe\u{301}", b"decomposed\n".to_vec())];
        Ok(Scene::of(&repo.path, Expect::Live(both)))
    });
    class.case("case-link", |place| {
        // Where case does not count, the file would be written through the link (CVE-2021-21300).
        let repo = place.repo()?;
        repo.modes(&[
            ("120000", "a", b"b"),
            ("100644", "A/post-checkout", b"x\n"),
            ("100644", "b/c", b"x\n"),
        ])?;
        Ok(Scene::of(
            &repo.path,
            Expect::Live(vec![("a", b"b".to_vec()), ("A/post-checkout", b"x\n".to_vec())]),
        ))
    });
    class.case("twice", |place| {
        let repo = place.repo()?;
        repo.commit(&repo.tree_of(&[b"a", b"a"])?)?;
        Ok(Scene::of(&repo.path, REFUSED))
    });
    class.case("file-and-folder", |place| {
        let repo = place.repo()?;
        let (blob, inner) = (repo.blob("x\n")?, repo.tree_of(&[b"f"])?);
        repo.commit(&repo.tree(&[("100644", b"a", &blob), ("40000", b"a", &inner)])?)?;
        Ok(Scene::of(&repo.path, REFUSED))
    });
    class.case("link-and-folder", |place| {
        let repo = place.repo()?;
        let (link, inner) = (repo.blob("../../../outside")?, repo.tree_of(&[b"pwned"])?);
        repo.commit(&repo.tree(&[("120000", b"a", &link), ("40000", b"a", &inner)])?)?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/path", "source/link"])))
    });
    class.case("unsorted", |place| {
        let repo = place.repo()?;
        repo.commit(&repo.tree_of(&[b"z", b"a", b"m"])?)?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("a", b"x\n".to_vec()), ("z", b"x\n".to_vec())])))
    });
    class.case("our-file", |place| {
        // We write a file of this name ourselves.
        let repo = place.repo()?;
        repo.modes(&[("120000", "REVISION", b"a"), ("100644", "a", b"x\n")])?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("a", b"x\n".to_vec())])))
    });
    class
}
