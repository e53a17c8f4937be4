//! Watches over one connection: whether it should stop, how long the other side has been silent,
//! and what went wrong first. The layers between (packet lines, packs) only pass on that
//! *something* did; the reason is kept here.

use std::{
    io,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use eeveon_core::Permit;

use crate::{
    Limits, SourceError,
    refs::{shown, shown_bytes},
};

/// How much of what a program says on its standard error is kept, in bytes.
const KEPT: usize = 16 * 1024;

/// How much a server may say beside the pack, in bytes: greeting, references, progress. Enough for the
/// half a million references a server without protocol version 2 lists unasked.
const TALK: u64 = 32 << 20;

/// What is known about a connection while it is used.
pub(crate) struct Watch {
    /// How the repository is shown.
    pub(crate) repo: String,
    /// Whether to stop, and whom to tell of progress.
    pub(crate) permit: Permit,
    /// What is too much, and too slow.
    pub(crate) limits: Limits,
    first: Mutex<Option<SourceError>>,
    stderr: Mutex<Vec<u8>>,
    /// What came and is not known to be part of a pack, in bytes.
    talk: AtomicU64,
}

impl Watch {
    pub(crate) fn new(repo: String, permit: Permit, limits: Limits) -> Self {
        Self {
            repo,
            permit,
            limits,
            first: Mutex::new(None),
            stderr: Mutex::new(Vec::new()),
            talk: AtomicU64::new(0),
        }
    }

    /// Keeps the first error, and returns one that can travel through the layers between.
    pub(crate) fn fail(&self, error: SourceError) -> io::Error {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        io::Error::other("the connection was given up")
    }

    /// Fails if the work should stop.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.permit.check().map_err(|stopped| self.fail(stopped.into()))
    }

    /// Counts what came. A server that talks without end is given up: all the layers between would keep
    /// what it says, or wait for ever.
    pub(crate) fn came(&self, bytes: usize) -> io::Result<()> {
        let before = self.talk.fetch_add(bytes as u64, Ordering::Relaxed);
        match before.saturating_add(bytes as u64) > TALK {
            false => Ok(()),
            true => Err(self.fail(SourceError::Protocol {
                repo: self.repo.clone(),
                detail: format!("it says more than {} MiB beside the pack", TALK >> 20),
            })),
        }
    }

    /// Notes that some of what came was part of a pack, which has a limit of its own.
    pub(crate) fn was_pack(&self, bytes: usize) {
        self.talk.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// The error for a server that says nothing any more.
    pub(crate) fn silent(&self) -> io::Error {
        self.fail(SourceError::TimedOut {
            repo: self.repo.clone(),
            what: "without data",
            after: self.limits.idle,
        })
    }

    /// The error for a server that cannot be connected to in time.
    pub(crate) fn connect_timed_out(&self) -> SourceError {
        SourceError::TimedOut { repo: self.repo.clone(), what: "connecting", after: self.limits.connect }
    }

    /// Keeps what a program said on its standard error, up to a bound.
    pub(crate) fn heard(&self, bytes: &[u8]) {
        let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(stderr.len());
        stderr.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Like [`Watch::explain`], for work that also writes to `folder`: a disk that refuses is not the
    /// server's fault.
    pub(crate) fn explain_at(&self, error: &gix::Error, folder: &Path) -> SourceError {
        match disk_refusal(error) {
            Some(refusal) => SourceError::io("write to", folder)(refusal),
            None => self.explain(error),
        }
    }

    /// Returns what was heard of a program's standard error.
    pub(crate) fn said(&self) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        shown_bytes(stderr.trim_ascii())
    }

    /// Says what went wrong, from the first cause seen, what the program said, and `error`.
    pub(crate) fn explain(&self, error: &dyn std::error::Error) -> SourceError {
        if let Some(first) = self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return first;
        }
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&stderr);
        let chain = chain(error);
        let timeout = self.limits.connect;
        explain(&self.repo, &said, &chain, timeout).unwrap_or_else(|| SourceError::Protocol {
            repo: self.repo.clone(),
            detail: match said.trim().is_empty() {
                true => shown(&chain),
                false => shown_bytes(said.trim().as_bytes()),
            },
        })
    }
}

