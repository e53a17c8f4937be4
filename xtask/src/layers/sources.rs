//! What may be written where.

use crate::{finding::Finding, rust_file::RustFile};

/// Something that may be written only in some places.
struct Reserved {
    /// How it looks.
    looks: &'static [&'static str],
    /// Whether it is looked for in literals instead of in code.
    in_literals: bool,
    /// What the code of the file must have too for it to count; may be empty.
    only_with: &'static str,
    /// The paths the rule is about, by their beginnings; none means all of the product.
    within: &'static [&'static str],
    /// The paths where it may stand, by their beginnings.
    allowed: &'static [&'static str],
    /// Why.
    rule: &'static str,
}

const RULES: &[Reserved] = &[
    Reserved {
        looks: &["Command::new("],
        in_literals: false,
        // Other things are called a command, too.
        only_with: "process::",
        within: &[],
        allowed: &["crates/eeveon-build/src/runner", "crates/eeveon-source/src/transport"],
        rule: "processes are started by the runner of eeveon-build and the transport of eeveon-source only",
    },
    Reserved {
        looks: &["std::env", "env::var", "env::args", "env::current_", "env::temp_dir", "home_dir("],
        in_literals: false,
        only_with: "",
        within: &[],
        allowed: &["eeveon-cli/"],
        rule: "only eeveon-cli reads the environment; libraries are given their settings",
    },
    Reserved {
        looks: &[
            "print!(",
            "println!(",
            "eprint!(",
            "eprintln!(",
            "io::stdout(",
            "io::stderr(",
            "process::exit(",
        ],
        in_literals: false,
        only_with: "",
        within: &[],
        allowed: &["eeveon-cli/"],
        rule: "only eeveon-cli prints and exits",
    },
    Reserved {
        looks: &["backoff::"],
        in_literals: false,
        only_with: "",
        within: &[],
        allowed: &["eeveon-core/src/retry.rs"],
        rule: "`backoff` is known to eeveon-core/src/retry.rs alone",
    },
    Reserved {
        looks: &["gix::"],
        in_literals: false,
        only_with: "",
        within: &[],
        allowed: &["crates/eeveon-source/"],
        rule: "`gix` is known to eeveon-source alone",
    },
    Reserved {
        looks: &["anyhow::"],
        in_literals: false,
        only_with: "",
        within: &[],
        allowed: &["eeveon-cli/src/main.rs"],
        rule: "`anyhow` is for main.rs; everything else has an error enum",
    },
    Reserved {
        looks: &["\\x1b[", "\\x1B[", "\\u{1b}[", "\\u{1B}[", "\\u{001b}["],
        in_literals: true,
        only_with: "",
        within: &[],
        allowed: &["eeveon-cli/src/render/", "eeveon-cli/src/render.rs"],
        rule: "colours are the business of eeveon-cli/src/render/",
    },
    Reserved {
        looks: &["fs::", "std::fs", "std::net", "std::process", "net::Tcp", "net::Udp"],
        in_literals: false,
        only_with: "",
        within: &["eeveon-core/", "eeveon-rollback/"],
        allowed: &[],
        rule: "eeveon-core and eeveon-rollback do no IO",
    },
    Reserved {
        looks: &["eeveon_cli::"],
        in_literals: false,
        only_with: "",
        within: &["examples/"],
        allowed: &[],
        rule: "examples show the library crates alone",
    },
];

/// Checks every source of the product; tests, tools and benches may do what they want.
pub(crate) fn check(files: &[RustFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        let begins = |path: &str, starts: &[&str]| starts.iter().any(|start| path.starts_with(start));
        let meant = |path: &str| match rule.within {
            [] => is_product(path),
            within => begins(path, within),
        };
        for file in files.iter().filter(|file| meant(&file.path) && !begins(&file.path, rule.allowed)) {
            if !file.code.iter().any(|line| line.contains(rule.only_with)) {
                continue;
            }
            for look in rule.looks {
                let found =
                    |line: usize| Finding::new(file.path.as_str(), line, format!("`{look}`: {}", rule.rule));
                if rule.in_literals {
                    let hits = file.literals.iter().filter(|literal| literal.text.contains(look));
                    findings.extend(hits.map(|literal| found(literal.line)));
                } else {
                    findings.extend(file.lines_with(look).map(found));
                }
            }
        }
    }
    findings
}

