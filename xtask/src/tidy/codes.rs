//! Every error code has a page under `docs/errors/`, and every page a code.

use std::collections::BTreeMap;

use crate::{finding::Finding, rust_file::RustFile};

const FOLDER: &str = "docs/errors/";

/// What a reader of a page may rely on finding, in this order.
const SECTIONS: [&str; 4] = ["## What happened", "## Why", "## What serves now", "## What to do"];

/// Tells whether the file is the page of an error code.
pub(crate) fn is_page(path: &str) -> bool {
    path.starts_with(FOLDER) && path.ends_with(".md") && !path.ends_with("/README.md")
}

/// Compares the codes in the sources with the pages, given as path and content.
pub(crate) fn check(sources: &[RustFile], pages: &[(&str, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let codes = codes(sources);
    for (code, (file, line)) in &codes {
        let page = page_of(code);
        if !pages.iter().any(|(path, _)| *path == page) {
            findings.push(Finding::new(*file, *line, format!("the code `{code}` has no page {page}")));
        }
    }
    for (path, content) in pages {
        let title = content.lines().next().unwrap_or_default();
        let code = title.strip_prefix("# ").unwrap_or_default();
        if page_of(code) != *path {
            findings.push(Finding::new(
                *path,
                1,
                "the title is not `# ` and the code this page is named after",
            ));
        } else if !codes.contains_key(code) {
            findings.push(Finding::new(*path, 1, format!("no source has the code `{code}`")));
        }
        let headings: Vec<&str> = content.lines().filter(|line| line.starts_with("## ")).collect();
        if !SECTIONS.iter().eq(headings.iter().filter(|heading| SECTIONS.contains(heading))) {
            findings.push(Finding::new(*path, 0, format!("the sections are not {}", SECTIONS.join(", "))));
        }
    }
    findings
}

fn page_of(code: &str) -> String {
    format!("{FOLDER}{}.md", code.replace('/', "-"))
}

/// Returns each code the product can show, and one place where it stands.
fn codes(sources: &[RustFile]) -> BTreeMap<&str, (&str, usize)> {
    let product = sources.iter().filter(|file| file.path.contains("/src/") && !is_tool(&file.path));
    let mut codes = BTreeMap::new();
    for file in product {
        let fields: Vec<usize> = file.lines_with("code:").collect();
        let in_fields = file.literals.iter().filter(|literal| fields.contains(&literal.line));
        for literal in file.literals_in_fn("code").chain(in_fields).filter(|literal| is_code(&literal.text)) {
            codes.entry(literal.text.as_str()).or_insert((file.path.as_str(), literal.line));
        }
    }
    codes
}

fn is_tool(path: &str) -> bool {
    path.starts_with("xtask/") || path.starts_with("crates/eeveon-testkit/")
}

/// Tells whether a literal looks like `source/host-key-changed`.
fn is_code(text: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.split_once('/').is_some_and(|(area, name)| word(area) && word(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# host/not-ours\n\n## What happened\n\n## Why\n\n## What serves now\n\n## What to do\n";

    fn found(source: &str, pages: &[(&str, &str)]) -> Vec<String> {
        let source = RustFile::parse("crates/eeveon-host/src/error.rs", source);
        let pages: Vec<_> = pages.iter().map(|(path, content)| (*path, (*content).to_owned())).collect();
        check(&[source], &pages).iter().map(ToString::to_string).collect()
    }

    const SOURCE: &str = "//! E.\nfn code(&self) -> &'static str {\n    \"host/not-ours\"\n}\n";

    #[test]
    fn a_code_with_its_page_passes() {
        assert!(found(SOURCE, &[("docs/errors/host-not-ours.md", PAGE)]).is_empty());
    }

    #[test]
    fn a_code_without_a_page_is_named() {
        assert_eq!(
            found(SOURCE, &[]),
            [
                "crates/eeveon-host/src/error.rs:3: the code `host/not-ours` has no page docs/errors/host-not-ours.md"
            ]
        );
    }

    #[test]
    fn codes_given_as_fields_count() {
        let source = "//! E.\nlet finding = Finding { code: Some(\"host/not-ours\".to_owned()) };\n";
        assert_eq!(found(source, &[]).len(), 1);
        assert!(found(source, &[("docs/errors/host-not-ours.md", PAGE)]).is_empty());
    }

    #[test]
    fn a_page_without_a_code_is_named() {
        assert_eq!(
            found("//! E.\n", &[("docs/errors/host-not-ours.md", PAGE)]),
            ["docs/errors/host-not-ours.md:1: no source has the code `host/not-ours`"]
        );
    }

    #[test]
    fn a_page_has_its_title_and_sections() {
        let path = "docs/errors/host-not-ours.md";
        assert_eq!(found(SOURCE, &[(path, &PAGE.replace("# host/not-ours", "# Not ours"))]).len(), 1);
        assert_eq!(found(SOURCE, &[(path, &PAGE.replace("## Why\n", ""))]).len(), 1);
    }

    #[test]
    fn codes_of_tests_need_no_page() {
        let source = format!("//! E.\n#[cfg(test)]\nmod tests {{\n{SOURCE}\n}}\n");
        assert!(found(&source, &[]).is_empty());
    }

    #[test]
    fn a_code_has_an_area_and_a_name() {
        assert!(is_code("engine/taken-over") && is_code("source/http-401"));
        assert!(!is_code("taken-over") && !is_code("a b/c") && !is_code("/x") && !is_code("text/html; q=1"));
    }
}
