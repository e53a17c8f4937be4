//! What is left out of a release: `.deployignore` files and configured patterns, with exactly the
//! meaning `.gitignore` files and `--exclude` have for git.
//!
//! Source: gitignore(5), <https://git-scm.com/docs/gitignore>, and where that is silent, dir.c of
//! git. The matching of wildcards is gix's; what surrounds it is here, because git strips the part
//! before the first wildcard first, which gives `a**/b` a meaning gix does not know.

use gix::{
    bstr::ByteSlice,
    glob::{wildmatch, wildmatch::Mode},
};

/// The name of the files.
pub(crate) const FILE: &[u8] = b".deployignore";
/// The largest such file, in bytes.
pub(crate) const LARGEST: u64 = 1024 * 1024;

/// The patterns that apply in one folder. Entering a folder adds to them, leaving it takes away.
pub(crate) struct Patterns {
    configured: Vec<Pattern>,
    /// From the root of the release inwards: how much of a path is the folder's own, and what its
    /// file says.
    files: Vec<(usize, Vec<Pattern>)>,
}

impl Patterns {
    /// Starts with what is configured, which wins over every file.
    pub(crate) fn new(configured: &[String]) -> Self {
        // Like an argument of git's `--exclude`: no comments, no trimming, one pattern each.
        let configured = configured.iter().map(|text| Pattern::parse(text.as_bytes())).collect();
        Self { configured, files: Vec::new() }
    }

    /// Enters the folder `path` (empty for the root), whose file has this content.
    pub(crate) fn enter(&mut self, path: &[u8], content: &[u8]) {
        let own = if path.is_empty() { 0 } else { path.len() + 1 };
        self.files.push((own, lines(content).map(Pattern::parse).collect()));
    }

    /// Leaves the folder entered last.
    pub(crate) fn leave(&mut self) {
        self.files.pop();
    }

    /// Whether `path` is left out. Asked for a folder before what is in it: nothing below a folder
    /// that is left out can be taken in again.
    pub(crate) fn excludes(&self, path: &[u8], is_folder: bool) -> bool {
        let says = |own: usize, patterns: &[Pattern]| {
            let path = path.get(own..)?;
            patterns
                .iter()
                .rev()
                .find(|pattern| pattern.matches(path, is_folder))
                .map(|found| !found.negative)
        };
        says(0, &self.configured)
            .or_else(|| self.files.iter().rev().find_map(|(own, patterns)| says(*own, patterns)))
            .unwrap_or(false)
    }
}

/// Returns the patterns of a file, one a line.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    content.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")).map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Git's lines end at a NUL byte.
        trim(line.split(|byte| *byte == 0).next().unwrap_or_default())
    })
}

/// Takes spaces from the end, unless a backslash is before them.
fn trim(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut bytes = line.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b' ' => {}
            b'\\' => match bytes.next() {
                Some((at, _)) => end = at + 1,
                None => return line,
            },
            _ => end = at + 1,
        }
    }
    line.get(..end).unwrap_or(line)
}

/// One pattern.
struct Pattern {
    /// Without the `!` before and the `/` around it.
    text: Vec<u8>,
    /// How much of the text is before the first wildcard.
    literal: usize,
    negative: bool,
    /// Whether it is about folders only.
    folder: bool,
    /// Whether it is about names in any folder, as it has no `/` but perhaps one at its end.
    anywhere: bool,
}

impl Pattern {
    fn parse(text: &[u8]) -> Self {
        let (negative, text) = text.strip_prefix(b"!").map_or((false, text), |text| (true, text));
        let (folder, text) = text.strip_suffix(b"/").map_or((false, text), |text| (true, text));
        let anywhere = !text.contains(&b'/');
        let text = text.strip_prefix(b"/").unwrap_or(text);
        let literal = text.find_byteset(b"*?[\\").unwrap_or(text.len());
        Self { text: text.to_vec(), literal, negative, folder, anywhere }
    }

    /// Whether it is about `path`, which is relative to the folder the pattern was found in.
    fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        if self.folder && !is_folder {
            return false;
        }
        if self.anywhere {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            return match self.literal == self.text.len() {
                true => name == self.text,
                false => wildmatch(self.text.as_bstr(), name.as_bstr(), Mode::empty()),
            };
        }
        let (literal, wild) = self.text.split_at(self.literal);
        path.strip_prefix(literal).is_some_and(|rest| match wild.is_empty() {
            true => rest.is_empty(),
            false => wildmatch(wild.as_bstr(), rest.as_bstr(), Mode::NO_MATCH_SLASH_LITERAL),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(content: &str) -> Patterns {
        let mut patterns = Patterns::new(&[]);
        patterns.enter(b"", content.as_bytes());
        patterns
    }

    #[test]
    fn deeper_files_win_and_configured_patterns_win_over_all() {
        let mut patterns = Patterns::new(&["*.keep".to_owned(), "!a/b.log".to_owned()]);
        patterns.enter(b"", b"*.log\n");
        patterns.enter(b"a", b"!x.log\n");
        assert!(patterns.excludes(b"x.log", false));
        assert!(!patterns.excludes(b"a/x.log", false));
        assert!(!patterns.excludes(b"a/b.log", false));
        assert!(patterns.excludes(b"a/x.keep", false));
        patterns.leave();
        assert!(patterns.excludes(b"a/x.log", false));
    }

    #[test]
    fn a_file_speaks_of_its_own_folder() {
        let mut patterns = Patterns::new(&[]);
        patterns.enter(b"", b"");
        patterns.enter(b"a", b"/x\ny/z\n");
        assert!(patterns.excludes(b"a/x", false));
        assert!(!patterns.excludes(b"a/b/x", false));
        assert!(patterns.excludes(b"a/y/z", false));
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        let patterns = root("\u{feff}# comment\n\\#real\n\\!bang\ntrail  \nkept\\ \n\ncr\r\ndir/\n");
        for (path, folder, excluded) in [
            ("# comment", false, false),
            ("#real", false, true),
            ("!bang", false, true),
            ("trail", false, true),
            ("kept ", false, true),
            ("cr", false, true),
            ("dir", false, false),
            ("dir", true, true),
        ] {
            assert_eq!(patterns.excludes(path.as_bytes(), folder), excluded, "{path}");
        }
    }
}