fn is_product(path: &str) -> bool {
    path.contains("/src/")
        && !["xtask/", "benches/", "crates/eeveon-testkit/"].iter().any(|tool| path.starts_with(tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how often a line of code breaks a rule in a file.
    fn hits(path: &str, line: &str) -> usize {
        check(&[RustFile::parse(path, line)]).len()
    }

    #[test]
    fn processes_have_their_place() {
        let line = "let child = tokio::process::Command::new(program).spawn();";
        assert_eq!(hits("crates/eeveon-host/src/lib.rs", line), 1);
        assert_eq!(hits("crates/eeveon-build/src/runner.rs", line), 0);
        assert_eq!(hits("crates/eeveon-source/src/transport.rs", line), 0);
        assert_eq!(hits("crates/eeveon-host/tests/it.rs", line), 0);
        assert_eq!(hits("crates/eeveon-testkit/src/git.rs", line), 0);
        assert_eq!(
            hits("eeveon-cli/src/compose.rs", "registry.register(eeveon_build::Command::new(runner));"),
            0
        );
    }

    #[test]
    fn the_environment_belongs_to_the_cli() {
        for line in ["env::var_os(\"HOME\")", "use std::env;", "dirs::home_dir()", "env::current_dir()"] {
            assert_eq!(hits("crates/eeveon-store/src/owner.rs", line), 1, "{line}");
            assert_eq!(hits("eeveon-cli/src/lib.rs", line), 0, "{line}");
        }
        assert_eq!(hits("crates/eeveon-store/src/owner.rs", "env!(\"CARGO_PKG_VERSION\")"), 0);
    }

    #[test]
    fn printing_and_exiting_belong_to_the_cli() {
        for line in ["println!(\"a\");", "eprint!(\"a\");", "std::process::exit(1);", "io::stdout().lock();"]
        {
            assert_eq!(hits("crates/eeveon-host/src/lib.rs", line), 1, "{line}");
            assert_eq!(hits("eeveon-cli/src/render/mod.rs", line), 0, "{line}");
        }
        assert_eq!(hits("crates/eeveon-host/src/lib.rs", "// println!(\"a\");"), 0);
    }

    #[test]
    fn some_crates_are_known_to_one_file_or_crate() {
        assert_eq!(hits("eeveon-core/src/engine.rs", "use backoff::Backoff;"), 1);
        assert_eq!(hits("eeveon-core/src/retry.rs", "use backoff::Backoff;"), 0);
        assert_eq!(hits("crates/eeveon-host/src/lib.rs", "use gix::ObjectId;"), 1);
        assert_eq!(hits("crates/eeveon-source/src/lib.rs", "use gix::ObjectId;"), 0);
        assert_eq!(hits("eeveon-cli/src/lib.rs", "use anyhow::Result;"), 1);
        assert_eq!(hits("eeveon-cli/src/main.rs", "use anyhow::Result;"), 0);
    }

    #[test]
    fn colours_belong_to_the_renderer() {
        let line = "let red = \"\\x1b[31m\";";
        assert_eq!(hits("eeveon-cli/src/commands/up.rs", line), 1);
        assert_eq!(hits("eeveon-cli/src/render/colour.rs", line), 0);
        assert_eq!(hits("eeveon-core/src/untrusted.rs", "let hazard = '\\u{1b}';"), 0);
    }

    #[test]
    fn the_core_is_pure_and_examples_need_no_tool() {
        assert_eq!(hits("eeveon-core/src/lib.rs", "std::fs::read(path)"), 2);
        assert_eq!(hits("crates/eeveon-host/src/lib.rs", "std::fs::read(path)"), 0);
        assert_eq!(hits("examples/embed.rs", "use eeveon_cli::run;"), 1);
        assert_eq!(hits("examples/embed.rs", "use eeveon_core::Engine;"), 0);
    }
}
