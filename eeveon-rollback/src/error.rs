//! What can be refused, and what to do about it.

use std::{borrow::Cow, fmt};

use eeveon_core::{Class, CommitId, Diagnose, ReleaseNumber, Untrusted};
use jiff::Timestamp;

/// A release one could go back to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Which.
    pub release: ReleaseNumber,
    /// Of which commit.
    pub commit: CommitId,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.release, self.commit.short())
    }
}

/// Why a release cannot serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// No deployment of it ever succeeded.
    NeverSucceeded,
    /// It is not on the target any more.
    Removed,
    /// What lies on the target is not a complete release.
    Incomplete,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverSucceeded => "no deployment of it succeeded",
            Self::Removed => "it is no longer kept on the target",
            Self::Incomplete => "what lies on the target is not a complete release",
        })
    }
}

/// A commit may not go live, or there is nothing to go back to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RollbackError {
    /// The candidate is an ancestor of what serves.
    #[error("commit {} is older than {}, which serves", candidate.short(), live.short())]
    OlderCommit {
        /// Was to go live.
        candidate: CommitId,
        /// Serves.
        live: CommitId,
    },
    /// Too little history is known to tell which commit is the older one.
    #[error("cannot tell whether commit {} is older than {}, which serves", candidate.short(), live.short())]
    OrderUnknown {
        /// Was to go live.
        candidate: CommitId,
        /// Serves.
        live: CommitId,
    },
    /// The candidate is in quarantine.
    #[error("commit {} is in quarantine since {since}: {}", commit.short(), reason.for_terminal())]
    Quarantined {
        /// Which.
        commit: CommitId,
        /// Why it was put aside.
        reason: Untrusted,
        /// When.
        since: Timestamp,
    },
    /// The version that was asked for is neither a number nor part of a commit id.
    #[error("`{asked}` is neither a release number nor a commit of at least 4 digits")]
    NotAVersion {
        /// What was asked for, made harmless.
        asked: String,
    },
    /// No release has this number or commit.
    #[error("no release is `{asked}`; {}", there_is(there))]
    NoSuchRelease {
        /// What was asked for.
        asked: String,
        /// What one could go back to, newest first.
        there: Vec<Listed>,
    },
    /// The release exists, but cannot serve.
    #[error("release {release} cannot serve: {why}; {}", there_is(there))]
    NotUsable {
        /// Which.
        release: ReleaseNumber,
        /// Why not.
        why: Unfit,
        /// What one could go back to, newest first.
        there: Vec<Listed>,
    },
    /// Several commits begin like this.
    #[error("`{asked}` may mean several commits: {}", join(candidates))]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// The newest release of each commit it may mean.
        candidates: Vec<Listed>,
    },
    /// No release is known to have served before the live one.
    #[error("no release is known to have served before the live one; {}", there_is(there))]
    NothingBefore {
        /// What one could go back to, newest first.
        there: Vec<Listed>,
    },
    /// Between the live release and the one to go back to lies what going back does not undo.
    #[error(
        "going back would cross release {}, which changed something that going back does not change back",
        releases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Irreversible {
        /// Which releases, newest first.
        releases: Vec<ReleaseNumber>,
    },
    /// The release that was asked for serves already.
    #[error("release {release} serves already")]
    AlreadyLive {
        /// Which.
        release: ReleaseNumber,
    },
}

