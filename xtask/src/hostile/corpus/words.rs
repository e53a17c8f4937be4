//! What commits say of themselves: sequences for terminals, broken headers, absurd times.

use super::Class;
use crate::hostile::{
    repo::{BRANCH, ordinary},
    stage::{Expect, Scene},
};

/// Everything a terminal acts on that fits into one line.
const SEQUENCES: &str = "\u{1b}[2J\u{1b}[31m\u{1b}]0;title\u{7}\u{1b}]8;;http://evil.example\u{1b}\\link\u{1b}]8;;\u{1b}\\\
    \u{1b}]52;c;cm0gLXJmIH4=\u{7}\u{1b}P+q544e\u{1b}\\\u{9b}2J\u{9d}0;x\u{9c}\r\u{8}\u{b}\u{c}\u{e}\u{7f}\u{85}\
    \u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{e0041}\u{ad}";

pub(super) fn words() -> Class {
    let mut class = Class::new("words");
    let live = || Expect::Live(vec![("index.html", b"x\n".to_vec())]);
    let mut commit = |name: &'static str, make: fn(&str) -> Vec<u8>, expect: Expect| {
        class.case(name, move |place| {
            let repo = place.repo()?;
            let tree = repo.tree_of(&[b"index.html"])?;
            repo.commit_raw(BRANCH, &make(&tree))?;
            Ok(Scene::of(&repo.path, expect))
        });
    };
    commit(
        "sequences",
        |tree| {
            let who = format!("A{SEQUENCES}a <a@{SEQUENCES}> 1700000000 +0000").replace(['\n', '\r'], "");
            format!("tree {tree}\nauthor {who}\ncommitter {who}\n\n{SEQUENCES}\n\n{SEQUENCES}\n").into_bytes()
        },
        live(),
    );
    commit(
        "bytes",
        |tree| {
            let mut raw = format!("tree {tree}\nauthor \u{fffd}").into_bytes();
            raw.extend(0x80..=0xff_u8);
            raw.extend_from_slice(b" <x> 1700000000 +0000\ncommitter x <x> 1700000000 +0000\n\n");
            raw.extend((0..=0xff_u8).filter(|byte| *byte != 0 && *byte != b'\n'));
            raw
        },
        live(),
    );
    commit(
        "encoding",
        |tree| {
            let who = "A <a@x> 1700000000 +0000";
            format!("tree {tree}\nauthor {who}\ncommitter {who}\nencoding UTF-7\n\n+AFs-2J\n").into_bytes()
        },
        live(),
    );
    commit(
        "markup",
        |tree| ordinary(tree, "<script>alert(1)</script> {{7*7}} ${jndi:ldap://x} %n%n @everyone `x`"),
        live(),
    );
    commit("long-subject", |tree| ordinary(tree, &"s".repeat(1 << 17)), live());
    commit("many-lines", |tree| ordinary(tree, &"l\n".repeat(1 << 16)), live());
    commit(
        "no-subject",
        |tree| format!("tree {tree}\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\n").into_bytes(),
        live(),
    );
    commit(
        "early",
        |tree| {
            format!(
                "tree {tree}\nauthor A <a@x> -99999999999 +9999\ncommitter A <a@x> -99999999999 -9999\n\nx\n"
            )
            .into_bytes()
        },
        EITHER,
    );
    commit(
        "late",
        |tree| {
            format!("tree {tree}\nauthor A <a@x> 99999999999999 +0000\ncommitter A <a@x> 99999999999999 +0000\n\nx\n").into_bytes()
        },
        EITHER,
    );
    commit(
        "endless-time",
        |tree| {
            let digits = "9".repeat(400);
            format!("tree {tree}\nauthor A <a@x> {digits} +0000\ncommitter A <a@x> {digits} +0000\n\nx\n")
                .into_bytes()
        },
        EITHER,
    );
    commit("no-author", |tree| format!("tree {tree}\n\nx\n").into_bytes(), EITHER);
    commit(
        "two-trees",
        |tree| {
            let who = "A <a@x> 1700000000 +0000";
            format!("tree {tree}\ntree {tree}\nauthor {who}\ncommitter {who}\n\nx\n").into_bytes()
        },
        EITHER,
    );
    commit(
        "brackets",
        |tree| {
            let who = "A <b> <c>> <a@x> 1700000000 +0000";
            format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n").into_bytes()
        },
        EITHER,
    );
    commit("nul", |tree| ordinary(tree, "a\0b\0--exec=x"), EITHER);
    commit(
        "signature",
        |tree| {
            let who = "A <a@x> 1700000000 +0000";
            format!("tree {tree}\nauthor {who}\ncommitter {who}\ngpgsig -----BEGIN\n \u{1b}[2J\n \n -----END\n\nx\n").into_bytes()
        },
        live(),
    );
    commit(
        "headers",
        |tree| {
            let who = "A <a@x> 1700000000 +0000";
            let more = "x-header \u{1b}[2J\n".repeat(20_000);
            format!("tree {tree}\nauthor {who}\ncommitter {who}\n{more}\nx\n").into_bytes()
        },
        live(),
    );
    class.case("many-parents", |place| {
        let repo = place.repo()?;
        let tree = repo.tree_of(&[b"index.html"])?;
        let parent = repo.commit_raw("other", &ordinary(&tree, "parent"))?;
        let parents = format!("parent {parent}\n").repeat(2000);
        let who = "A <a@x> 1700000000 +0000";
        repo.commit_raw(
            BRANCH,
            format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\nx\n").as_bytes(),
        )?;
        Ok(Scene::of(&repo.path, Expect::Live(vec![("index.html", b"x\n".to_vec())])))
    });
    class.case("output", |place| {
        let repo = place.repo()?;
        repo.files(&[("index.html", b"x\n"), ("noise", SEQUENCES.as_bytes())])?;
        let mut scene = Scene::of(&repo.path, Expect::Refused(&["build/failed"]));
        scene.build = vec!["cat noise; cat noise >&2; exit 3"];
        Ok(scene)
    });
    class.case("prompting", |place| {
        // A build that wants to be asked gets no answer, and no terminal.
        let repo = place.repo()?;
        repo.files(&[("index.html", b"x\n")])?;
        let mut scene = Scene::of(&repo.path, Expect::Refused(&["build/failed"]));
        scene.build = vec!["read answer; exec 3</dev/tty"];
        Ok(scene)
    });
    class.case("environment", |place| {
        // What the user has in the environment is not for builds.
        let repo = place.repo()?;
        repo.files(&[("index.html", b"x\n")])?;
        let mut scene = Scene::of(&repo.path, Expect::Live(vec![("index.html", b"x\n".to_vec())]));
        scene.build = vec!["env", "export -p"];
        Ok(scene)
    });
    class
}

/// Git itself takes some of these and refuses others; either is fine, as long as it is said.
const EITHER: Expect = Expect::Either(&["source/corrupt", "source/protocol", "source/not-a-commit"]);
