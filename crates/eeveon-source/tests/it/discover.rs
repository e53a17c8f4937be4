//! Finding the repository one stands in.

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
    assert!(discover(&repo.beside("nothing")).is_err());
}

#[test]
fn only_tracked_changes_count() {
    let repo = Repo::with(&[&[("a", "1"), ("b", "1"), ("c", "1")]]);
    let dirty = || discover(repo.path()).unwrap().unwrap().dirty;
    repo.write("untracked", "x");
    assert!(!dirty());
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
