//! Everything that can go wrong with a source, and what to do about it.

use std::{borrow::Cow, io, path::PathBuf, time::Duration};

use eeveon_core::{Class, Diagnose, Retry, action::Stopped};

/// A source could not be looked at, fetched, listed or read. Text from outside inside the variants
/// has had its control characters written out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The work was told to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The address of a repository is malformed or of a kind that is never used.
    #[error("repository address `{given}` is refused: {rule}")]
    Url {
        /// What was given, without any password.
        given: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A branch, tag or revision is malformed.
    #[error("{what} `{given}` is refused: {rule}")]
    RefName {
        /// `branch`, `tag` or `revision`.
        what: &'static str,
        /// What was given.
        given: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The server did not answer, or answered that it cannot serve now.
    #[error("cannot reach {repo}: {detail}")]
    Unreachable {
        /// The repository.
        repo: String,
        /// What was met.
        detail: String,
    },
    /// The server was too slow.
    #[error("gave up on {repo} after {} s {what}", after.as_secs_f32())]
    TimedOut {
        /// The repository.
        repo: String,
        /// `connecting` or `without data`.
        what: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The server has no such repository, or does not show it to us.
    #[error("there is no repository {repo}, or it is not shown to us")]
    RepositoryMissing {
        /// The repository.
        repo: String,
    },
    /// The folder exists but is no git repository.
    #[error("{repo} is not a git repository")]
    NotARepository {
        /// The repository.
        repo: String,
    },
    /// Git refuses to read a repository that belongs to someone else.
    #[error("{repo} belongs to another user, and git refuses to read it")]
    Ownership {
        /// The repository.
        repo: String,
    },
    /// The server wants to know who we are, or does not let us in.
    #[error("{repo} refused the credentials: {detail}")]
    Credentials {
        /// The repository.
        repo: String,
        /// What was met.
        detail: String,
    },
    /// The server's certificate cannot be trusted.
    #[error("the certificate of {repo} cannot be trusted: {detail}")]
    Certificate {
        /// The repository.
        repo: String,
        /// What was met.
        detail: String,
    },
    /// The key of an ssh server is not among the known ones.
    #[error("the host key of {repo} is not known")]
    HostKeyUnknown {
        /// The repository.
        repo: String,
    },
    /// The key of an ssh server is another than before.
    #[error("the host key of {repo} has changed")]
    HostKeyChanged {
        /// The repository.
        repo: String,
    },
    /// The branch does not exist.
    #[error("{repo} has no branch `{branch}`")]
    BranchMissing {
        /// The repository.
        repo: String,
        /// The branch.
        branch: String,
        /// Some branches it has.
        present: Vec<String>,
    },
    /// The tag does not exist.
    #[error("{repo} has no tag `{tag}`")]
    TagMissing {
        /// The repository.
        repo: String,
        /// The tag.
        tag: String,
    },
    /// The commit does not exist, or the server does not hand it out.
    #[error("{repo} does not hand out commit {commit}")]
    CommitMissing {
        /// The repository.
        repo: String,
        /// The commit.
        commit: String,
    },
    /// A revision is neither branch, tag nor commit.
    #[error("{repo} has no branch or tag `{given}`, and no commit fetched so far begins with it")]
    RevisionMissing {
        /// The repository.
        repo: String,
        /// The revision.
        given: String,
        /// Whether only a part of the history is here.
        shallow: bool,
    },
    /// A revision has several meanings.
    #[error("`{given}` is ambiguous: {}", candidates.join(", "))]
    Ambiguous {
        /// The revision.
        given: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// An id names something else than a commit.
    #[error("{id} is a {kind}, not a commit")]
    NotACommit {
        /// The id.
        id: String,
        /// What it is.
        kind: String,
    },
    /// The repository has no commit.
    #[error("{repo} is empty")]
    Empty {
        /// The repository.
        repo: String,
    },
    /// HEAD names no branch.
    #[error("{repo} names no default branch: its HEAD is detached")]
    DetachedHead {
        /// The repository.
        repo: String,
    },
    /// The repository uses a hash this build does not know.
    #[error("{repo} uses the object format {format}, which is not supported")]
    ObjectFormat {
        /// The repository.
        repo: String,
        /// Its format.
        format: String,
    },
    /// The folder to deploy is not in the commit.
    #[error("commit {commit} has no folder `{dir}`")]
    DirMissing {
        /// The folder.
        dir: String,
        /// The commit.
        commit: String,
    },
    /// A path must not be placed anywhere.
    #[error("path `{path}` must not be deployed: {rule}")]
    Path {
        /// The path.
        path: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A symbolic link leads out of the release.
    #[error("symbolic link `{path}` must not be deployed: its target `{target}` {rule}")]
    Link {
        /// Where the link is.
        path: String,
        /// Where it points.
        target: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The release would have too many files.
    #[error("commit {commit} has more than {limit} files")]
    TooManyFiles {
        /// The commit.
        commit: String,
        /// The most allowed.
        limit: usize,
    },
    /// The server sends more than allowed.
    #[error("{repo} sends more than {limit} bytes")]
    PackTooLarge {
        /// The repository.
        repo: String,
        /// The most allowed, in bytes.
        limit: u64,
    },
    /// Something fetched is missing or not what its id says.
    #[error("object {id} of the mirror is missing or damaged: {detail}")]
    Corrupt {
        /// The object.
        id: String,
        /// What was met.
        detail: String,
    },
    /// A program is not installed.
    #[error("the program `{tool}` is not installed")]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A submodule must not be, or cannot be, placed.
    #[error("submodule `{path}` is refused: {rule}")]
    Submodule {
        /// Where it is.
        path: String,
        /// The rule it breaks.
        rule: String,
    },
    /// The mirror's folder is not one of ours.
    #[error("{} cannot hold the mirror: {rule}", path.display())]
    Mirror {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        rule: String,
    },
    /// The machine failed us.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server said something else than expected.
    #[error("{repo} gave an answer that cannot be used: {detail}")]
    Protocol {
        /// The repository.
        repo: String,
        /// What was met.
        detail: String,
    },
    /// The secret of a webhook cannot be used.
    #[error("the secret of the webhook is refused: {rule}")]
    HookSecret {
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A webhook's caller does not prove that it knows the secret.
    #[error("the webhook delivery is refused: {why}")]
    HookRefused {
        /// What is wrong with the proof.
        why: &'static str,
    },
    /// A webhook delivery is genuine and cannot be understood.
    #[error("the webhook delivery cannot be understood: {detail}")]
    HookMalformed {
        /// What was met.
        detail: String,
    },
}

impl SourceError {
    /// Makes an [`SourceError::Io`], for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Diagnose for SourceError {
    fn code(&self) -> &'static str {
        match self {
            Self::Stopped(stopped) => stopped.code(),
            Self::Url { .. } => "source/url",
            Self::RefName { .. } => "source/ref-name",
            Self::Unreachable { .. } => "source/unreachable",
            Self::TimedOut { .. } => "source/timed-out",
            Self::RepositoryMissing { .. } => "source/repository-missing",
            Self::NotARepository { .. } => "source/not-a-repository",
            Self::Ownership { .. } => "source/ownership",
            Self::Credentials { .. } => "source/credentials",
            Self::Certificate { .. } => "source/certificate",
            Self::HostKeyUnknown { .. } => "source/host-key-unknown",
            Self::HostKeyChanged { .. } => "source/host-key-changed",
            Self::BranchMissing { .. } => "source/branch-missing",
            Self::TagMissing { .. } => "source/tag-missing",
            Self::CommitMissing { .. } => "source/commit-missing",
            Self::RevisionMissing { .. } => "source/revision-missing",
            Self::Ambiguous { .. } => "source/ambiguous",
            Self::NotACommit { .. } => "source/not-a-commit",
            Self::Empty { .. } => "source/empty",
            Self::DetachedHead { .. } => "source/detached-head",
            Self::ObjectFormat { .. } => "source/object-format",
            Self::DirMissing { .. } => "source/dir-missing",
            Self::Path { .. } => "source/path",
            Self::Link { .. } => "source/link",
            Self::TooManyFiles { .. } => "source/too-many-files",
            Self::PackTooLarge { .. } => "source/pack-too-large",
            Self::Corrupt { .. } => "source/corrupt",
            Self::ToolMissing { .. } => "source/tool-missing",
            Self::Submodule { .. } => "source/submodule",
            Self::Mirror { .. } => "source/mirror",
            Self::Io { .. } => "source/io",
            Self::Protocol { .. } => "source/protocol",
            Self::HookSecret { .. } => "source/hook-secret",
            Self::HookRefused { .. } => "source/hook-refused",
            Self::HookMalformed { .. } => "source/hook-malformed",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Stopped(_) => return None,
            Self::Url { .. } => {
                "use https://, ssh://, user@host:path or an absolute path; put a password into \
                 `token = \"env:VAR\"` or `token = \"file:PATH\"`"
            }
            Self::RefName { .. } => "give the name as `git branch` or `git tag` lists it",
            Self::Unreachable { .. } | Self::TimedOut { .. } => {
                "check the address and the network; the next look tries again"
            }
            Self::RepositoryMissing { .. } => {
                "check the address; for a private repository, check that the key or token may read it"
            }
            Self::NotARepository { .. } => "give the folder that holds `.git`, or a bare repository",
            Self::Ownership { .. } => {
                "run as the owner of the repository, change its owner, or use its ssh or https address"
            }
            Self::Credentials { .. } => {
                "ssh: give a key the server accepts; https: set `token = \"env:VAR\"` or \
                 `token = \"file:PATH\"` with read access"
            }
            Self::Certificate { detail, .. } if detail.contains("CaUsedAsEndEntity") => {
                "the server shows the certificate of an authority as its own: make it one with \
                 `basicConstraints=critical,CA:FALSE`"
            }
            Self::Certificate { .. } => {
                "for a server of your own, name the certificate of its authority in `ca_file`"
            }
            Self::HostKeyUnknown { .. } => {
                "compare the server's key with a trusted copy, then add it: ssh-keyscan HOST >> \
                 ~/.ssh/known_hosts"
            }
            Self::HostKeyChanged { .. } => {
                "ask the server's owner why; only then remove the old key: ssh-keygen -R HOST"
            }
            Self::BranchMissing { present, .. } if !present.is_empty() => {
                return Some(Cow::Owned(format!("branches there: {}", present.join(", "))));
            }
            Self::BranchMissing { .. } | Self::TagMissing { .. } => "check the name, and that it was pushed",
            Self::CommitMissing { .. } => "check the id, and that a branch or tag of the repository has it",
            Self::RevisionMissing { shallow: true, .. } => {
                "only a part of the history is here: give the full commit id, a branch or a tag"
            }
            Self::RevisionMissing { .. } => "give a branch, a tag, or a commit id",
            Self::Ambiguous { .. } => "give the full commit id",
            Self::NotACommit { .. } => "give the id of a commit; `git rev-parse TAG^{commit}` prints it",
            Self::Empty { .. } => "push a commit first",
            Self::DetachedHead { .. } => "name the branch to deploy with --branch",
            Self::ObjectFormat { .. } => "use a repository with the object format sha1",
            Self::DirMissing { .. } => "check `dir`: a folder of the repository, without symbolic links",
            Self::Path { .. } => "rename the file, or leave it out with .deployignore",
            Self::Link { .. } => {
                "let the link point inside the deployed folder, or leave it out with .deployignore"
            }
            Self::TooManyFiles { .. } => "leave files out with .deployignore, or deploy a folder with `dir`",
            Self::PackTooLarge { .. } => {
                "use a small depth, take large files out of the history, or raise the limit"
            }
            Self::Corrupt { .. } => "remove the mirror's folder; the next deploy fetches it anew",
            Self::ToolMissing { package, .. } => {
                return Some(Cow::Owned(format!("install it: apt-get install {package}")));
            }
            Self::Submodule { .. } => "correct .gitmodules, or turn submodules off",
            Self::Mirror { .. } => "move what is there away, or use another home",
            Self::Io { .. } => "check permissions and free space",
            Self::Protocol { .. } => "check that the address is that of a git repository, and try again",
            Self::HookSecret { .. } => "let the forge or EEveon generate the secret, and copy all of it",
            Self::HookRefused { .. } => "set the same secret at the forge and here, and check the clocks",
            Self::HookMalformed { .. } => {
                "compare the hook's settings at the forge with the steps EEveon shows for it"
            }
        }))
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Protocol { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Stopped(stopped) => stopped.class(),
            Self::Url { .. } | Self::HookSecret { .. } => Class::Config,
            Self::HookRefused { .. } => Class::Refused,
            Self::RefName { .. } | Self::Ambiguous { .. } | Self::RevisionMissing { .. } => Class::Usage,
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::RepositoryMissing { .. }
            | Self::NotARepository { .. }
            | Self::Ownership { .. }
            | Self::Credentials { .. }
            | Self::Certificate { .. }
            | Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::Protocol { .. }
            | Self::ToolMissing { .. } => Class::Unreachable,
            Self::Corrupt { .. } | Self::Mirror { .. } | Self::Io { .. } => Class::Fault,
            _ => Class::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_shown_as_a_server_gets_its_own_hint() {
        let hint = |detail: &str| {
            SourceError::Certificate { repo: "r".to_owned(), detail: detail.to_owned() }.hint().unwrap()
        };
        assert!(hint("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))").contains("CA:FALSE"));
        assert!(hint("invalid peer certificate: UnknownIssuer").contains("ca_file"));
    }
}
