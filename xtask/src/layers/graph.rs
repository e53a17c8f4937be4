//! Who may depend on whom.

use crate::{
    finding::Finding,
    workspace::{Dependency, Package},
};

/// The floor each crate lives on. An arrow only goes to a lower one.
const FLOORS: &[(&str, u8)] = &[
    ("eeveon-core", 0),
    ("eeveon-access", 1),
    ("eeveon-audit", 1),
    ("eeveon-balancer", 1),
    ("eeveon-build", 1),
    ("eeveon-cloud", 1),
    ("eeveon-container", 1),
    ("eeveon-health", 1),
    ("eeveon-host", 1),
    ("eeveon-insight", 1),
    ("eeveon-kubernetes", 1),
    ("eeveon-notify", 1),
    ("eeveon-proxy", 1),
    ("eeveon-rollback", 1),
    ("eeveon-secrets", 1),
    ("eeveon-source", 1),
    ("eeveon-integrations", 2),
    ("eeveon-store", 2),
    ("eeveon-daemon", 3),
    ("eeveon-server", 4),
    ("eeveon-cli", 5),
];

/// Packages beside the house: they build, try or show it, and none of it may need them.
const TOOLS: &[&str] = &["eeveon-benches", "eeveon-examples", "eeveon-testkit", "xtask"];

/// Crates only some may use, and who.
const RESERVED: &[(&str, &[&str])] = &[
    ("anyhow", &["eeveon-cli", "xtask"]),
    ("backoff", &["eeveon-core"]),
    ("clap", &["eeveon-cli", "xtask"]),
    ("gix", &["eeveon-source"]),
];

/// Crates that touch nothing outside the process.
pub(crate) const PURE: &[&str] = &["eeveon-core", "eeveon-rollback"];

/// Crates that do IO, so that no pure crate may need them, however far away.
const IO: &[&str] = &[
    "async-net",
    "gix",
    "h2",
    "hyper",
    "mio",
    "openssh",
    "reqwest",
    "rusqlite",
    "russh",
    "rustls",
    "socket2",
    "sqlx",
    "tokio-postgres",
    "ureq",
];

/// The features of tokio that do IO. Source: <https://docs.rs/tokio/latest/tokio/#feature-flags>
const IO_OF_TOKIO: &[&str] = &["fs", "full", "io-std", "io-uring", "net", "process", "signal"];

/// A dependency that breaks a rule.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The package depended on.
    pub(crate) dependency: String,
    /// The rule, and how this breaks it.
    pub(crate) message: String,
}

/// Checks the direct dependencies of one package. Those only its tests need may go anywhere.
pub(crate) fn check(package: &Package) -> Vec<Broken> {
    let name = package.name.as_str();
    if !TOOLS.contains(&name) && floor(name).is_none() {
        let message = format!("{name} has no floor; give it one in xtask/src/layers/graph.rs");
        return vec![Broken { dependency: "name".to_owned(), message }];
    }
    let shipped = package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
    shipped.filter_map(|dependency| broken(name, dependency)).collect()
}

fn broken(name: &str, dependency: &Dependency) -> Option<Broken> {
    let needed = dependency.name.as_str();
    let reserved = RESERVED.iter().find(|(crate_name, _)| *crate_name == needed).map(|(_, users)| *users);
    let message = match (floor(name), floor(needed)) {
        _ if TOOLS.contains(&needed) => format!("{needed} may only be a dev-dependency"),
        (Some(mine), Some(theirs)) if theirs >= mine => format!(
            "{name} (floor {mine}) depends on {needed} (floor {theirs}); an arrow only goes to a lower floor"
        ),
        _ => match reserved {
            Some(users) if !users.contains(&name) => {
                format!("{name} depends on {needed}, which only {} may", users.join(" and "))
            }
            _ => return None,
        },
    };
    Some(Broken { dependency: needed.to_owned(), message })
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, floor)| *floor)
}

/// Checks everything a pure crate needs: `tree` has a line `name version<TAB>features` for each.
pub(crate) fn check_pure(package: &str, tree: &str) -> Vec<Finding> {
    let needed = tree.lines().filter_map(|line| {
        let (name, features) = line.split_once('\t')?;
        Some((name.split(' ').next()?, features.trim_end_matches(" (*)").split(',')))
    });
    let mut findings = Vec::new();
    let mut complain = |what: String| {
        let message =
            format!("{package} does no IO, but needs {what}; `cargo tree -p {package} -e features`");
        findings.push(Finding::new("Cargo.toml", 0, message));
    };
    for (name, features) in needed {
        if IO.contains(&name) {
            complain(name.to_owned());
        }
        if name == "tokio" {
            let doing_io = features.filter(|feature| IO_OF_TOKIO.contains(feature));
            doing_io.for_each(|feature| complain(format!("the feature `{feature}` of tokio")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn messages(name: &str, kind: Option<&str>, needed: &[&str]) -> Vec<String> {
        let dependency = |name: &&str| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) };
        let package = Package {
            name: name.to_owned(),
            rust_version: None,
            manifest_path: PathBuf::new(),
            dependencies: needed.iter().map(dependency).collect(),
        };
        check(&package).into_iter().map(|broken| broken.message).collect()
    }

    #[test]
    fn an_arrow_goes_down() {
        assert!(messages("eeveon-cli", None, &["eeveon-core", "eeveon-store", "serde"]).is_empty());
        assert_eq!(
            messages("eeveon-core", None, &["eeveon-store"]),
            ["eeveon-core (floor 0) depends on eeveon-store (floor 2); an arrow only goes to a lower floor"]
        );
    }

    #[test]
    fn neighbours_do_not_see_each_other() {
        assert_eq!(messages("eeveon-build", None, &["eeveon-host"]).len(), 1);
        assert_eq!(messages("eeveon-build", Some("build"), &["eeveon-host"]).len(), 1);
        assert!(messages("eeveon-build", Some("dev"), &["eeveon-host"]).is_empty());
    }

    #[test]
    fn the_testkit_is_for_tests() {
        assert_eq!(
            messages("eeveon-cli", None, &["eeveon-testkit"]),
            ["eeveon-testkit may only be a dev-dependency"]
        );
        assert!(messages("eeveon-cli", Some("dev"), &["eeveon-testkit"]).is_empty());
        assert!(messages("eeveon-testkit", None, &["eeveon-store"]).is_empty());
    }

    #[test]
    fn reserved_crates_stay_where_they_are() {
        for (reserved, _) in RESERVED {
            assert_eq!(messages("eeveon-store", None, &[reserved]).len(), 1, "{reserved}");
        }
        assert!(messages("eeveon-source", None, &["gix", "gix-ignore"]).is_empty());
        assert!(messages("xtask", None, &["anyhow", "clap"]).is_empty());
        assert_eq!(
            messages("eeveon-testkit", None, &["gix"]),
            ["eeveon-testkit depends on gix, which only eeveon-source may"]
        );
    }

    #[test]
    fn a_crate_without_a_floor_is_named() {
        assert!(messages("eeveon-new", None, &[]).concat().contains("has no floor"));
    }

    #[test]
    fn pure_crates_do_no_io() {
        let clean = "eeveon-core v0.2.0 (/a)\t\ntokio v1.54.1\trt,sync,time\nserde v1\tderive,std (*)\n";
        assert!(check_pure("eeveon-core", clean).is_empty());
        let dirty = "tokio v1.54.1\tfs,net,rt (*)\nreqwest v0.13.5\tblocking\n";
        let found: Vec<_> =
            check_pure("eeveon-core", dirty).into_iter().map(|finding| finding.message).collect();
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
