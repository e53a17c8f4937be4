//! What sections and keys are, and which sections there are.

/// A section of a project file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// Its name, as in `[source]`.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Whether it may be there several times, as `[[health]]`.
    pub many: bool,
}

impl Section {
    /// Returns how it is written, such as `[source]` or `[[health]]`.
    pub(crate) fn heading(&self) -> String {
        match self.many {
            true => format!("[[{}]]", self.name),
            false => format!("[{}]", self.name),
        }
    }
}

const fn one(name: &'static str, about: &'static str) -> Section {
    Section { name, about, many: false }
}

const fn many(name: &'static str, about: &'static str) -> Section {
    Section { name, about, many: true }
}

/// A key of a project file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// The section it stands in.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// The value it has when the file is silent, as TOML; `None` when there is none.
    pub default: Option<&'static str>,
    /// A value one might write, as TOML.
    pub example: &'static str,
    /// What it does, one or two sentences.
    pub about: &'static str,
    /// Whether a change of it makes a new release even when the commit is the same.
    pub shapes_release: bool,
}

impl Key {
    /// Returns the name with its section, such as `source.repo`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// The sections, in the order they are written.
pub(crate) const SECTIONS: &[Section] = &[
    one("source", "where the code comes from"),
    one("deploy", "where it goes"),
    one("build", "commands run in the new release, before anything is live"),
    one("hooks", "commands run in the release around the switch"),
    many("health", "a check of whether a release is fit to serve; there may be several"),
    one("rollback", "what happens when a release turns out bad"),
    many("notify", "somebody who is told what happens; there may be several"),
    one("webhook", "what a forge's webhook deploys"),
    many("schedule", "a time at which the daemon deploys by itself; there may be several"),
    one("window", "when deployments may start by themselves"),
    many("after", "a project this one is deployed after; there may be several"),
];

pub(super) const fn key(
    section: &'static str,
    name: &'static str,
    default: Option<&'static str>,
    example: &'static str,
    shapes_release: bool,
    about: &'static str,
) -> Key {
    Key { section, name, default, example, about, shapes_release }
}

/// Returns the most similar of `candidates`, if one is similar at all.
pub(crate) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(given, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.4)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
