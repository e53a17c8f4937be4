//! When a commit is put aside because whoever deployed it died: over requests, by what the history says.

/// After so many deaths a deployment is not tried again.
pub const MOST_DEATHS: u8 = 3;

/// A deployment whose process died so often runs alone: should it die once more, nobody else is to blame.
pub(crate) const ALONE: u8 = MOST_DEATHS - 1;

/// How an earlier deployment of a commit ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Past {
    /// The process that carried it out died, and it was taken back.
    Died,
    /// Somebody stopped it, which says nothing about the commit.
    Stopped,
    /// It came to an end of its own, good or bad.
    Ended,
}

/// Tells whether a commit is put aside now that whoever deployed it died, given how its deployments
/// before this one ended, the newest first. Every third death in a row does it: lifted by a person, the
/// commit has three more.
pub fn is_deadly(before: impl IntoIterator<Item = Past>) -> bool {
    let in_a_row = before.into_iter().take_while(|it| *it != Past::Ended);
    let deaths = 1 + in_a_row.filter(|it| *it == Past::Died).count();
    deaths.is_multiple_of(usize::from(MOST_DEATHS))
}
