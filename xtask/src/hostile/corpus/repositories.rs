//! Repositories whose own settings, hooks and borrowed objects would act on whoever reads them, or
//! which are broken.

use std::fs;

use super::Class;
use crate::hostile::{
    place::{Place, SECRET},
    repo::{BRANCH, Repo, ordinary},
    stage::{Expect, Scene},
};

fn live() -> Expect {
    Expect::Live(vec![("index.html", b"x\n".to_vec())])
}

/// Makes a repository with one file.
fn small(place: &Place) -> anyhow::Result<Repo> {
    let repo = place.repo()?;
    repo.files(&[("index.html", b"x\n")])?;
    Ok(repo)
}

/// A script that leaves a trace.
fn script(place: &Place) -> String {
    format!("#!/bin/sh\ntouch {}\n", place.pwned())
}

fn executable(file: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o755))?)
}

/// Settings, hooks and attributes.
pub(super) fn settings() -> Class {
    let mut class = Class::new("settings");
    class.case("commands", |place| {
        let repo = place.repo()?;
        repo.files(&[("index.html", b"x\n"), (".gitattributes", b"* filter=x diff=x merge=x\n")])?;
        repo.write("info/attributes", "* filter=x diff=x\n")?;
        let run = format!("touch {}", place.pwned());
        let config = fs::read_to_string(repo.path.join("config"))?;
        repo.write(
            "config",
            format!(
                "{config}[core]\n\tfsmonitor = {run}\n\tsshCommand = {run}\n\tgitProxy = {run}\n\tpager = {run}\n\
                 \taskPass = {run}\n\teditor = {run}\n\talternateRefsCommand = {run}\n\thooksPath = {}\n\
                 [uploadpack]\n\tpackObjectsHook = {run}\n\tallowAnySHA1InWant = true\n\
                 [credential]\n\thelper = \"!{run}\"\n[diff]\n\texternal = {run}\n[alias]\n\tupload-pack = \"!{run}\"\n\
                 \tpack-objects = \"!{run}\"\n[filter \"x\"]\n\tsmudge = {run}\n\tclean = {run}\n\tprocess = {run}\n\
                 [protocol]\n\tallow = always\n[url \"ext::{run} \"]\n\tinsteadOf = /\n\
                 [trace2]\n\teventTarget = {}\n",
                place.outside().display(),
                place.pwned(),
            ),
        )?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("include", |place| {
        // What git says about a file that is no configuration is told; what is in it must not be.
        let repo = small(place)?;
        let config = fs::read_to_string(repo.path.join("config"))?;
        let path = place.user().join(".netrc");
        repo.write("config", format!("{config}[include]\n\tpath = {}\n", path.display()))?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/protocol"])))
    });
    class.case("hooks", |place| {
        let repo = small(place)?;
        for hook in [
            "pre-receive",
            "post-checkout",
            "reference-transaction",
            "post-index-change",
            "pre-auto-gc",
            "post-upload-pack",
            "fsmonitor-watchman",
            "proc-receive",
        ] {
            repo.write(&format!("hooks/{hook}"), script(place))?;
            executable(&repo.path.join("hooks").join(hook))?;
        }
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("committed-hooks", |place| {
        let repo = place.repo()?;
        let run = script(place);
        let run = run.as_bytes();
        repo.modes(&[
            ("100755", "hooks/post-checkout", run),
            ("100755", "post-update", run),
            ("100644", "index.html", b"x\n"),
            ("100755", ".githooks/pre-commit", run),
        ])?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("embedded-bare", |place| {
        let repo = place.repo()?;
        let config = format!("[core]\n\tbare = true\n\tfsmonitor = touch {}\n", place.pwned());
        repo.files(&[
            ("index.html", b"x\n"),
            ("HEAD", b"ref: refs/heads/main\n"),
            ("config", config.as_bytes()),
            ("objects/x", b""),
            ("refs/x", b""),
        ])?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("committed-settings", |place| {
        let repo = place.repo()?;
        let run = format!("[core]\n\tfsmonitor = touch {0}\n\tsshCommand = touch {0}\n", place.pwned());
        repo.files(&[
            (".gitconfig", run.as_bytes()),
            (".lfsconfig", b"[lfs]\n\turl = ext::sh -c id\n"),
            (".mailmap", b"A <a@x> \x1b[2J\n"),
            (".npmrc", b"//x/:_authToken=${AWS_SECRET_ACCESS_KEY}\n"),
            (".env", b"A=$(touch pwned)\n"),
            ("index.html", b"x\n"),
        ])?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("attributes", |place| {
        let repo = place.repo()?;
        let attributes = b"* export-subst ident text eol=crlf working-tree-encoding=UTF-16 filter=lfs\nindex.html export-ignore\n";
        repo.files(&[(".gitattributes", attributes), ("index.html", b"$Format:%H%n%an$ $Id$\nx\n"), ("info/attributes", attributes)])?;
        let verbatim = b"$Format:%H%n%an$ $Id$\nx\n".to_vec();
        Ok(Scene::of(&repo.path, Expect::Live(vec![("index.html", verbatim)])))
    });
    class.case("worktree-elsewhere", |place| {
        let repo = small(place)?;
        let config = fs::read_to_string(repo.path.join("config"))?;
        let config =
            config.replace("bare = true", &format!("bare = false\n\tworktree = {}", place.user().display()));
        repo.write("config", config)?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("gitfile", |place| {
        // The folder a user names holds nothing but the way to another repository.
        let repo = small(place)?;
        let folder = place.repos().join("worktree");
        fs::create_dir(&folder)?;
        fs::write(folder.join(".git"), format!("gitdir: {}\n", repo.path.display()))?;
        Ok(Scene::of(&folder, live()))
    });
    class.case("promisor", |place| {
        // Serving it would fetch what is missing, by a command (CVE-2024-32004).
        let repo = small(place)?;
        let blob = repo.blob("missing\n")?;
        repo.commit(&repo.tree(&[("100644", b"index.html", &blob)])?)?;
        fs::remove_file(repo.loose(&blob))?;
        let run = format!("touch {}", place.pwned());
        for (key, value) in [
            ("core.repositoryFormatVersion", "1"),
            ("extensions.partialClone", "origin"),
            ("remote.origin.promisor", "true"),
            ("remote.origin.url", "ext::sh"),
            ("remote.origin.uploadpack", &run),
            ("protocol.ext.allow", "always"),
        ] {
            repo.git(&["config", key, value], b"")?;
        }
        Ok(Scene::of(
            &repo.path,
            Expect::Refused(&["source/protocol", "source/corrupt", "source/unreachable"]),
        ))
    });
    class.case("replaced", |place| {
        let repo = small(place)?;
        let (good, bad) = (repo.blob("x\n")?, repo.blob("replaced\n")?);
        repo.point(&format!("refs/replace/{good}"), &bad)?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("replaced-commit", |place| {
        let repo = small(place)?;
        let head = repo.git(&["rev-parse", BRANCH], b"")?;
        let other = repo.commit_raw("other", &ordinary(&repo.tree_of(&[b"other"])?, "other"))?;
        repo.point(&format!("refs/replace/{head}"), &other)?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("grafted", |place| {
        let repo = small(place)?;
        let head = repo.git(&["rev-parse", BRANCH], b"")?;
        let other = repo.commit_raw("other", &ordinary(&repo.tree_of(&[b"other"])?, "other"))?;
        repo.write("info/grafts", format!("{head} {other} {other}\n{other} {head}\n"))?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("alternates", |place| {
        // Objects borrowed from a repository of the user that nobody asked to share.
        let private = Repo::make(&place.user().join("private.git"))?;
        let blob = private.blob(format!("{SECRET}\n"))?;
        let repo = small(place)?;
        repo.write(
            "objects/info/alternates",
            format!("{}\n/etc\n../../../x\n", private.path.join("objects").display()),
        )?;
        let _only_there = blob;
        Ok(Scene::of(&repo.path, live()))
    });
    class
}

/// What is broken, or not what it says.
pub(super) fn damage() -> Class {
    let mut class = Class::new("damage");
    const BROKEN: Expect = Expect::Refused(&[
        "source/protocol",
        "source/corrupt",
        "source/not-a-repository",
        "source/commit-missing",
    ]);
    class.case("pack", |place| {
        let repo = small(place)?;
        repo.git(&["repack", "-adq"], b"")?;
        for entry in fs::read_dir(repo.path.join("objects/pack"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "pack") {
                let mut bytes = fs::read(&path)?;
                bytes.iter_mut().skip(20).step_by(3).for_each(|byte| *byte ^= 0x55);
                fs::remove_file(&path)?;
                fs::write(&path, bytes)?;
            }
        }
        Ok(Scene::of(&repo.path, BROKEN))
    });
    class.case("object", |place| {
        let repo = place.repo()?;
        let blob = repo.blob("x\n")?;
        repo.commit(&repo.tree(&[("100644", b"index.html", &blob)])?)?;
        fs::remove_file(repo.loose(&blob))?;
        repo.write(
            &format!("objects/{}/{}", blob.get(..2).unwrap_or_default(), blob.get(2..).unwrap_or_default()),
            b"garbage",
        )?;
        Ok(Scene::of(&repo.path, BROKEN))
    });
    class.case("swapped-object", |place| {
        let repo = place.repo()?;
        let (blob, other) = (repo.blob("x\n")?, repo.blob("y\n")?);
        repo.commit(&repo.tree(&[("100644", b"index.html", &blob)])?)?;
        fs::remove_file(repo.loose(&blob))?;
        fs::copy(repo.loose(&other), repo.loose(&blob))?;
        Ok(Scene::of(&repo.path, BROKEN))
    });
    class.case("missing-tree", |place| {
        let repo = small(place)?;
        repo.commit(&"1".repeat(40))?;
        Ok(Scene::of(&repo.path, BROKEN))
    });
    class.case("missing-commit", |place| {
        let repo = small(place)?;
        repo.point("refs/heads/main", &"1".repeat(40))?;
        Ok(Scene::of(
            &repo.path,
            Expect::Refused(&["source/empty", "source/branch-missing", "source/commit-missing"]),
        ))
    });
    class.case("branch-is-blob", |place| {
        let repo = small(place)?;
        let blob = repo.blob("x\n")?;
        repo.point("refs/heads/main", &blob)?;
        Ok(Scene::of(
            &repo.path,
            Expect::Refused(&["source/not-a-commit", "source/corrupt", "source/protocol"]),
        ))
    });
    class.case("branch-is-tree", |place| {
        let repo = small(place)?;
        let tree = repo.tree_of(&[b"index.html"])?;
        repo.point("refs/heads/main", &tree)?;
        Ok(Scene::of(
            &repo.path,
            Expect::Refused(&["source/not-a-commit", "source/corrupt", "source/protocol"]),
        ))
    });
    class.case("tree-is-blob", |place| {
        let repo = small(place)?;
        let blob = repo.blob("x\n")?;
        repo.commit(&repo.tree(&[("40000", b"d", &blob)])?)?;
        Ok(Scene::of(&repo.path, BROKEN))
    });
    class.case("blob-is-tree", |place| {
        let repo = small(place)?;
        let tree = repo.tree_of(&[b"f"])?;
        repo.commit(&repo.tree(&[("100644", b"d", &tree)])?)?;
        Ok(Scene::of(&repo.path, BROKEN))
    });
    class.case("head", |place| {
        let repo = small(place)?;
        repo.write("HEAD", "ref: refs/heads/--upload-pack=x\u{1b}[2J\n")?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("packed-refs", |place| {
        let repo = small(place)?;
        repo.write("packed-refs", "# pack-refs with: peeled\n1111 refs/heads/x\n\u{1b}[2J\n")?;
        Ok(Scene::of(&repo.path, BROKEN))
    });
    class.case("shallow", |place| {
        let repo = small(place)?;
        repo.write("shallow", format!("{}\n", "2".repeat(40)))?;
        Ok(Scene::of(&repo.path, live()))
    });
    class.case("sha-256", |place| {
        let path = place.repos().join("sha256.git");
        let repo = Repo { path };
        fs::create_dir_all(&repo.path)?;
        repo.git(
            &["init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=main", "."],
            b"",
        )?;
        repo.files(&[("index.html", b"x\n")])?;
        Ok(Scene::of(&repo.path, Expect::Refused(&["source/object-format"])))
    });
    class
}

/// Submodules that point, or are called, where they should not.
pub(super) fn submodules() -> Class {
    let mut class = Class::new("submodule");
    for asked in [false, true] {
        // Read as git once did, path and address end with what only ends the line (CVE-2025-48384).
        class.case(if asked { "return-asked-for" } else { "return" }, move |place| {
            let library = Repo::make(&place.repos().join("library.git"))?;
            let pinned = library.files(&[("code", b"x\n")])?;
            let repo = place.repo()?;
            let modules = repo.blob("[submodule \"lib\"]\r\n\tpath = lib\r\n\turl = ../library.git\r\n")?;
            let page = repo.blob("x\n")?;
            repo.commit(&repo.tree(&[
                ("100644", b".gitmodules", &modules),
                ("100644", b"index.html", &page),
                ("160000", b"lib", &pinned),
            ])?)?;
            let mut scene = Scene::of(&repo.path, live());
            scene.also.push(library.path.to_string_lossy().into_owned());
            scene.settings.push(("source", format!("submodules = {asked}")));
            Ok(scene)
        });
    }
    for (name, called, path, url) in [
        ("ext", "lib", "lib", "ext::sh -c touch% $PWNED"),
        ("option", "lib", "lib", "-u./x"),
        ("proxy", "lib", "lib", "ssh://-oProxyCommand=touch$PWNED/x"),
        ("file", "lib", "lib", "file:///etc"),
        ("home", "lib", "lib", "$HOME/.ssh"),
        ("name", "../../../outside", "lib", "../library.git"),
        ("path", "lib", "../../outside", "../library.git"),
        ("git-folder", "lib", ".git/hooks", "../library.git"),
        ("git-folder-upper", "lib", "a/.GIT/hooks", "../library.git"),
        ("update-command", "lib", "lib", "../nowhere.git\n\tupdate = !touch $PWNED"),
        ("relative-out", "lib", "lib", "../../../../../../user"),
    ] {
        for asked in [false, true] {
            let name = if asked { format!("{name}-asked-for") } else { name.to_owned() };
            class.case(name, move |place| {
                let library = Repo::make(&place.repos().join("library.git"))?;
                let pinned = library.files(&[("code", b"x\n")])?;
                let repo = place.repo()?;
                let url =
                    url.replace("$PWNED", &place.pwned()).replace("$HOME", &place.user().to_string_lossy());
                let modules = format!("[submodule \"{called}\"]\n\tpath = {path}\n\turl = {url}\n");
                let (modules, page) = (repo.blob(&modules)?, repo.blob("x\n")?);
                repo.commit(&repo.tree(&[
                    ("100644", b".gitmodules", &modules),
                    ("100644", b"index.html", &page),
                    ("160000", b"lib", &pinned),
                ])?)?;
                let refused = Expect::Refused(&[
                    "source/submodule",
                    "source/url",
                    "source/not-a-repository",
                    "source/repository-missing",
                ]);
                let mut scene = Scene::of(&repo.path, if asked { refused } else { live() });
                scene.settings.push(("source", format!("submodules = {asked}")));
                Ok(scene)
            });
        }
    }
    class
}
