//! What a release should consist of: the source's files, the links to what is shared, `REVISION`.

use std::collections::{HashMap, HashSet};

use eeveon_core::{CommitId, ContentId, FileEntry, FileKind, StepError};

use crate::{
    HostError,
    disk::split,
    error::Place,
    hash,
    layout::{REVISION, shared_link},
    manifest::Origin,
    tree::Tree,
};

/// What releases share, by paths relative to a release.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    pub(crate) folders: Vec<Vec<u8>>,
    pub(crate) files: Vec<Vec<u8>>,
}

impl Shared {
    /// Checks the paths an operator wrote; a `/` at the end of a folder is dropped.
    pub(crate) fn new(folders: &[String], files: &[String]) -> Result<Self, HostError> {
        let plain = |path: &String| path.trim_end_matches('/').as_bytes().to_vec();
        let shared = Self {
            folders: folders.iter().map(plain).collect(),
            files: files.iter().map(|it| it.as_bytes().to_vec()).collect(),
        };
        let bad = |path: &[u8], rule| Err(HostError::BadShared { name: Place::of_bytes(path), rule });
        for path in shared.paths() {
            if let Some(rule) = broken_rule(path) {
                return bad(path, rule);
            }
            if path == REVISION {
                return bad(path, "every release has its own");
            }
            if shared.paths().filter(|other| is_within(other, path)).count() > 1 {
                return bad(path, "it is named twice, or holds another shared path");
            }
        }
        Ok(shared)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.folders.iter().chain(&self.files).map(Vec::as_slice)
    }
}

/// One path of a release to be.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: FileKind,
    pub(crate) id: ContentId,
    /// The content, if it is ours and not the source's.
    pub(crate) own: Option<Vec<u8>>,
}

impl Item {
    pub(crate) fn origin(&self) -> Origin {
        if self.own.is_some() { Origin::Own } else { Origin::Source }
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, FileKind::Regular | FileKind::Executable)
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.kind == FileKind::Folder
    }
}

/// Everything a release should consist of, sorted by path.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) items: Vec<Item>,
}

impl Wanted {
    /// Puts a release together. What the source has where something shared or `REVISION` belongs is
    /// left out. `read` gives the content of a link.
    pub(crate) fn new(
        listed: Vec<FileEntry>,
        shared: &Shared,
        commit: &CommitId,
        read: impl FnMut(&ContentId, &mut Vec<u8>) -> Result<(), StepError>,
    ) -> Result<Self, StepError> {
        let mut items = Vec::with_capacity(listed.len().saturating_add(8));
        for FileEntry { path, kind, id } in listed {
            let bad = |rule| Err(HostError::BadContent { path: Place::of_bytes(&path), rule }.into());
            if let Some(rule) = broken_rule(&path) {
                return bad(rule);
            }
            if id.as_bytes().len() != hash::CHECKSUM && kind != FileKind::Folder {
                return bad("its content id is not SHA-1");
            }
            if shared.paths().chain([REVISION]).any(|ours| is_within(&path, ours)) {
                continue;
            }
            if shared.paths().any(|ours| is_within(ours, &path)) {
                match kind {
                    // No longer empty.
                    FileKind::Folder => continue,
                    _ => return bad("something shared belongs below it"),
                }
            }
            items.push(Item { path, kind, id, own: None });
        }
        for path in shared.paths() {
            items.push(own(path, FileKind::Symlink, shared_link(path))?);
        }
        items.push(own(REVISION, FileKind::Regular, format!("{commit}\n").into_bytes())?);
        items.sort_by(|a, b| a.path.cmp(&b.path));
        let wanted = Self { items };
        wanted.refuse_overlap()?;
        if shared.paths().next().is_some() {
            wanted.refuse_shared_links(shared, read)?;
        }
        Ok(wanted)
    }

    pub(crate) fn tree(&self) -> Tree<'_> {
        Tree::new(self.items.iter().map(|item| (item.path.as_slice(), item.is_folder())))
    }

    /// A list that names a path twice, or one below a file or a link, would let one path be written
    /// through another.
    fn refuse_overlap(&self) -> Result<(), HostError> {
        let bad = |path: &[u8], rule| Err(HostError::BadContent { path: Place::of_bytes(path), rule });
        for pair in self.items.windows(2) {
            if let [a, b] = pair
                && a.path == b.path
            {
                return bad(&a.path, "it is listed twice");
            }
        }
        let tree = self.tree();
        let folders: HashSet<&[u8]> = tree.folders.iter().map(|node| node.path).collect();
        match self.items.iter().find(|item| !item.is_folder() && folders.contains(item.path.as_slice())) {
            Some(item) => bad(&item.path, "something else is listed below it"),
            None => Ok(()),
        }
    }
}

