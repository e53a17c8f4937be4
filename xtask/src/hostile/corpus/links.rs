//! Symbolic links that lead out, by themselves, together, or only in the next release.

use super::Class;
use crate::hostile::stage::{Expect, Next, Scene};

const REFUSED: Expect = Expect::Refused(&["source/link"]);

pub(super) fn links() -> Class {
    let mut class = Class::new("link");
    let bad: [(&str, &[(&'static str, &'static str)]); 11] = [
        ("absolute", &[("a", "/etc/passwd")]),
        ("proc", &[("a", "/proc/self/environ")]),
        ("parent", &[("a", "..")]),
        ("deep", &[("d/a", "../../../../../../../../user/.ssh/id_ed25519")]),
        ("pair", &[("cur", "."), ("par", "cur/..")]),
        ("chain", &[("a", "b"), ("b", "c/../.."), ("d/x", "../a")]),
        ("up-and-down", &[("d/up", ".."), ("x", "d/up/../y")]),
        ("repository", &[("a", "../../.eeveon")]),
        ("other-release", &[("a", "../1/x")]),
        ("shared", &[("a", "../../shared/.env")]),
        ("escape", &[("a\u{1b}[2J", "/\u{1b}]0;x\u{7}\u{202e}")]),
    ];
    for (name, links) in bad {
        class.case(name, move |place| {
            let repo = place.repo()?;
            let mut files: Vec<(&str, &str, &[u8])> = vec![("100644", "d/f", b"x\n")];
            files.extend(links.iter().map(|(path, target)| ("120000", *path, target.as_bytes())));
            repo.modes(&files)?;
            Ok(Scene::of(&repo.path, REFUSED))
        });
    }
    for (name, target) in [("empty", Vec::new()), ("nul", b"a\0b".to_vec()), ("endless", vec![b'x'; 4096])] {
        class.case(name, move |place| {
            let repo = place.repo()?;
            let blob = repo.blob(&target)?;
            repo.commit(&repo.tree(&[("120000", b"l", &blob)])?)?;
            Ok(Scene::of(&repo.path, REFUSED))
        });
    }
    class.case("huge", |place| {
        let repo = place.repo()?;
        let blob = repo.blob(vec![b'x'; 8 << 20])?;
        repo.commit(&repo.tree(&[("120000", b"l", &blob)])?)?;
        Ok(Scene::of(&repo.path, REFUSED))
    });
    class.case("gitmodules", |place| {
        let repo = place.repo()?;
        repo.modes(&[("120000", ".gitmodules", b"x"), ("100644", "x", b"x\n")])?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/path"])))
    });
    class.case("inside", |place| {
        let repo = place.repo()?;
        repo.modes(&[("120000", "a/l", b"../d/f"), ("120000", "loop", b"loop"), ("100644", "d/f", b"x\n")])?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("a/l", b"../d/f".to_vec()), ("loop", b"loop".to_vec())])))
    });
    class.case("deployignore", |place| {
        // Read through the link, its words would show in what is left out.
        let repo = place.repo()?;
        repo.modes(&[("120000", ".deployignore", b"../../../../../user/.env"), ("100644", "a", b"x\n")])?;
        Ok(Scene::of(&repo.path, REFUSED))
    });
    class.case("folder-becomes-link", |place| {
        let repo = place.repo()?;
        repo.files(&[("d/f", b"x\n"), ("e/g", b"x\n")])?;
        let mut scene = Scene::of(&repo.path, Expect::Live(vec![("d/f", b"x\n".to_vec())]));
        let change = Box::new(move || {
            repo.modes(&[("120000", "d", b"e"), ("100644", "e/g", b"y\n"), ("100644", "e/f", b"z\n")])
                .map(drop)
        });
        let live = vec![("d", b"e".to_vec()), ("e/g", b"y\n".to_vec())];
        scene.then.push(Next { change, expect: Expect::Live(live) });
        Ok(scene)
    });
    class.case("link-becomes-folder", |place| {
        let repo = place.repo()?;
        repo.modes(&[("120000", "d", b"e"), ("100644", "e/f", b"old\n")])?;
        let mut scene = Scene::of(&repo.path, Expect::Live(vec![("e/f", b"old\n".to_vec())]));
        let change = Box::new(move || repo.files(&[("d/f", b"new\n"), ("e/f", b"old\n")]).map(drop));
        let live = vec![("d/f", b"new\n".to_vec()), ("e/f", b"old\n".to_vec())];
        scene.then.push(Next { change, expect: Expect::Live(live) });
        Ok(scene)
    });
    class.case("next-leads-out", |place| {
        let repo = place.repo()?;
        repo.files(&[("d/f", b"x\n")])?;
        let mut scene = Scene::of(&repo.path, Expect::Live(vec![("d/f", b"x\n".to_vec())]));
        let change = Box::new(move || repo.modes(&[("120000", "d", b"../../../../outside")]).map(drop));
        scene.then.push(Next { change, expect: REFUSED });
        Ok(scene)
    });
    class.case("built", |place| {
        // A build may make any link; what is sealed and served is then its own affair, inside.
        let repo = place.repo()?;
        repo.files(&[("f", b"x\n")])?;
        let mut scene = Scene::of(&repo.path, Expect::Live(vec![("l", b"f".to_vec())]));
        scene.build = vec!["ln -s f l"];
        Ok(scene)
    });
    class
}
