//! Looks at a repository on this machine without starting git.
//!
//! Most looks find what the last one found, and there are many. So the plain case is answered here
//! from the files. Whatever is not plain is left to git itself, which also knows how to say why.

use std::path::Path;

use gix::{ObjectId, open::Options, refs::TargetRef};

/// Settings of a repository under which `git upload-pack` might say something else: it may hide refs,
/// and what includes may say is not looked into (<https://git-scm.com/docs/git-config>).
const NOT_PLAIN: [&str; 3] = ["transfer.hideRefs", "uploadpack.hideRefs", "include.path"];

/// Returns the commit of the branch `full`, a whole name such as `refs/heads/main`. Nothing when there is
/// none, or when it takes git to tell. Blocks.
pub(crate) fn branch(path: &Path, full: &str) -> Option<ObjectId> {
    let repo = open(path, [])?;
    let found = repo.try_find_reference(full).ok()??;
    match found.target() {
        TargetRef::Object(id) if found.name().as_bstr() == full => Some(id.to_owned()),
        _ => None,
    }
}

/// Opens a plain repository with these settings besides its own. Nothing when it takes git.
pub(crate) fn open<const N: usize>(path: &Path, settings: [&str; N]) -> Option<gix::Repository> {
    // As git does, nothing of a repository is believed that belongs to somebody else.
    let options = Options::isolated().bail_if_untrusted(true);
    let settings = settings.into_iter().chain(["core.useReplaceRefs=false", "core.commitGraph=false"]);
    let repo = gix::open_opts(path, options.config_overrides(settings)).ok()?;
    let config = repo.config_snapshot();
    let includes_if = config.sections_by_name("includeIf").is_some_and(|mut it| it.next().is_some());
    let is_plain = !includes_if && NOT_PLAIN.iter().all(|key| config.string(*key).is_none());
    is_plain.then_some(repo)
}

#[cfg(test)]
mod tests {
    use eeveon_testkit::git::Repo;

    use super::*;

    #[test]
    fn a_branch_is_found_loose_packed_and_from_a_bare_repository() {
        let repo = Repo::with(&[&[("a", "1")]]);
        let head = Some(repo.head());
        let look = |path: &Path| branch(path, "refs/heads/main").map(|id| id.to_string());
        assert_eq!(look(repo.path()), head);
        repo.git(["pack-refs", "--all"]);
        assert_eq!(look(repo.path()), head);
        assert_eq!(look(&repo.path().join(".git")), head);
        let bare = repo.beside("bare.git");
        repo.git(["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
        assert_eq!(look(&bare), head);
        let newer = repo.commit("second");
        assert_eq!(look(repo.path()), Some(newer));
        assert_eq!(look(&bare), head);
    }

    #[test]
    fn what_is_not_plain_is_left_to_git() {
        let repo = Repo::with(&[&[("a", "1")]]);
        let look = |full: &str| branch(repo.path(), full);
        assert!(look("refs/heads/main").is_some());
        for other in ["refs/heads/other", "refs/heads/heads/main", "main", "HEAD"] {
            assert_eq!(look(other), None, "{other}");
        }
        repo.git(["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
        assert_eq!(look("refs/heads/alias"), None);
        assert_eq!(branch(&repo.beside("nowhere"), "refs/heads/main"), None);
        for key in ["transfer.hideRefs", "uploadpack.hideRefs", "include.path", "includeIf.gitdir:/x.path"] {
            repo.git(["config", key, "refs/heads/none"]);
            assert_eq!(look("refs/heads/main"), None, "{key}");
            repo.git(["config", "--unset", key]);
            assert!(look("refs/heads/main").is_some(), "{key}");
        }
    }
}