impl Wanted {
    /// Refuses links that go through something shared and back out of it. What is shared lies
    /// elsewhere, maybe behind a link of an operator's, so a `..` in it leads out of the release.
    fn refuse_shared_links(
        &self,
        shared: &Shared,
        mut read: impl FnMut(&ContentId, &mut Vec<u8>) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let mut links = HashMap::new();
        for item in self.items.iter().filter(|it| it.kind == FileKind::Symlink && it.own.is_none()) {
            let mut to = Vec::new();
            read(&item.id, &mut to)?;
            links.insert(item.path.as_slice(), to);
        }
        let shared: HashSet<&[u8]> = shared.paths().collect();
        for item in &self.items {
            if let Some(to) = links.get(item.path.as_slice())
                && leaves_shared(&item.path, to, &links, &shared)
            {
                let (link, target) = (Place::of_bytes(&item.path), Place::of_bytes(to));
                return Err(HostError::SharedLink { link, target }.into());
            }
        }
        Ok(())
    }
}

/// How many links in a row the system follows (path_resolution(7)).
const HOPS: usize = 40;

/// Follows the link at `path` as the system would, over the release's other `links`, and tells
/// whether it goes up after it came to something `shared`. What does not exist counts as a folder: a
/// build may make it one. That a link leaves the release otherwise is looked for elsewhere.
fn leaves_shared(path: &[u8], to: &[u8], links: &HashMap<&[u8], Vec<u8>>, shared: &HashSet<&[u8]>) -> bool {
    let mut here = split(path).0.to_vec();
    // What is still to be walked, the next part last.
    let mut rest: Vec<&[u8]> = to.split(|byte| *byte == b'/').rev().collect();
    let mut hops = 1;
    while let Some(part) = rest.pop() {
        match part {
            b"" | b"." => continue,
            b".." => {
                here.truncate(split(&here).0.len());
                continue;
            }
            _ => {}
        }
        if !here.is_empty() {
            here.push(b'/');
        }
        here.extend_from_slice(part);
        if shared.contains(here.as_slice()) {
            return rest.contains(&b"..".as_slice());
        }
        if let Some(to) = links.get(here.as_slice()) {
            hops += 1;
            if hops > HOPS {
                // The system gives up here too.
                return false;
            }
            here.truncate(split(&here).0.len());
            rest.extend(to.split(|byte| *byte == b'/').rev());
        }
    }
    false
}

/// Returns an item whose content is ours.
fn own(path: &[u8], kind: FileKind, content: Vec<u8>) -> Result<Item, HostError> {
    let bad = || HostError::BadContent { path: Place::of_bytes(path), rule: "its content has no id" };
    let id = hash::of_bytes(&content).ok_or_else(bad)?;
    Ok(Item { path: path.to_vec(), kind, id, own: Some(content) })
}

/// Names the rule a path relative to a release breaks.
fn broken_rule(path: &[u8]) -> Option<&'static str> {
    let mut parts = path.split(|byte| *byte == b'/');
    if path.is_empty() || path.contains(&0) {
        Some("a path has at least one character, and none of code zero")
    } else if parts.any(|part| matches!(part, b"" | b"." | b"..") || part.eq_ignore_ascii_case(b".git")) {
        Some("a path is relative, and has no part that is empty, `.`, `..` or `.git`")
    } else {
        None
    }
}