/// Finds the refusal of a disk among the causes of an error: full, beyond the quota, read-only or
/// failing. None of them comes from a connection.
fn disk_refusal(error: &gix::Error) -> Option<io::Error> {
    error.iter_errors().find_map(|mut cause| {
        loop {
            if let Some(error) = cause.downcast_ref::<gix::Error>() {
                return disk_refusal(error);
            }
            let found = cause.downcast_ref::<io::Error>()?;
            let failing = found.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
            if failing
                || matches!(
                    found.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::ReadOnlyFilesystem
                )
            {
                return Some(match found.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(found.kind(), found.to_string()),
                });
            }
            cause = found.get_ref()?;
        }
    })
}

/// Joins an error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    for _ in 0..16 {
        let Some(cause) = source else { break };
        let text = cause.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        source = cause.source();
    }
    out
}

/// Reads the reason out of what ssh, git and servers say. Their wording is English because we start
/// them with `LC_ALL=C`; texts are those of OpenSSH, git and the large forges.
fn explain(repo: &str, said: &str, chain: &str, connect: Duration) -> Option<SourceError> {
    let repo = repo.to_owned();
    let text = format!("{said}\n{chain}").to_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    // The line that says it, for the message.
    let line = |needles: &[&str]| {
        let found = said.lines().find(|line| {
            let line = line.to_lowercase();
            needles.iter().any(|needle| line.contains(needle))
        });
        shown(found.unwrap_or(chain).trim())
    };
    const CHANGED: &[&str] = &["remote host identification has changed", "host key for", "has changed"];
    const UNREACHABLE: &[&str] = &[
        "could not resolve",
        "name or service not known",
        "temporary failure in name resolution",
        "connection refused",
        "no route to host",
        "network is unreachable",
        "connection reset",
        "connection closed by",
        "kex_exchange_identification",
        "lost connection",
        "connection aborted",
        "broken pipe",
    ];
    const CREDENTIALS: &[&str] = &[
        "permission denied (",
        "too many authentication failures",
        "no such identity",
        "authentication failed",
        "bad permissions",
        "load key",
    ];
    if text.contains("remote host identification has changed")
        || (has(&["host key verification failed"]) && has(CHANGED))
    {
        return Some(SourceError::HostKeyChanged { repo });
    }
    if has(&["host key verification failed", "host key is known for"]) {
        return Some(SourceError::HostKeyUnknown { repo });
    }
    if has(&["dubious ownership"]) {
        return Some(SourceError::Ownership { repo });
    }
    if has(&["not our ref", "unadvertised object"]) {
        let commit = text
            .split(|c: char| !c.is_ascii_hexdigit())
            .find(|word| matches!(word.len(), 40 | 64))
            .unwrap_or("asked for")
            .to_owned();
        return Some(SourceError::CommitMissing { repo, commit });
    }
    if has(&[
        "does not appear to be a git repository",
        "repository not found",
        "not exported",
        "no such repository",
        "project you were looking for could not be found",
        "could not be found or you don't have permission",
        "could not read from remote repository: not found",
        "does not exist",
        "no such file or directory",
    ]) && !has(&["identity file", "known_hosts"])
    {
        return Some(SourceError::RepositoryMissing { repo });
    }
    if has(CREDENTIALS) {
        return Some(SourceError::Credentials { repo, detail: line(CREDENTIALS) });
    }
    if has(&["connection timed out", "operation timed out"]) {
        return Some(SourceError::TimedOut { repo, what: "connecting", after: connect });
    }
    if has(UNREACHABLE) {
        return Some(SourceError::Unreachable { repo, detail: line(UNREACHABLE) });
    }
    if has(&[
        "git-upload-pack: not found",
        "git-upload-pack: command not found",
        "upload-pack' is not a git command",
    ]) {
        return Some(SourceError::Protocol { repo, detail: "git is not installed there".to_owned() });
    }
    None
}

