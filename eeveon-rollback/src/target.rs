//! What to go back to: told by the history of deployments and by what lies on the target, never by
//! file times.

use std::collections::{BTreeMap, BTreeSet};

use eeveon_core::{CommitId, DeploymentId, Present, ReleaseNumber};

use crate::{
    RollbackError,
    error::{Listed, Unfit, quoted},
};

/// A release the history knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownRelease {
    /// Which.
    pub release: ReleaseNumber,
    /// Of which commit.
    pub commit: CommitId,
    /// Whether a deployment of it ever succeeded.
    pub succeeded: bool,
    /// Whether it changed something that going back does not change back.
    pub irreversible: bool,
}

/// What one may go back to.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// Every release ever made, in any order.
    pub known: &'a [KnownRelease],
    /// What lies on the target.
    pub present: &'a [Present],
    /// What each successful deployment made serve, oldest first.
    pub served: &'a [(DeploymentId, ReleaseNumber)],
    /// What serves.
    pub live: Option<ReleaseNumber>,
}

/// Chooses the release to go back to: the one that served before the live one, or what was asked
/// for, a release number or at least four digits of a commit. Digits alone mean a release number if
/// there is such a release, otherwise a commit. Of several releases of one commit the newest that
/// can serve is meant.
///
/// # Errors
///
/// There is no such release, it cannot serve, it serves already, or several commits may be meant;
/// the error lists what there is to go back to.
pub fn choose(asked: Option<&str>, from: &Candidates<'_>) -> Result<ReleaseNumber, RollbackError> {
    let Some(asked) = asked.map(str::trim) else { return from.before_live() };
    let number = asked.parse().ok().filter(|number: &u64| number.to_string() == asked).map(ReleaseNumber);
    if let Some(number) = number
        && from.known.iter().any(|it| it.release == number)
    {
        return from.fit(number);
    }
    let is_prefix = (4..=64).contains(&asked.len()) && asked.bytes().all(|b| b.is_ascii_hexdigit());
    match (is_prefix, number) {
        (true, _) => from.of_commit(&asked.to_ascii_lowercase()),
        (false, Some(_)) => Err(from.none(asked)),
        (false, None) => Err(RollbackError::NotAVersion { asked: quoted(asked) }),
    }
}

/// Returns the release that served before `live`, as the successful deployments tell. Going back to
/// a release takes away all that came after it, so that going back again goes further back, not to
/// what was just left.
pub fn predecessor(
    served: &[(DeploymentId, ReleaseNumber)],
    live: Option<ReleaseNumber>,
) -> Option<ReleaseNumber> {
    let mut stack: Vec<ReleaseNumber> = Vec::new();
    for (_, release) in served {
        match stack.iter().position(|it| it == release) {
            Some(at) => stack.truncate(at.saturating_add(1)),
            None => stack.push(*release),
        }
    }
    let at = stack.iter().position(|it| Some(*it) == live)?;
    stack.get(at.checked_sub(1)?).copied()
}

/// Returns the irreversible releases that lie between `live` and an older `to`, newest first. One
/// that failed counts too: how far its migration came, nobody knows.
pub fn crossed(known: &[KnownRelease], live: Option<ReleaseNumber>, to: ReleaseNumber) -> Vec<ReleaseNumber> {
    let between = |it: &&KnownRelease| it.irreversible && it.release > to && Some(it.release) <= live;
    let mut crossed: Vec<ReleaseNumber> = known.iter().filter(between).map(|it| it.release).collect();
    crossed.sort_unstable_by(|a, b| b.cmp(a));
    crossed
}

impl Candidates<'_> {
    fn before_live(&self) -> Result<ReleaseNumber, RollbackError> {
        match predecessor(self.served, self.live) {
            Some(release) => self.fit(release),
            None => Err(RollbackError::NothingBefore { there: self.there() }),
        }
    }

    fn of_commit(&self, prefix: &str) -> Result<ReleaseNumber, RollbackError> {
        let mut meant: BTreeMap<&CommitId, BTreeSet<ReleaseNumber>> = BTreeMap::new();
        for it in self.known.iter().filter(|it| it.commit.as_str().starts_with(prefix)) {
            meant.entry(&it.commit).or_default().insert(it.release);
        }
        let newest = |releases: &BTreeSet<ReleaseNumber>| releases.last().copied().unwrap_or_default();
        let mut of = meant.values();
        match (of.next(), of.next()) {
            (None, _) => Err(self.none(prefix)),
            (Some(releases), None) => {
                let usable = releases.iter().rev().find(|release| self.unfit(**release).is_none());
                self.fit(usable.copied().unwrap_or_else(|| newest(releases)))
            }
            (Some(_), Some(_)) => {
                let listed = |(commit, releases): (&&CommitId, &BTreeSet<_>)| Listed {
                    release: newest(releases),
                    commit: (*commit).clone(),
                };
                let candidates = meant.iter().map(listed).collect();
                Err(RollbackError::Ambiguous { asked: prefix.to_owned(), candidates })
            }
        }
    }

    /// Lets a known release pass if it can serve and does not already.
    fn fit(&self, release: ReleaseNumber) -> Result<ReleaseNumber, RollbackError> {
        if self.live == Some(release) {
            return Err(RollbackError::AlreadyLive { release });
        }
        match self.unfit(release) {
            Some(why) => Err(RollbackError::NotUsable { release, why, there: self.there() }),
            None => Ok(release),
        }
    }

    fn unfit(&self, release: ReleaseNumber) -> Option<Unfit> {
        let succeeded = self.known.iter().any(|it| it.release == release && it.succeeded);
        let usable = self.present.iter().find(|it| it.release == release).map(|it| it.usable);
        match (succeeded, usable) {
            (false, _) => Some(Unfit::NeverSucceeded),
            (true, None) => Some(Unfit::Removed),
            (true, Some(false)) => Some(Unfit::Incomplete),
            (true, Some(true)) => None,
        }
    }

    fn none(&self, asked: &str) -> RollbackError {
        RollbackError::NoSuchRelease { asked: quoted(asked), there: self.there() }
    }

    /// Lists what one could go back to, newest first.
    fn there(&self) -> Vec<Listed> {
        let can_serve =
            |it: &&KnownRelease| self.live != Some(it.release) && self.unfit(it.release).is_none();
        let listed = |it: &KnownRelease| Listed { release: it.release, commit: it.commit.clone() };
        let mut there: Vec<_> = self.known.iter().filter(can_serve).map(listed).collect();
        there.sort_by_key(|it| std::cmp::Reverse(it.release));
        there
    }
}
