//! What the manifests, the README and the changelog must say.

use crate::finding::Finding;

/// Checks that the README names the oldest Rust that the packages name, and no other.
pub(crate) fn check_readme(rust: &str, readme: &str) -> Option<Finding> {
    let named: Vec<(usize, String)> = (1..)
        .zip(readme.lines())
        .flat_map(|(number, line)| {
            line.match_indices("Rust ").filter_map(move |(at, word)| {
                let rest = line.get(at + word.len()..)?;
                let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                let version = version.trim_end_matches('.').to_owned();
                version.contains('.').then_some((number, version))
            })
        })
        .collect();
    match named.iter().find(|(_, version)| version != rust) {
        Some((line, version)) => {
            let message = format!("says Rust {version}, but rust-version in Cargo.toml is {rust}");
            Some(Finding::new("README.md", *line, message))
        }
        None if named.is_empty() => {
            Some(Finding::new("README.md", 0, format!("does not say that it needs Rust {rust}")))
        }
        None => None,
    }
}

/// Checks that a package keeps to the lints of the workspace.
pub(crate) fn check_lints(path: &str, manifest: &str) -> Option<Finding> {
    let kept = manifest.contains("\n[lints]\nworkspace = true\n");
    (!kept).then(|| Finding::new(path, 0, "has no `[lints]` with `workspace = true`"))
}

/// Checks that there is a place for what comes with the next version.
pub(crate) fn check_changelog(changelog: &str) -> Option<Finding> {
    let there = changelog.lines().any(|line| matches!(line, "## Unreleased" | "## [Unreleased]"));
    (!there).then(|| Finding::new("CHANGELOG.md", 0, "has no section `## Unreleased`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_the_oldest_rust() {
        assert_eq!(check_readme("1.95", "Needs Rust 1.95 and git. Written in Rust with care.\n"), None);
        assert!(check_readme("1.95", "Needs Rust 1.80.").unwrap().message.contains("1.80"));
        assert!(check_readme("1.95", "Needs Rust.").unwrap().message.contains("does not say"));
    }

    #[test]
    fn every_package_keeps_to_the_lints() {
        assert_eq!(check_lints("a/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n"), None);
        assert!(check_lints("a/Cargo.toml", "[package]\nname = \"a\"\n").is_some());
    }

    #[test]
    fn the_changelog_has_a_place_for_what_is_new() {
        assert_eq!(check_changelog("# Changes\n\n## Unreleased\n"), None);
        assert!(check_changelog("# Changes\n\n## 0.2.0\n").is_some());
    }
}
