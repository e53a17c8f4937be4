//! Whether a symbolic link stays inside its release, found out without touching a file system.

use std::collections::HashMap;

use eeveon_core::action::Stopped;
use tokio_util::sync::CancellationToken;

use crate::{SourceError, refs::shown_bytes};

/// The longest target, in bytes: `PATH_MAX` less its final NUL.
pub(crate) const LONGEST: usize = 4095;
/// How many links in a row the system follows (path_resolution(7)).
const HOPS: usize = 40;

/// The symbolic links of a release: where they are and where they point.
pub(crate) struct Links(HashMap<Vec<u8>, Vec<u8>>);

impl Links {
    pub(crate) fn new(links: HashMap<Vec<u8>, Vec<u8>>) -> Self {
        Self(links)
    }

    /// Checks every link.
    pub(crate) fn check_all(&self, cancel: &CancellationToken) -> Result<(), SourceError> {
        for (path, target) in &self.0 {
            if cancel.is_cancelled() {
                return Err(Stopped.into());
            }
            self.check(path, target).map_err(|rule| SourceError::Link {
                path: shown_bytes(path),
                target: shown_bytes(target),
                rule,
            })?;
        }
        Ok(())
    }

    /// Checks the link at `path`, following it as the system would, over the release's other links.
    ///
    /// What does not exist, or is a file, counts as a folder: a build may make it one. So a link is
    /// refused also when only something to come would lead it out.
    fn check(&self, path: &[u8], target: &[u8]) -> Result<(), &'static str> {
        if target.is_empty() {
            return Err("is empty");
        }
        if target.contains(&0) {
            return Err("holds a NUL byte");
        }
        if target.len() > LONGEST {
            return Err("is longer than 4095 bytes");
        }
        // Where we are: the folders from the root of the release, joined by `/`.
        let mut here = path.to_vec();
        up(&mut here);
        // What is still to be walked, the next part last.
        let mut todo: Vec<&[u8]> = Vec::new();
        walk(&mut todo, target)?;
        let mut hops = 1;
        while let Some(part) = todo.pop() {
            match part {
                b"" | b"." => continue,
                b".." if here.is_empty() => return Err("leads out of what is deployed"),
                b".." => {
                    up(&mut here);
                    continue;
                }
                _ => {}
            }
            if !here.is_empty() {
                here.push(b'/');
            }
            here.extend_from_slice(part);
            if let Some(target) = self.0.get(&here) {
                hops += 1;
                if hops > HOPS {
                    // The system gives up here too: a loop leads nowhere.
                    return Ok(());
                }
                up(&mut here);
                walk(&mut todo, target)?;
            }
        }
        Ok(())
    }
}

/// Goes to the folder above.
fn up(here: &mut Vec<u8>) {
    let slash = here.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    here.truncate(slash);
}

/// Puts the parts of `target` before what is still to be walked.
fn walk<'a>(todo: &mut Vec<&'a [u8]>, target: &'a [u8]) -> Result<(), &'static str> {
    if target.starts_with(b"/") {
        return Err("is absolute");
    }
    todo.extend(target.split(|byte| *byte == b'/').rev());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use proptest::prelude::*;
    use rustix::{
        fs::{Mode, OFlags, ResolveFlags, openat2},
        io::Errno,
    };

    use super::*;

    fn links(all: &[(&str, &str)]) -> Links {
        Links::new(
            all.iter().map(|(path, target)| (path.as_bytes().to_vec(), target.as_bytes().to_vec())).collect(),
        )
    }

    fn check(all: &[(&str, &str)]) -> Result<(), &'static str> {
        let links_of = links(all);
        all.iter().try_for_each(|(path, target)| links_of.check(path.as_bytes(), target.as_bytes()))
    }

    #[test]
    fn rel_symlink_none_leaves() {
        for good in [
            &[("a", "b")][..],
            &[("a/b", "../c")],
            &[("a", ".")],
            &[("a", "a")],
            &[("a", "b"), ("b", "a")],
            &[("a/b/c", "../../x/../y")],
            &[("cur", "."), ("x", "cur/cur/cur/y")],
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for bad in [
            &[("a", "..")][..],
            &[("a", "/etc/passwd")],
            &[("a/b", "../..")],
            &[("a", "b/../../c")],
            &[("cur", "."), ("par", "cur/..")],
            &[("a/up", ".."), ("x", "a/up/..")],
            &[("a", "b"), ("b", "c/../..")],
            &[("a", "")],
            &[("a", "x\0y")],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(links(&[]).check(b"a", &[b'x'; 4096]).is_err());
    }

    #[derive(Clone, Debug)]
    enum Node {
        Folder,
        File,
        Link(String),
    }

    fn paths() -> impl Strategy<Value = String> {
        prop::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"))
    }

    fn targets() -> impl Strategy<Value = String> {
        prop::collection::vec(prop_oneof!["[abc]", Just("..".to_owned()), Just(".".to_owned())], 1..5)
            .prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// The kernel is asked whether it leaves the root when it opens each link.
        #[test]
        fn the_kernel_agrees(nodes in prop::collection::vec(
            (paths(), prop_oneof![Just(Node::Folder), Just(Node::File), targets().prop_map(Node::Link)]), 1..12)
        ) {
            let folder = tempfile::tempdir().unwrap();
            // Two levels down, so that leaving the root is possible in earnest.
            let root = folder.path().join("x/y");
            fs::create_dir_all(&root).unwrap();
            let mut made = HashMap::new();
            for (path, node) in nodes {
                let place = root.join(&path);
                let parent = place.parent().unwrap();
                // Only where no link or file is in the way, as in a tree of git.
                let clear = parent.ancestors().take_while(|up| *up != root)
                    .all(|up| up.symlink_metadata().map_or(true, |found| found.is_dir()));
                if !clear || place.symlink_metadata().is_ok() {
                    continue;
                }
                fs::create_dir_all(parent).unwrap();
                match node {
                    Node::Folder => fs::create_dir(&place).unwrap(),
                    Node::File => fs::write(&place, "").unwrap(),
                    Node::Link(target) => {
                        symlink(&target, &place).unwrap();
                        made.insert(path.into_bytes(), target.into_bytes());
                    }
                }
            }
            let dir = fs::File::open(&root).unwrap();
            let links = Links::new(made.clone());
            for (path, target) in &made {
                let ours = links.check(path, target);
                let path = Path::new(std::str::from_utf8(path).unwrap());
                match openat2(&dir, path, OFlags::PATH, Mode::empty(), ResolveFlags::BENEATH) {
                    Err(Errno::XDEV) => prop_assert!(ours.is_err(), "{path:?} leaves, in {made:?}"),
                    Ok(_) => prop_assert!(ours.is_ok(), "{path:?} stays, in {made:?}"),
                    // It leads nowhere today; being strict about it is allowed.
                    Err(_) => {}
                }
            }
        }
    }
}
