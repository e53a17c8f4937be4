//! What we depend on: that we use all of it, and a list of it for whoever runs the program.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{run, workspace::Workspace};

/// The version of cargo-machete that is installed where there is none.
const MACHETE: &str = "0.9.2";

/// The version of cargo-sbom that is installed where there is none.
const SBOM: &str = "0.10.0";

/// The crate whose program people run.
const PROGRAM: &str = "eeveon-cli";

/// A list of components, as far as it is looked at here.
///
/// Source: <https://cyclonedx.org/docs/1.6/json/>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    bom_format: String,
    spec_version: String,
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    version: Option<String>,
    purl: Option<String>,
}

/// Fails when a manifest names a crate that no source uses.
pub(crate) fn unused(workspace: &Workspace) -> Result<()> {
    let machete = run::install(workspace, "cargo-machete", MACHETE)?;
    run::stream(&mut workspace.command(&machete.to_string_lossy()))
}

/// Writes the list of everything the program is made of, and looks whether it is all there.
pub(crate) fn list(workspace: &Workspace) -> Result<()> {
    let sbom = run::install(workspace, "cargo-sbom", SBOM)?;
    let mut command = workspace.command(&sbom.to_string_lossy());
    command.args(["sbom", "--cargo-package", PROGRAM, "--output-format", "cyclone_dx_json_1_6"]);
    let text = run::output(&mut command)?;
    let bom: Bom = serde_json::from_str(&text).context("the list of components is malformed")?;
    ensure!(
        bom.bom_format == "CycloneDX" && bom.spec_version == "1.6",
        "the list is no CycloneDX 1.6 but {} {}",
        bom.bom_format,
        bom.spec_version
    );
    let listed: BTreeSet<String> = bom.components.iter().filter_map(Component::known).collect();
    // cargo knows best what is built in.
    let words = [
        "tree",
        "--locked",
        "--package",
        PROGRAM,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = run::output(workspace.cargo().args(words))?;
    let missing: Vec<String> = tree.lines().filter_map(package).filter(|it| !listed.contains(it)).collect();
    ensure!(missing.is_empty(), "the list lacks {}", missing.join(", "));
    let file = workspace.scratch()?.join("ee-deploy.cdx.json");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{} components in {}", listed.len(), file.display());
    Ok(())
}

impl Component {
    /// Returns name and version, if anybody could look it up.
    fn known(&self) -> Option<String> {
        self.purl.as_ref()?;
        Some(format!("{} {}", self.name, self.version.as_ref()?))
    }
}

/// Reads a line of `cargo tree`: `name v1.2.3 ...`. Ours come from no registry.
fn package(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    (!name.starts_with("eeveon-")).then(|| format!("{name} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tree_are_read() {
        assert_eq!(package("serde v1.0.229").as_deref(), Some("serde 1.0.229"));
        assert_eq!(package("async-trait v0.1.92 (proc-macro) (*)").as_deref(), Some("async-trait 0.1.92"));
        assert_eq!(package("eeveon-core v0.2.0 (/somewhere)"), None);
        assert_eq!(package(""), None);
    }
}
