//! Too many, too large, too deep; and what is only just not.

use super::Class;
use crate::hostile::{
    repo::Entry,
    stage::{Expect, Scene},
};

pub(super) fn sizes() -> Class {
    let mut class = Class::new("size");
    class.case("many-files", |place| {
        let repo = place.repo()?;
        let names: Vec<String> = (0..3000).map(|n| format!("f{n:05}")).collect();
        repo.commit(&repo.tree_of(&names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>())?)?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("f02999", b"x\n".to_vec())])))
    });
    class.case("tree-bomb", |place| {
        // Ten folders of ten folders of ...: ten thousand million files from eleven objects.
        let repo = place.repo()?;
        let mut tree = repo.tree_of(&[b"f"])?;
        for _ in 0..10 {
            let names: Vec<[u8; 1]> = (b'a'..=b'j').map(|name| [name]).collect();
            let entries: Vec<Entry<'_>> =
                names.iter().map(|name| ("40000", &name[..], tree.as_str())).collect();
            tree = repo.tree(&entries)?;
        }
        repo.commit(&tree)?;
        let mut scene = Scene::of(&repo.path, Expect::Refused(&["source/too-many-files"]));
        scene.memory = 512 << 20;
        Ok(scene)
    });
    class.case("zeros", |place| {
        let repo = place.repo()?;
        let blob = repo.blob(vec![0; 64 << 20])?;
        repo.commit(&repo.tree(&[("100644", b"zeros", &blob), ("100644", b"again", &blob)])?)?;
        let mut scene = Scene::of(&repo.path, Expect::Live(vec![("zeros", vec![0; 64 << 20])]));
        scene.memory = 448 << 20;
        Ok(scene)
    });
    for (name, depth, expect) in [
        ("deep", 250, Expect::Live(Vec::new())),
        ("too-deep", 257, Expect::Refused(&["source/path"])),
        ("very-deep", 5000, Expect::Refused(&["source/path"])),
    ] {
        class.case(name, move |place| {
            let repo = place.repo()?;
            let path = "d/".repeat(depth);
            // git has its own idea of how deep a tree may be.
            repo.git(&["config", "core.maxTreeDepth", "1000000"], b"")?;
            repo.files(&[(&format!("{path}f"), b"x\n")])?;
            Ok(Scene::of(&repo.path, expect))
        });
    }
    class.case("long-path", |place| {
        let repo = place.repo()?;
        let path = format!("{}/", "p".repeat(250)).repeat(17);
        repo.files(&[(&format!("{path}f"), b"x\n")])?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/path"])))
    });
    class.case("large-deployignore", |place| {
        let repo = place.repo()?;
        repo.files(&[(".deployignore", &vec![b'#'; (1 << 20) + 1]), ("a", b"x\n")])?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/path"])))
    });
    class.case("slow-deployignore", |place| {
        // A pattern that takes for ever where matching goes back and forth.
        let repo = place.repo()?;
        let pattern = format!("{}b\n", "*a".repeat(60)).repeat(50);
        repo.files(&[
            (".deployignore", pattern.as_bytes()),
            (&"a".repeat(240), b"x\n"),
            ("index.html", b"x\n"),
        ])?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("index.html", b"x\n".to_vec())])))
    });
    class.case("many-branches", |place| {
        let repo = place.repo()?;
        let head = repo.files(&[("index.html", b"x\n")])?;
        let lines: String = (0..20_000).map(|n| format!("{head} refs/heads/b{n:05}\n")).collect();
        repo.write(
            "packed-refs",
            format!("# pack-refs with: peeled fully-peeled sorted \n{lines}{head} refs/heads/main\n"),
        )?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("index.html", b"x\n".to_vec())])))
    });
    class
}
