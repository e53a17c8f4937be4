//! The form of single files.

use crate::{finding::Finding, rust_file::RustFile};

/// A file with more lines has a second subject to split off.
const LONGEST: usize = 600;

/// What is written while working and must not stay, and what to write instead.
const LEFTOVERS: &[(&str, &str)] = &[
    ("#[ignore", "a test runs or is removed"),
    ("#![ignore", "a test runs or is removed"),
    ("todo!(", "finish it"),
    ("unimplemented!(", "finish it"),
    ("dbg!(", "remove it"),
    ("#[allow(", "write #[expect(..., reason = \"...\")]"),
    ("#![allow(", "write #![expect(..., reason = \"...\")]"),
];

/// Checks a Rust source.
pub(crate) fn check_rust(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain =
        |line: usize, message: String| findings.push(Finding::new(file.path.as_str(), line, message));
    if !file.text.starts_with("//!") {
        complain(1, "begin with a `//!` line that says what the file is for".to_owned());
    }
    let length = file.text.lines().count();
    if length > LONGEST {
        complain(LONGEST, format!("{length} lines; split off a second subject before line {LONGEST}"));
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.contains('\t') {
            complain(number, "a tab; write spaces".to_owned());
        }
    }
    // Tests must not keep leftovers either, so this looks at the text, at where a line begins.
    for (number, line) in (1..).zip(file.text.lines()) {
        for (leftover, instead) in LEFTOVERS {
            if line.trim_start().starts_with(leftover) {
                complain(number, format!("`{leftover}`: {instead}"));
            }
        }
    }
    findings
}

/// Tells whether the file is written by hand and text.
pub(crate) fn is_checked(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let by_hand = [".rs", ".toml", ".md", ".sh", ".yml", ".yaml"].iter().any(|ending| name.ends_with(ending));
    (by_hand || path == ".ci/run") && !path.contains("/golden/")
}

/// Checks a text of any kind.
pub(crate) fn check_any(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::new(path, number, "white space at the end of the line"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(path, text.lines().count(), "no line break at the end of the file"));
    }
    findings
}

/// Checks a document for places that exist on one machine only.
pub(crate) fn check_words(path: &str, text: &str) -> Vec<Finding> {
    let machine_only = ["/root/", "/tmp/"];
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for place in machine_only.iter().filter(|place| line.contains(**place)) {
            findings.push(Finding::new(path, number, format!("`{place}` is a place on somebody's machine")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> Vec<String> {
        check_rust(&RustFile::parse("a/src/lib.rs", text))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_tidy_source_passes() {
        assert!(rust("//! For something.\n\nfn f() {}\n").is_empty());
    }

    #[test]
    fn a_source_says_what_it_is_for() {
        assert_eq!(rust("fn f() {}\n").len(), 1);
    }

    #[test]
    fn a_source_is_short_and_has_no_tabs() {
        assert_eq!(rust(&format!("//! For.\n{}", "\n".repeat(LONGEST))).len(), 1);
        assert_eq!(rust("//! For.\n\tfn f() {}\n").len(), 1);
    }

    #[test]
    fn leftovers_are_found_also_in_tests() {
        for (leftover, _) in LEFTOVERS {
            let text = format!("//! For.\n#[cfg(test)]\nmod tests {{\n    {leftover}\n}}\n");
            assert_eq!(rust(&text).len(), 1, "{leftover}");
        }
    }

    #[test]
    fn lines_and_files_end_well() {
        assert!(check_any("a.md", "a\nb\n").is_empty());
        assert_eq!(check_any("a.md", "a \nb").len(), 2);
        assert_eq!(check_any("a.md", "a\r\n").len(), 1);
    }

    #[test]
    fn documents_name_no_machine() {
        assert!(check_words("a.md", "see /var/www/shop").is_empty());
        assert_eq!(check_words("a.md", "see /root/x\nand /tmp/y").len(), 2);
    }

    #[test]
    fn only_what_people_write_is_checked() {
        assert!(
            is_checked("docs/guide/start.md") && is_checked(".ci/run") && is_checked("xtask/src/main.rs")
        );
        assert!(!is_checked("Cargo.lock") && !is_checked("crates/a/tests/golden/b.toml"));
    }
}
