//! `cargo xtask tidy`: what no compiler checks.

mod codes;
mod links;
mod manifest;
mod text;

use anyhow::Result;

use crate::{finding::conclude, workspace::Workspace};

/// Checks the whole repository.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let files = workspace.files()?;
    let sources = workspace.rust_files()?;
    let mut findings = Vec::new();
    for source in &sources {
        findings.extend(text::check_rust(source));
    }
    let mut pages = Vec::new();
    for file in files.iter().filter(|file| text::is_checked(file)) {
        let content = workspace.read(file)?;
        findings.extend(text::check_any(file, &content));
        if file.ends_with("/Cargo.toml") {
            findings.extend(manifest::check_lints(file, &content));
        }
        if file.ends_with(".md") {
            findings.extend(text::check_words(file, &content));
            findings.extend(links::check(file, &content, |path| workspace.root().join(path).exists()));
        }
        if codes::is_page(file) {
            pages.push((file.as_str(), content));
        }
    }
    findings.extend(codes::check(&sources, &pages));
    let metadata = workspace.metadata()?;
    let rust =
        metadata.packages.iter().find_map(|package| package.rust_version.as_deref()).unwrap_or_default();
    findings.extend(manifest::check_readme(rust, &workspace.read("README.md").unwrap_or_default()));
    findings.extend(manifest::check_changelog(&workspace.read("CHANGELOG.md").unwrap_or_default()));
    conclude("tidy", findings)
}
