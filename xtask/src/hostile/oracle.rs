//! What must be true whatever a repository holds.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;

use super::watch::Watched;

/// A broken rule: which one, and how.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Violation {
    /// The rule, in one word.
    pub(crate) rule: &'static str,
    /// What happened.
    pub(crate) how: String,
}

/// Notes that a rule is broken.
pub(crate) fn violation(rule: &'static str, how: impl Into<String>) -> Violation {
    Violation { rule, how: how.into() }
}

/// The line that `--json` ends a failure with.
#[derive(Deserialize)]
struct Refusal {
    error: Coded,
}

#[derive(Deserialize)]
struct Coded {
    code: String,
}

/// Returns the code a command ended with.
pub(crate) fn code(watched: &Watched) -> Option<String> {
    let said = String::from_utf8_lossy(&watched.stderr);
    said.lines().rev().find_map(|line| Some(serde_json::from_str::<Refusal>(line).ok()?.error.code))
}

/// Looks at what a command said: nothing that acts on a terminal, no secret.
pub(crate) fn said(watched: &Watched, secret: &Forms) -> Vec<Violation> {
    let mut broken = Vec::new();
    for (stream, bytes) in [("stdout", &watched.stdout), ("stderr", &watched.stderr)] {
        match std::str::from_utf8(bytes) {
            Err(_) => broken.push(violation("terminal", format!("{stream} is not UTF-8"))),
            Ok(text) => {
                if let Some((line, c)) =
                    text.lines().find_map(|line| Some((line, line.chars().find(|c| acts(*c))?)))
                {
                    let line: String = line.chars().take(200).collect();
                    broken.push(violation(
                        "terminal",
                        format!("{stream} has {:?} in {line:?}", c.escape_unicode().to_string()),
                    ));
                }
            }
        }
        if let Some(form) = secret.in_bytes(bytes) {
            broken.push(violation("secret", format!("{stream} holds it, {form}")));
        }
    }
    broken
}

/// Whether a terminal acts on `c`, or it hides or turns around what is beside it.
///
/// Sources: ECMA-48, the C0 and C1 sets; Unicode Standard Annex #9, explicit directional formatting;
/// the Unicode general category Cf as far as it is invisible.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{ad}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The secret in every form it might get out in.
#[derive(Debug)]
pub(crate) struct Forms(Vec<(String, Vec<u8>)>);

impl Forms {
    /// Works them out.
    pub(crate) fn of(secret: &str) -> Self {
        let each = |form: fn(u8) -> String| secret.bytes().map(form).collect::<String>();
        let mut forms = vec![
            ("as it is".to_owned(), secret.to_owned()),
            ("backwards".to_owned(), secret.chars().rev().collect()),
            ("in hexadecimal".to_owned(), each(|byte| format!("{byte:02x}"))),
            ("in HEXADECIMAL".to_owned(), each(|byte| format!("{byte:02X}"))),
            ("for URLs".to_owned(), each(|byte| format!("%{byte:02X}"))),
            ("for JSON".to_owned(), each(|byte| format!("\\u{byte:04x}"))),
        ];
        for before in 0..3 {
            // What stands before it moves the groups of three bytes; those at the ends are not its own.
            let padded = ["x".repeat(before), secret.to_owned()].concat();
            for (name, code) in
                [("base64", BASE64_STANDARD_NO_PAD), ("base64 for URLs", BASE64_URL_SAFE_NO_PAD)]
            {
                let text = code.encode(&padded);
                let own: String = text.chars().skip(4).take(text.len().saturating_sub(8)).collect();
                forms.push((format!("in {name}, after {before}"), own));
            }
        }
        Self(forms.into_iter().map(|(name, text)| (name, text.into_bytes())).collect())
    }

    /// Returns the secret with something around it in base64, and in hexadecimal.
    pub(crate) fn examples(secret: &str) -> (String, String) {
        let hexadecimal = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        (BASE64_STANDARD_NO_PAD.encode(format!("password={secret}\n")), hexadecimal)
    }

    /// Returns the form in which the secret is in `bytes`.
    pub(crate) fn in_bytes(&self, bytes: &[u8]) -> Option<&str> {
        let is_in = |text: &[u8]| bytes.windows(text.len()).any(|it| it == text);
        self.0.iter().find(|(_, text)| is_in(text)).map(|(name, _)| name.as_str())
    }

