//! Finding the repository one stands in.

use crate::common::*;
use eeveon_source::discover;
use eeveon_testkit::git::Repo;

#[test]
fn the_folder_and_the_branch_are_found() {
    let repo = Repo::with(&[&[("a/b/c", "1")]]);
    let found = discover(&repo.path().join("a/b")).unwrap().unwrap();
    assert_eq!(found.root, repo.path().canonicalize().unwrap());
    assert_eq!(found.subdir, "a/b");
    assert_eq!(found.branch.as_deref(), Some("main"));
    assert!(!found.dirty);
    assert_eq!(discover(repo.path()).unwrap().unwrap().subdir, "");
    repo.git(["checkout", "--quiet", "--detach"]);
    assert_eq!(discover(repo.path()).unwrap().unwrap().branch, None);
    assert_eq!(discover(&std::env::temp_dir()).unwrap(), None);
    for missing in [repo.beside("nothing"), repo.path().join("a/b/c/nothing")] {
        assert_eq!(code(discover(&missing)), "source/repository-missing");
    }
}

#[test]
fn changes_of_tracked_files_count() {
    let repo = Repo::with(&[&[("a", "1"), ("b", "1"), ("c", "1")]]);
    let dirty = || discover(repo.path()).unwrap().unwrap().dirty;
    // The same content written again is no change.
    repo.write("a", "1");
    assert!(!dirty());
    // Of the same size, in the same second as the index.
    repo.write("a", "2");
    assert!(dirty());
    repo.git(["add", "a"]);
    assert!(dirty(), "added is not committed");
    repo.git(["commit", "--quiet", "-m", "a"]);
    assert!(!dirty());
    repo.write_executable("b", "1");
    assert!(dirty());
    repo.git(["checkout", "--quiet", "b"]);
    assert!(!dirty());
    std::fs::remove_file(repo.path().join("c")).unwrap();
    assert!(dirty());
    repo.git(["rm", "--quiet", "c"]);
    assert!(dirty());
    repo.git(["commit", "--quiet", "-m", "c"]);
    assert!(!dirty());
    std::fs::remove_file(repo.path().join("b")).unwrap();
    repo.link("b", "a");
    assert!(dirty());
}

#[test]
fn a_new_repository_has_no_commit_to_differ_from() {
    let repo = Repo::new();
    let dirty = || discover(repo.path()).unwrap().unwrap().dirty;
    assert!(!dirty());
    repo.write("a", "1");
    repo.git(["add", "a"]);
    assert!(dirty());
}

#[test]
fn untracked_files_count_unless_ignored() {
    let repo =
        Repo::with(&[&[(".gitignore", "*.log\n/out/\n"), ("a/.gitignore", "!keep.log\n"), ("a/b", "1")]]);
    repo.write(".git/info/exclude", "mine\n");
    // As git says, of each file alone.
    for (path, counts) in [
        ("x", true),
        ("a/x", true),
        ("new/deep/x", true),
        ("x.log", false),
        ("a/x.log", false),
        ("a/keep.log", true),
        ("out/x", false),
        ("a/out/x", true),
        ("mine", false),
        ("a/mine/x", false),
    ] {
        repo.write(path, "x");
        let said = repo.git(["status", "--porcelain", "--untracked-files=all"]);
        assert_eq!(!said.is_empty(), counts, "git: {path}: {said}");
        assert_eq!(discover(repo.path()).unwrap().unwrap().dirty, counts, "{path}");
        std::fs::remove_file(repo.path().join(path)).unwrap();
    }
    // Folders in which there is nothing do not count, not even those just left behind.
    assert!(!discover(&repo.path().join("a")).unwrap().unwrap().dirty);
    repo.link("a/link", "nowhere");
    assert!(discover(repo.path()).unwrap().unwrap().dirty);
}

#[test]
fn another_repository_inside_counts_until_it_is_a_submodule() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let dirty = || discover(repo.path()).unwrap().unwrap().dirty;
    repo.git(["init", "--quiet", "inside"]);
    repo.git(["-C", "inside", "commit", "--quiet", "--allow-empty", "--message", "x"]);
    assert!(dirty());
    repo.commit("inside");
    repo.write("inside/x", "x");
    assert!(!dirty());
}
