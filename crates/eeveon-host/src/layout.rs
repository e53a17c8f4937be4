//! The names below a project's path, and which of them are ours.

use eeveon_core::{Fence, ReleaseNumber};

/// The link that decides which release is live.
pub(crate) const CURRENT: &[u8] = b"current";
/// The folder of all releases.
pub(crate) const RELEASES: &[u8] = b"releases";
/// The folder of what outlives releases.
pub(crate) const SHARED: &[u8] = b"shared";
/// The folder of what we keep for ourselves.
pub(crate) const OWN: &[u8] = b".eeveon";
/// The file in a release that names its commit.
pub(crate) const REVISION: &[u8] = b"REVISION";

/// A name in the folder of releases.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Name {
    /// A release.
    Release(ReleaseNumber),
    /// A release set aside for inspection.
    Failed(ReleaseNumber),
    /// A release being made.
    New(ReleaseNumber, Fence),
    /// A release being removed.
    Gone(ReleaseNumber, Fence),
    /// A file being made anew for a release.
    Mend(ReleaseNumber, Fence),
}

impl Name {
    pub(crate) fn text(self) -> Vec<u8> {
        match self {
            Self::Release(number) => format!("{number}"),
            Self::Failed(number) => format!("failed-{number}"),
            Self::New(number, fence) => format!(".new-{number}-{fence}"),
            Self::Gone(number, fence) => format!(".gone-{number}-{fence}"),
            Self::Mend(number, fence) => format!(".mend-{number}-{fence}"),
        }
        .into_bytes()
    }

    /// Reads a name back; `None` for one we would not have given.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let number = |text: &str| text.parse().ok().map(ReleaseNumber);
        let pair = |text: &str| {
            let (release, fence) = text.split_once('-')?;
            Some((number(release)?, Fence(fence.parse().ok()?)))
        };
        let parsed = if let Some(rest) = text.strip_prefix("failed-") {
            Self::Failed(number(rest)?)
        } else if let Some(rest) = text.strip_prefix(".new-") {
            pair(rest).map(|(release, fence)| Self::New(release, fence))?
        } else if let Some(rest) = text.strip_prefix(".gone-") {
            pair(rest).map(|(release, fence)| Self::Gone(release, fence))?
        } else if let Some(rest) = text.strip_prefix(".mend-") {
            pair(rest).map(|(release, fence)| Self::Mend(release, fence))?
        } else {
            Self::Release(number(text)?)
        };
        // `01` and `+1` parse, but are not how we write 1.
        (parsed.text() == name).then_some(parsed)
    }
}

/// Returns the link by which `release` is live.
pub(crate) fn link_to(release: ReleaseNumber) -> Vec<u8> {
    format!("releases/{release}").into_bytes()
}

/// Reads back which release a link makes live.
pub(crate) fn linked(link: &[u8]) -> Option<ReleaseNumber> {
    match Name::parse(link.strip_prefix(b"releases/")?)? {
        Name::Release(number) => Some(number),
        _ => None,
    }
}

/// Returns the name of a link that is about to become [`CURRENT`].
pub(crate) fn next_current(fence: Fence) -> Vec<u8> {
    format!(".current-{fence}").into_bytes()
}

/// Tells whether `name` is one [`next_current`] gives.
pub(crate) fn is_next_current(name: &[u8]) -> bool {
    name.strip_prefix(b".current-")
        .is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

/// Returns the path from the place of the shared `path` in a release to where it is kept.
pub(crate) fn shared_link(path: &[u8]) -> Vec<u8> {
    // Out of the folders of `path`, out of the release, out of `releases`.
    let up = path.iter().filter(|byte| **byte == b'/').count().saturating_add(2);
    [b"../".repeat(up).as_slice(), SHARED, b"/", path].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_text() {
        let (number, fence) = (ReleaseNumber(12), Fence(7));
        for name in [
            Name::Release(number),
            Name::Failed(number),
            Name::New(number, fence),
            Name::Gone(number, fence),
            Name::Mend(number, fence),
        ] {
            assert_eq!(Name::parse(&name.text()), Some(name));
        }
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for name in
            ["", "01", "+1", "1 ", "v1", "failed-", "failed-x", ".new-1", ".new-1-", ".gone--1", "1/2"]
        {
            assert_eq!(Name::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn only_plain_links_to_releases_count() {
        assert_eq!(linked(&link_to(ReleaseNumber(3))), Some(ReleaseNumber(3)));
        for link in ["releases/", "releases/03", "/srv/releases/3", "releases/failed-3", "releases/3/"] {
            assert_eq!(linked(link.as_bytes()), None, "{link}");
        }
    }

    #[test]
    fn shared_links_climb_as_far_as_they_must() {
        assert_eq!(shared_link(b".env"), b"../../shared/.env");
        assert_eq!(shared_link(b"var/log"), b"../../../shared/var/log");
    }
}