/// Tells whether `path` is `folder` or below it.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Tells whether a link at `path` would lead out of the release. Looks at the text alone: what lies
/// on the way was listed by the same source, which looks closer.
pub(crate) fn leaves(path: &[u8], to: &[u8]) -> bool {
    let mut depth = path.iter().filter(|byte| **byte == b'/').count();
    if to.starts_with(b"/") {
        return true;
    }
    to.split(|byte| *byte == b'/').any(|part| match part {
        b"" | b"." => false,
        b".." => match depth.checked_sub(1) {
            Some(up) => {
                depth = up;
                false
            }
            None => true,
        },
        _ => {
            depth = depth.saturating_add(1);
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: FileKind) -> FileEntry {
        FileEntry { path: path.into(), kind, id: ContentId::from_bytes(&[1; 20]).unwrap() }
    }

    fn commit() -> CommitId {
        CommitId::new("0123456789abcdef0123456789abcdef01234567").unwrap()
    }

    fn shared(folders: &[&str], files: &[&str]) -> Result<Shared, HostError> {
        let own = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        Shared::new(&own(folders), &own(files))
    }

    /// A release whose links, if any, point to `target`.
    fn plain(listed: Vec<FileEntry>, shared: &Shared, commit: &CommitId) -> Result<Wanted, StepError> {
        Wanted::new(listed, shared, commit, |_, out| {
            out.extend_from_slice(b"target");
            Ok(())
        })
    }

    /// Tells what is said about a release of these links that shares the folders `up`, `storage` and
    /// `var/log`, and the file `.env`.
    fn refusal(links: &[(&str, &str)]) -> Option<String> {
        let listed = links.iter().enumerate().map(|(at, (path, _))| FileEntry {
            id: ContentId::from_bytes(&[at as u8; 20]).unwrap(),
            ..entry(path, FileKind::Symlink)
        });
        let shared = shared(&["up", "storage", "var/log"], &[".env"]).unwrap();
        let made = Wanted::new(listed.collect(), &shared, &commit(), |id, out| {
            out.extend_from_slice(links[usize::from(id.as_bytes()[0])].1.as_bytes());
            Ok(())
        });
        let error = made.err()?;
        assert_eq!(error.diagnosis().code(), "host/shared-link");
        Some(error.to_string())
    }

    #[test]
    fn links_may_lead_to_what_is_shared_but_not_through_it() {
        let fine: [&[(&str, &str)]; 8] = [
            &[("a", "storage"), ("x/b", "../storage/"), ("c", "./storage/x/y"), ("d", ".env")],
            &[("a", "b"), ("b", "storage/x"), ("x/c", "../a/y")],
            &[("a", "var/log/today"), ("b", "var/../c"), ("var/d", "log"), ("e", "var")],
            &[("a", "storage2/.."), ("b", "x/storage/../y"), ("c", "x/../storage")],
            &[("a", "b/../c"), ("b", "x/y")],
            &[("a", "b/.."), ("b", "a/..")],
            // What the repository has below a shared path is left out, and so are its links.
            &[("storage/l", "../up/../secret")],
            &[("a", "var/x/../log/y")],
        ];
        for links in fine {
            assert_eq!(refusal(links), None, "{links:?}");
        }
        let bad: [&[(&str, &str)]; 9] = [
            &[("leak", "up/../secret")],
            &[("leak", "storage/..")],
            &[("leak", "storage/x/../y")],
            &[("leak", "storage/./..//")],
            &[("x/leak", "../var/log/..")],
            &[("leak", ".env/../x")],
            &[("a", "storage"), ("leak", "a/..")],
            &[("a", "b/c"), ("leak", "a/../x"), ("b", "var"), ("var/c", "log")],
            &[("a", "x/b/deep"), ("leak", "a/.."), ("x/b", "../storage")],
        ];
        for links in bad {
            let said = refusal(links).unwrap_or_else(|| panic!("{links:?}"));
            let (path, to) = links.iter().find(|(path, _)| path.ends_with("leak")).unwrap();
            assert!(said.contains(&format!("`{path}`")) && said.contains(&format!("`{to}`")), "{said}");
        }
    }

    #[test]
    fn what_is_shared_takes_the_place_of_what_is_listed() {
        let listed = vec![
            entry("REVISION", FileKind::Executable),
            entry("a", FileKind::Regular),
            entry("storage/x/y", FileKind::Regular),
            entry("storage2", FileKind::Regular),
            entry("var", FileKind::Folder),
        ];
        let shared = shared(&["storage/", "var/log"], &[".env"]).unwrap();
        let wanted = plain(listed, &shared, &commit()).unwrap();
        let all: Vec<_> =
            wanted.items.iter().map(|it| (String::from_utf8_lossy(&it.path), it.kind)).collect();
        assert_eq!(
            all,
            [
                (".env".into(), FileKind::Symlink),
                ("REVISION".into(), FileKind::Regular),
                ("a".into(), FileKind::Regular),
                ("storage".into(), FileKind::Symlink),
                ("storage2".into(), FileKind::Regular),
                ("var/log".into(), FileKind::Symlink),
            ]
        );
        assert_eq!(wanted.items[1].own.as_deref(), Some(format!("{}\n", commit()).as_bytes()));
    }

    #[test]
    fn lists_that_would_reach_elsewhere_are_refused() {
        let file = FileKind::Regular;
        for bad in
            ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", ".git/config", "x/.GIT", "a\0b"]
        {
            assert!(plain(vec![entry(bad, file)], &Shared::default(), &commit()).is_err(), "{bad:?}");
        }
        let below_link = vec![entry("a", FileKind::Symlink), entry("a-b", file), entry("a/b", file)];
        assert!(plain(below_link, &Shared::default(), &commit()).is_err());
        let twice = vec![entry("a", file), entry("a", FileKind::Symlink)];
        assert!(plain(twice, &Shared::default(), &commit()).is_err());
        let in_the_way = vec![entry("var", file)];
        assert!(plain(in_the_way, &shared(&["var/log"], &[]).unwrap(), &commit()).is_err());
    }

    #[test]
    fn shared_paths_that_cannot_work_are_refused() {
        for bad in ["", "/", "/var", "../x", "a//b", "REVISION", ".git"] {
            assert!(shared(&[bad], &[]).is_err(), "{bad}");
        }
        assert!(shared(&["var"], &["var/x"]).is_err());
        assert!(shared(&["var", "var"], &[]).is_err());
        assert!(shared(&["var", "variable"], &["var-x"]).is_ok());
    }

    #[test]
    fn links_may_move_within_the_release_only() {
        for (path, to) in [("a", "b"), ("x/a", "../b"), ("x/y/a", "../../b/../c"), ("a", "./b//c")] {
            assert!(!leaves(path.as_bytes(), to.as_bytes()), "{path} -> {to}");
        }
        for (path, to) in [("a", "../b"), ("x/a", "../../b"), ("a", "/etc"), ("x/a", "../x/../../y")] {
            assert!(leaves(path.as_bytes(), to.as_bytes()), "{path} -> {to}");
        }
    }
}
