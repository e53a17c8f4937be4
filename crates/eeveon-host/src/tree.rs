//! Paths, grouped by the folder they are in.

use std::collections::HashMap;

/// All folders of a tree, each before those in it; the first is the tree's root.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) folders: Vec<Node<'a>>,
}

/// One folder.
#[derive(Debug, Default)]
pub(crate) struct Node<'a> {
    /// Relative to the tree; empty for its root.
    pub(crate) path: &'a [u8],
    /// Which paths are in it, by their position in the list the tree was made from; not folders.
    pub(crate) entries: Vec<usize>,
    /// Which folders are in it, by their position among the folders.
    pub(crate) folders: Vec<usize>,
}

impl<'a> Tree<'a> {
    /// Groups `paths`, which must be sorted; each says whether it is a folder.
    pub(crate) fn new(paths: impl Iterator<Item = (&'a [u8], bool)>) -> Self {
        let mut tree = Self { folders: vec![Node::default()] };
        let mut known = HashMap::from([(b"".as_slice(), 0)]);
        // Most paths are in the folder of the path before.
        let mut last = (b"".as_slice(), 0);
        for (at, (path, is_folder)) in paths.enumerate() {
            let parent = if is_folder { path } else { crate::disk::split(path).0 };
            if parent != last.0 {
                last = (parent, tree.folder(parent, &mut known));
            }
            if !is_folder && let Some(node) = tree.folders.get_mut(last.1) {
                node.entries.push(at);
            }
        }
        tree
    }

    fn folder(&mut self, path: &'a [u8], known: &mut HashMap<&'a [u8], usize>) -> usize {
        // Not by recursion: a list may hold paths of any depth.
        let mut missing = Vec::new();
        let mut up = path;
        let mut at = loop {
            match known.get(up) {
                Some(at) => break *at,
                None => missing.push(up),
            }
            up = crate::disk::split(up).0;
        };
        for path in missing.into_iter().rev() {
            let new = self.folders.len();
            self.folders.push(Node { path, ..Node::default() });
            if let Some(node) = self.folders.get_mut(at) {
                node.folders.push(new);
            }
            known.insert(path, new);
            at = new;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_grouped_whatever_sorts_between() {
        let paths: [(&[u8], bool); 6] = [
            (b"a", true),
            (b"a.txt", false),
            (b"a/b/c", false),
            (b"a/d", false),
            (b"a0", false),
            (b"e", true),
        ];
        let tree = Tree::new(paths.into_iter());
        let all: Vec<_> =
            tree.folders.iter().map(|it| (it.path, it.entries.clone(), it.folders.clone())).collect();
        assert_eq!(
            all,
            [
                (b"".as_slice(), vec![1, 4], vec![1, 3]),
                (b"a", vec![3], vec![2]),
                (b"a/b", vec![2], vec![]),
                (b"e", vec![], vec![]),
            ]
        );
    }

    #[test]
    fn trees_may_be_of_any_depth() {
        let path = b"d/".repeat(5000);
        let tree = Tree::new([(path.as_slice(), false)].into_iter());
        assert_eq!(tree.folders.len(), 5001);
        assert_eq!(tree.folders[5000].entries, [0]);
        assert_eq!(tree.folders[0].folders, [1]);
    }
}
