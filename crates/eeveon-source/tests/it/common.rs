//! What the tests of this crate share.

use std::{fmt::Debug, path::PathBuf};

use eeveon_core::{
    CommitId, Contents, Diagnose, Fence, FileEntry, Permit, Release, ReleaseNumber, StepError,
};
use eeveon_source::{Mirror, RepoUrl, SourceConfig, SourceError};
use eeveon_testkit::git::Repo;
use tokio_util::sync::CancellationToken;

/// Returns a permit that nobody cancels.
pub(crate) fn permit() -> Permit {
    Permit::new(Fence(1), CancellationToken::new())
}

/// Returns the defaults for a repository.
pub(crate) fn config(repo: &Repo) -> SourceConfig {
    SourceConfig::new(RepoUrl::parse(&repo.url()).unwrap())
}

/// Returns where its mirror is.
pub(crate) fn mirror_path(repo: &Repo) -> PathBuf {
    repo.beside("mirrors/m.git")
}

/// Opens its mirror with changed settings.
pub(crate) fn mirror(repo: &Repo, change: impl FnOnce(&mut SourceConfig)) -> Mirror {
    let mut config = config(repo);
    change(&mut config);
    Mirror::open(&mirror_path(repo), config).unwrap()
}

/// Reads a commit id.
pub(crate) fn id(text: &str) -> CommitId {
    CommitId::new(text).unwrap()
}

/// Makes release 1 of a commit.
pub(crate) fn release(mirror: &Mirror, commit: &CommitId) -> Release {
    Release {
        project: "shop".parse().unwrap(),
        number: ReleaseNumber(1),
        revision: mirror.revision(commit).unwrap(),
    }
}

/// Lists the release of a commit.
pub(crate) fn list(mirror: &Mirror, commit: &CommitId) -> Result<Vec<FileEntry>, StepError> {
    mirror.list(&release(mirror, commit), &CancellationToken::new())
}

/// Returns the paths of entries.
pub(crate) fn paths(entries: &[FileEntry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

/// Returns the code of an error.
pub(crate) fn code<T: Debug>(result: Result<T, SourceError>) -> &'static str {
    result.unwrap_err().code()
}

/// Returns the code of an error on its way to the engine.
pub(crate) fn step_code<T: Debug>(result: Result<T, StepError>) -> &'static str {
    result.unwrap_err().diagnosis().code()
}

/// How many commits are in the mirror, as git counts them.
pub(crate) fn commits_in(repo: &Repo) -> usize {
    let path = mirror_path(repo);
    let all = repo.git([
        "--git-dir",
        path.to_str().unwrap(),
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objecttype)",
    ]);
    all.lines().filter(|line| *line == "commit").count()
}

/// Fails unless git finds nothing wrong with the mirror.
pub(crate) fn fsck(repo: &Repo) {
    let path = mirror_path(repo);
    repo.git([
        "--git-dir",
        path.to_str().unwrap(),
        "fsck",
        "--strict",
        "--no-dangling",
        "--connectivity-only",
    ]);
}