    /// Returns the files below `folder` that hold the secret.
    ///
    /// # Errors
    ///
    /// One cannot be read.
    pub(crate) fn below(&self, folder: &Path) -> Result<Vec<Violation>> {
        let mut found = Vec::new();
        for path in walk(folder)? {
            if path.symlink_metadata()?.is_file() {
                // Zeros have no secrets, and there are many of them.
                let bytes = fs::read(&path)?;
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                if let Some(form) = self.in_bytes(bytes.get(..end).unwrap_or_default()) {
                    found.push(violation("secret", format!("{} holds it, {form}", path.display())));
                }
            }
        }
        Ok(found)
    }
}

/// Lists everything below a folder, without following a link.
fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.symlink_metadata()?.is_dir() {
                todo.push(path.clone());
            }
            found.push(path);
        }
    }
    Ok(found)
}

/// Looks at what lies at the path that was deployed to: nothing in a release leads out of it, has
/// more rights than a file needs, or is taken for a repository by git.
///
/// # Errors
///
/// Something cannot be read.
pub(crate) fn releases(site: &Path) -> Result<Vec<Violation>> {
    let mut broken = Vec::new();
    let releases = site.join("releases");
    let shared = site.join("shared");
    for path in walk(&releases)? {
        let Ok(inside) = path.strip_prefix(&releases) else { continue };
        let mut parts = inside.components();
        let Some(number) = parts.next() else { continue };
        let release = releases.join(number);
        let meta = path.symlink_metadata()?;
        let mut complain = |how: &str| broken.push(violation("release", format!("{} {how}", path.display())));
        if meta.is_symlink() {
            // One that leads nowhere yet is judged by its words.
            let target = path.parent().unwrap_or(&path).join(fs::read_link(&path)?);
            let end = path.canonicalize().unwrap_or_else(|_| plain(&target));
            if !end.starts_with(&release) && !end.starts_with(&shared) {
                complain(&format!("leads to {}", end.display()));
            }
        } else if !meta.is_dir() && !meta.is_file() {
            complain("is neither file nor folder nor link");
        } else if meta.permissions().mode() & 0o7022 != 0 {
            complain(&format!("has the mode {:o}", meta.permissions().mode()));
        }
        if path.file_name().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b".git")) {
            complain("is taken for a repository");
        }
    }
    Ok(broken)
}

/// Takes `.` and `..` out of a path by its words alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_found_in_every_form() {
        let forms = Forms::of("hunter2-hunter2");
        let within = |text: &str| forms.in_bytes(text.as_bytes()).map(str::to_owned);
        assert_eq!(within("a hunter2-hunter2 b").as_deref(), Some("as it is"));
        assert_eq!(within("2retnuh-2retnuh").as_deref(), Some("backwards"));
        for before in ["", "a", "ab", "abc", "abcd"] {
            let text = BASE64_STANDARD_NO_PAD.encode(format!("{before}hunter2-hunter2 and more"));
            assert!(within(&text).is_some(), "{before}: {text}");
        }
        assert!(within("68756e746572322d68756e74657232").is_some());
        assert_eq!(within("hunter3-hunter3 aHVudGVy"), None);
    }

    #[test]
    fn what_a_terminal_acts_on_is_found() {
        let heard = |text: &str| {
            let watched = Watched { stdout: text.as_bytes().to_vec(), ..Watched::default() };
            said(&watched, &Forms::of("hunter2-hunter2")).into_iter().map(|it| it.rule).collect::<Vec<_>>()
        };
        assert!(heard("plain \u{fc} 日本語\nnext\n").is_empty());
        for bad in ["\u{1b}[2J", "\u{9b}2J", "\r", "\u{202e}", "\u{200b}", "\u{7}", "\u{e0041}", "\t"] {
            assert_eq!(heard(bad), ["terminal"], "{bad:?}");
        }
    }

    #[test]
    fn paths_are_judged_by_their_words() {
        assert_eq!(plain(Path::new("/a/b/../c/./d")), Path::new("/a/c/d"));
    }
}
