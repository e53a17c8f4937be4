//! A fuzz target: which names of branches are allowed, compared with git itself.

use std::process::{Command, Stdio};

use eeveon_source::check_branch;
use eeveon_testkit::fuzz::spell;

/// What names are made of, hostile ones above all.
const WORDS: &[&str] = &[
    "main",
    "a",
    "refs/heads/",
    "HEAD",
    "@",
    "@{",
    "-",
    "--exec=x",
    ".",
    "..",
    ".lock",
    "/",
    "//",
    "~1",
    "^",
    ":",
    "?",
    "*",
    "[",
    "\\",
    " ",
    "\n",
    "\t",
    "\u{7f}",
    "\u{1b}[2J",
    "\u{9b}",
    "\u{202e}",
    "é",
    "$(x)",
    ";",
    "|",
    "{",
    "}",
    "'",
    "\"",
    "x",
    "0",
    "ab",
    "feature",
    "#",
    "%41",
    "\0",
];

/// Tells whether git allows it; no name with a NUL byte can even be asked for.
fn git_allows(name: &str) -> bool {
    let mut command = Command::new("git");
    command.arg("check-ref-format").arg(format!("refs/heads/{name}")).stderr(Stdio::null());
    !name.contains('\0') && command.status().unwrap().success()
}

#[test]
fn branch_names() {
    bolero::check!().with_max_len(12).with_iterations(600).for_each(|input| {
        let Ok(name) = String::from_utf8(spell(input, WORDS)) else { return };
        // Ours beyond git's: no option, nothing that means another thing, and an end to length.
        let ours = !name.starts_with('-') && !matches!(&*name, "HEAD" | "@") && name.len() <= 1000;
        assert_eq!(check_branch(&name).is_ok(), ours && git_allows(&name), "{name:?}");
    });
}
