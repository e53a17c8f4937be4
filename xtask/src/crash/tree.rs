//! What a folder holds: content and mode of everything in it.

use std::{collections::BTreeMap, fmt::Write as _, fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};

/// Something in a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Node {
    /// A folder and its mode.
    Folder(u32),
    /// A file, its mode and its content.
    File(u32, Vec<u8>),
    /// A symbolic link and where it points.
    Link(String),
    /// Anything else.
    Other,
}

/// Everything in a folder, by path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Node>);

impl Tree {
    /// Reads the tree at `root`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.gather(root, "").with_context(|| format!("cannot read {}", root.display()))?;
        Ok(tree)
    }

    fn gather(&mut self, root: &Path, below: &str) -> Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let meta = entry.path().symlink_metadata()?;
            let mode = meta.permissions().mode() & 0o7777;
            let node = if meta.is_dir() {
                self.gather(root, &path)?;
                Node::Folder(mode)
            } else if meta.is_file() {
                Node::File(mode, fs::read(entry.path())?)
            } else if meta.is_symlink() {
                Node::Link(fs::read_link(entry.path())?.to_string_lossy().into_owned())
            } else {
                Node::Other
            };
            self.0.insert(path, node);
        }
        Ok(())
    }

    /// Tells in one line how this tree differs from `other`.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        for path in paths {
            let word = match (self.0.get(path), other.0.get(path)) {
                (Some(one), Some(two)) if one == two => continue,
                (Some(_), Some(_)) => "differs",
                (Some(_), None) => "too many",
                (None, _) => "missing",
            };
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string never fails.
            let _ = write!(text, "{comma}{path} {word}");
        }
        text
    }
}

/// Lists every path below `root`, relative to it, sorted. What is not there holds nothing.
///
/// # Errors
///
/// A folder cannot be read.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot read {}", folder.display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.symlink_metadata()?.is_dir() {
                folders.push(path.clone());
            }
            found.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_every_path() {
        let file = |content: &str| Node::File(0o644, content.into());
        let tree = |nodes: &[(&str, Node)]| {
            Tree(nodes.iter().map(|(path, node)| ((*path).to_owned(), node.clone())).collect())
        };
        let one = tree(&[("a", file("1")), ("b", file("2")), ("c", file("3"))]);
        let two = tree(&[("a", file("1")), ("b", Node::File(0o755, "2".into())), ("d", file("4"))]);
        assert_eq!(one.difference(&two), "b differs, c too many, d missing");
        assert_eq!(one.difference(&one), "");
    }

    #[test]
    fn a_tree_is_read_with_modes_and_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/f"), "x").unwrap();
        fs::set_permissions(folder.path().join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("d/f", folder.path().join("l")).unwrap();
        let tree = Tree::read(folder.path()).unwrap();
        assert_eq!(tree.0.get("d/f"), Some(&Node::File(0o600, b"x".to_vec())));
        assert_eq!(tree.0.get("l"), Some(&Node::Link("d/f".to_owned())));
        assert_eq!(tree.0.len(), 3);
        assert_eq!(names(folder.path()).unwrap(), ["d", "d/f", "l"]);
        assert_eq!(names(&folder.path().join("nowhere")).unwrap(), Vec::<String>::new());
    }
}