impl Diagnose for RollbackError {
    fn code(&self) -> &'static str {
        match self {
            Self::OlderCommit { .. } => "rollback/older-commit",
            Self::OrderUnknown { .. } => "rollback/order-unknown",
            Self::Quarantined { .. } => "rollback/quarantined",
            Self::NotAVersion { .. } => "rollback/not-a-version",
            Self::NoSuchRelease { .. } => "rollback/no-such-release",
            Self::NotUsable { .. } => "rollback/not-usable",
            Self::Ambiguous { .. } => "rollback/ambiguous",
            Self::NothingBefore { .. } => "rollback/nothing-before",
            Self::AlreadyLive { .. } => "rollback/already-live",
            Self::Irreversible { .. } => "rollback/irreversible",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::OlderCommit { candidate, .. } => format!(
                "use `ee-deploy rollback NAME` to go back, or `ee-deploy deploy NAME --rev {} --allow-older`",
                candidate.short()
            )
            .into(),
            Self::OrderUnknown { .. } => {
                "set `depth = 0` under [source] to fetch all history, or deploy with `--allow-older`".into()
            }
            Self::Quarantined { commit, .. } => format!(
                "push a commit that mends it, or run `ee-deploy quarantine NAME {} --lift`",
                commit.short()
            )
            .into(),
            Self::NotAVersion { .. } | Self::NoSuchRelease { .. } | Self::NotUsable { .. } => {
                "`ee-deploy releases NAME` lists what can serve; `ee-deploy deploy NAME --rev COMMIT \
                 --allow-older` builds an older commit anew"
                    .into()
            }
            Self::Ambiguous { .. } => "give more digits of the commit, or the release number".into(),
            Self::NothingBefore { .. } => {
                "name a release: `ee-deploy rollback NAME VERSION`; `ee-deploy releases NAME` lists them"
                    .into()
            }
            Self::Irreversible { .. } => {
                "make sure the older release works with what is there now, then add \
                 `--across-irreversible`"
                    .into()
            }
            Self::AlreadyLive { .. } => {
                "there is nothing to do; `ee-deploy releases NAME` lists what else could serve".into()
            }
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::NotAVersion { .. } | Self::NoSuchRelease { .. } | Self::Ambiguous { .. } => Class::Usage,
            _ => Class::Refused,
        }
    }
}

/// Makes text from outside fit for a message: short, on one line, harmless.
pub(crate) fn quoted(text: &str) -> String {
    Untrusted::from(text.chars().take(80).collect::<String>()).for_terminal()
}

fn join(listed: &[Listed]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = listed.iter().take(SHOWN).map(Listed::to_string).collect();
    match listed.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn there_is(there: &[Listed]) -> String {
    match there.is_empty() {
        true => "there is none to go back to".to_owned(),
        false => format!("there is {}", join(there)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: char) -> CommitId {
        CommitId::new(digit.to_string().repeat(40)).unwrap()
    }

    fn listed(number: u64, digit: char) -> Listed {
        Listed { release: ReleaseNumber(number), commit: commit(digit) }
    }

    #[test]
    fn messages_name_what_there_is() {
        let error =
            RollbackError::NoSuchRelease { asked: "9".into(), there: vec![listed(5, 'a'), listed(3, 'b')] };
        assert_eq!(error.to_string(), "no release is `9`; there is 5 (aaaaaaaa), 3 (bbbbbbbb)");
        let none = RollbackError::NothingBefore { there: Vec::new() };
        assert_eq!(
            none.to_string(),
            "no release is known to have served before the live one; there is none to go back to"
        );
        let many = RollbackError::Ambiguous {
            asked: "aaaa".into(),
            candidates: (0..10).map(|n| listed(n, 'a')).collect(),
        };
        assert!(many.to_string().ends_with("7 (aaaaaaaa) and 2 more"), "{many}");
    }

    #[test]
    fn what_others_wrote_cannot_disturb_a_terminal() {
        let error = RollbackError::Quarantined {
            commit: commit('a'),
            reason: "\u{1b}[2Jgone".into(),
            since: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            error.to_string(),
            "commit aaaaaaaa is in quarantine since 1970-01-01T00:00:00Z: \\u{1b}[2Jgone"
        );
        assert_eq!(quoted("a\u{1b}b"), "a\\u{1b}b");
    }

    #[test]
    fn every_code_has_a_page() {
        let (candidate, live, asked) = (commit('a'), commit('b'), String::new());
        let there = Vec::new;
        let release = ReleaseNumber(1);
        let all = [
            RollbackError::OlderCommit { candidate: candidate.clone(), live: live.clone() },
            RollbackError::OrderUnknown { candidate: candidate.clone(), live },
            RollbackError::Quarantined {
                commit: candidate,
                reason: "x".into(),
                since: Timestamp::UNIX_EPOCH,
            },
            RollbackError::NotAVersion { asked: asked.clone() },
            RollbackError::NoSuchRelease { asked: asked.clone(), there: there() },
            RollbackError::NotUsable { release, why: Unfit::Removed, there: there() },
            RollbackError::Ambiguous { asked, candidates: there() },
            RollbackError::NothingBefore { there: there() },
            RollbackError::AlreadyLive { release },
            RollbackError::Irreversible { releases: vec![release] },
        ];
        for error in all {
            let page = format!(
                "{}/../docs/errors/{}.md",
                env!("CARGO_MANIFEST_DIR"),
                error.code().replace('/', "-")
            );
            let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{page} is missing"));
            assert!(text.starts_with(&format!("# {}\n", error.code())), "{page}");
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
        }
    }
}
