//! Which events deploy, and the words for it.

use eeveon_core::Untrusted;
use gix::{
    bstr::ByteSlice,
    glob::{wildmatch, wildmatch::Mode},
};

use super::{Event, ReleaseAction};
use crate::{Want, ignore::Patterns, refs::shown};

/// What a project deploys on a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// Pushes to this branch, spelt exactly so.
    pub branch: String,
    /// Of those, the ones that change a file these select: patterns as in `.deployignore`, naming what
    /// counts; what is in a folder that matches, matches too. The last pattern that matches decides, and
    /// one that begins with `!` says no. No pattern selects everything, and so does a list that begins
    /// with `!` before it takes away.
    pub paths: Vec<String>,
    /// Tags that match this pattern (`*` stands for anything but `/`). None deploys no tag.
    pub tags: Option<String>,
    /// Whether releases deploy, when they are published and neither a draft nor a pre-release.
    pub releases: bool,
}

/// What comes of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// What to look up in the repository and deploy, if anything.
    pub deploy: Option<Want>,
    /// What was decided and why, for people. Fit for a terminal.
    pub why: String,
}

/// Decides about what a delivery tells. Of several things that would deploy, the last one does; of
/// several that do not, the words are about the first.
pub fn decide(events: &[Event], filter: &Filter) -> Decision {
    let mut decisions = events.iter().map(|event| judge(event, filter));
    let Some(mut found) = decisions.next() else {
        return no("the delivery ignored: it tells of nothing".to_owned());
    };
    for next in decisions {
        if next.deploy.is_some() {
            found = next;
        }
    }
    match events.len() {
        0 | 1 => {}
        2 => found.why.push_str(" (and 1 more)"),
        count => found.why.push_str(&format!(" (and {} more)", count - 1)),
    }
    found
}

fn no(why: String) -> Decision {
    Decision { deploy: None, why }
}

fn judge(event: &Event, filter: &Filter) -> Decision {
    match event {
        Event::Push { branch, paths, .. } => push(branch, paths.as_deref(), filter),
        Event::BranchDeleted { branch } => {
            no(format!("removal of branch `{}` ignored: what serves goes on serving", shown(branch)))
        }
        Event::Tag { tag, .. } => {
            let what = format!("tag `{}`", shown(tag));
            match &filter.tags {
                None => no(format!("{what} ignored: this project deploys no tags")),
                Some(pattern) => match is_tag_of(pattern, tag) {
                    true => Decision {
                        deploy: Some(Want::Tag(tag.clone())),
                        why: format!("{what} deploys: it matches `{}`", shown(pattern)),
                    },
                    false => no(format!("{what} ignored: this project deploys tags `{}`", shown(pattern))),
                },
            }
        }
        Event::TagDeleted { tag } => {
            no(format!("removal of tag `{}` ignored: what serves goes on serving", shown(tag)))
        }
        Event::Release { tag, action, draft, prerelease } => {
            let what = format!("release `{}`", shown(tag));
            let against = match (filter.releases, action) {
                (false, _) => "this project deploys no releases",
                (_, ReleaseAction::Changed) => "it was changed, not published",
                (_, ReleaseAction::Deleted) => "it was removed, and what serves goes on serving",
                (true, ReleaseAction::Published) if *draft => "it is a draft",
                (true, ReleaseAction::Published) if *prerelease => "it is a pre-release",
                (true, ReleaseAction::Published) => {
                    let why = format!("{what} deploys: it was published");
                    return Decision { deploy: Some(Want::Tag(tag.clone())), why };
                }
            };
            no(format!("{what} ignored: {against}"))
        }
        Event::Ping => no("ping answered: the hook works".to_owned()),
        Event::Other { name } => {
            no(format!("event `{}` ignored: only pushes, tags and releases deploy", shown(name.as_raw())))
        }
    }
}

fn push(branch: &str, paths: Option<&[Untrusted]>, filter: &Filter) -> Decision {
    let what = format!("push to `{}`", shown(branch));
    if branch != filter.branch {
        return no(format!("{what} ignored: this project deploys `{}`", shown(&filter.branch)));
    }
    let yes = |why: String| Decision { deploy: Some(Want::Branch(branch.to_owned())), why };
    if filter.paths.is_empty() {
        return yes(format!("{what} deploys: it is the branch of this project"));
    }
    let Some(paths) = paths else {
        return yes(format!("{what} deploys: the forge does not list every file that changed"));
    };
    let selection = Selection::new(&filter.paths);
    match paths.iter().find(|path| selection.has(path.as_raw())) {
        Some(path) => yes(format!("{what} deploys: it changes `{}`", shown(path.as_raw()))),
        None => no(format!(
            "{what} ignored: it changes {}, and this project deploys on changes of {}",
            match paths.len() {
                0 => "no file".to_owned(),
                1 => "1 other file".to_owned(),
                count => format!("{count} other files"),
            },
            shown(&filter.paths.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", "))
        )),
    }
}

/// Tells whether a change of the file at `path` is one that deploys, after [`Filter::paths`].
pub fn selects(paths: &[String], path: &str) -> bool {
    paths.is_empty() || Selection::new(paths).has(path)
}

/// What a list of patterns selects.
struct Selection {
    /// Each alone, and whether it takes away.
    patterns: Vec<(Patterns, bool)>,
    /// Whether what matches none is selected.
    rest: bool,
}

impl Selection {
    fn new(patterns: &[String]) -> Self {
        let one = |text: &String| {
            let (text, negative) = text.strip_prefix('!').map_or((text.as_str(), false), |text| (text, true));
            (Patterns::new(&[text.to_owned()]), negative)
        };
        let rest = patterns.first().is_none_or(|first| first.starts_with('!'));
        Self { patterns: patterns.iter().map(one).collect(), rest }
    }

    fn has(&self, path: &str) -> bool {
        let decides = |pattern: &Patterns| {
            let mut folders = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            folders.any(|folder| !folder.is_empty() && pattern.excludes(folder.as_bytes(), true))
                || pattern.excludes(path.as_bytes(), false)
        };
        let last = self.patterns.iter().rev().find(|(pattern, _)| decides(pattern));
        last.map_or(self.rest, |(_, negative)| !negative)
    }
}

/// Tells whether a tag's name is one that deploys, after [`Filter::tags`].
pub fn is_tag_of(pattern: &str, tag: &str) -> bool {
    wildmatch(pattern.as_bytes().as_bstr(), tag.as_bytes().as_bstr(), Mode::NO_MATCH_SLASH_LITERAL)
}