#[cfg(test)]
mod tests {
    use eeveon_core::Diagnose;

    use super::*;

    fn code(said: &str, chain: &str) -> &'static str {
        explain("R", said, chain, Duration::from_secs(1)).map_or("none", |error| error.code())
    }

    #[test]
    fn what_programs_say_is_told_apart() {
        for (said, expected) in [
            (
                "@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
                "source/host-key-changed",
            ),
            (
                "No ED25519 host key is known for [127.0.0.1]:22 and you have requested strict checking.\nHost key verification failed.",
                "source/host-key-unknown",
            ),
            ("git@h: Permission denied (publickey).", "source/credentials"),
            ("ssh: Could not resolve hostname nope: Name or service not known", "source/unreachable"),
            ("ssh: connect to host h port 22: Connection refused", "source/unreachable"),
            ("ssh: connect to host h port 22: Connection timed out", "source/timed-out"),
            ("fatal: '/x' does not appear to be a git repository", "source/repository-missing"),
            (
                "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
                "source/repository-missing",
            ),
            ("fatal: detected dubious ownership in repository at '/x'", "source/ownership"),
            ("something else", "none"),
        ] {
            assert_eq!(code(said, ""), expected, "{said}");
        }
        assert_eq!(code("", "access denied or repository not exported: /x"), "source/repository-missing");
        assert_eq!(
            code("", "upload-pack: not our ref e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            "source/commit-missing"
        );
    }

    #[test]
    fn a_disk_that_refuses_is_not_blamed_on_the_server() {
        let permit = Permit::new(eeveon_core::Fence(1), tokio_util::sync::CancellationToken::new());
        let watch = Watch::new("R".into(), permit, Limits::default());
        let code = |error: gix::Error| watch.explain_at(&error, Path::new("/m.git")).code();
        let wrapped =
            |error: io::Error| gix::Error::from_error(io::Error::other(gix::Error::from_error(error)));
        use rustix::io::Errno;
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO] {
            assert_eq!(code(gix::Error::from_error(io::Error::from(errno))), "source/io", "{errno}");
            assert_eq!(code(wrapped(errno.into())), "source/io", "{errno}");
            let deep = io::Error::other(io::Error::other(io::Error::from(errno)));
            assert_eq!(code(gix::Error::from_error(deep)), "source/io", "{errno}");
        }
        let full = gix::Error::from_error(io::Error::from(Errno::NOSPC));
        let error = watch.explain_at(&full, Path::new("/m.git"));
        assert!(error.to_string().contains("/m.git"), "{error}");
        assert_eq!((error.retry(), error.class()), (eeveon_core::Retry::Never, eeveon_core::Class::Fault));
        assert_eq!(code(wrapped(Errno::CONNRESET.into())), "source/unreachable");
        assert_eq!(code(wrapped(io::Error::other("nonsense"))), "source/protocol");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let watch = Watch::new(
            "R".into(),
            Permit::new(eeveon_core::Fence(1), tokio_util::sync::CancellationToken::new()),
            Limits::default(),
        );
        for _ in 0..100 {
            watch.heard(&[b'x'; 1000]);
        }
        assert_eq!(watch.stderr.lock().unwrap().len(), KEPT);
    }

    #[test]
    fn the_first_cause_is_the_one_told() {
        let permit = Permit::new(eeveon_core::Fence(1), tokio_util::sync::CancellationToken::new());
        permit.cancel.cancel();
        let watch = Watch::new("R".into(), permit, Limits::default());
        let travelling = watch.check().unwrap_err();
        watch.silent();
        assert_eq!(watch.explain(&travelling).code(), "engine/cancelled");
    }
}
