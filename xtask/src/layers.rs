//! `cargo xtask layers`: dependencies and sources keep to the floors of the house.

mod graph;
mod sources;

use anyhow::{Context, Result};

use crate::{
    finding::{Finding, conclude},
    run,
    workspace::Workspace,
};

/// Checks the whole repository.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let metadata = workspace.metadata()?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let manifest = workspace.relative(&package.manifest_path)?;
        let text = workspace.read(&manifest)?;
        let broken = graph::check(package);
        findings.extend(broken.into_iter().map(|broken| {
            let line = line_of(&text, &broken.dependency);
            Finding::new(manifest.as_str(), line, broken.message)
        }));
    }
    for package in graph::PURE {
        let mut tree = workspace.cargo();
        tree.args(["tree", "--locked", "--package", package, "--edges=normal", "--prefix=none"]);
        tree.arg("--format={p}\t{f}");
        let tree = run::output(&mut tree).with_context(|| format!("cannot list what {package} needs"))?;
        findings.extend(graph::check_pure(package, &tree));
    }
    findings.extend(sources::check(&workspace.rust_files()?));
    conclude("layers", findings)
}

/// Returns the line of a manifest that names `dependency`; 0 if none does.
fn line_of(manifest: &str, dependency: &str) -> usize {
    let named = |line: &str| {
        line.trim_start().strip_prefix(dependency).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().position(named).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_found_in_its_manifest() {
        let manifest = "[dependencies]\nclap_complete = \"4\"\nclap.workspace = true\n";
        assert_eq!(line_of(manifest, "clap"), 3);
        assert_eq!(line_of(manifest, "anyhow"), 0);
    }
}
