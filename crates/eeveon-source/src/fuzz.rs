//! Fuzz targets: addresses and `.deployignore`, each compared with what git itself makes of them.

use eeveon_testkit::{fuzz::spell, git::Repo};

use crate::{
    RepoUrl,
    ignore::Patterns,
    url::{Place, bracketed},
};

const OF_URLS: &[&str] = &[
    "https://",
    "http://",
    "ssh://",
    "git+ssh://",
    "git://",
    "file://",
    "ext::",
    "fd::",
    "ext::sh -c x",
    "git",
    "@",
    ":",
    "/",
    "//",
    "localhost",
    "127.0.0.1",
    "[::1]",
    "[",
    "]",
    "host",
    "example.org",
    ":22",
    ":0",
    ":65536",
    "-oProxyCommand=x",
    "-",
    "~",
    "~u/",
    "a.git",
    ".git",
    "..",
    ".",
    "?",
    "#",
    "%41",
    "%2f",
    "%00",
    "%0a",
    "%",
    "\\",
    " ",
    "\n",
    "\u{1b}",
    "é",
    "user:secret@",
    "x",
    "$(x)",
    "'",
    ";",
];

/// Returns one line of what git says about an address.
fn word<'a>(said: &'a str, name: &str) -> &'a str {
    said.lines()
        .find_map(|line| line.strip_prefix("Diag: ")?.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or("")
}

/// What git would connect to: as `git fetch-pack --diag-url` says it.
fn expected(place: &Place) -> Option<String> {
    let number = |port: &Option<u16>| port.map_or("NONE".to_owned(), |port| port.to_string());
    match place {
        // Another program speaks HTTP for git.
        Place::Http { .. } => None,
        Place::Ssh { user, host, port, path } => {
            let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            Some(format!("ssh {user}{host} {} {path}", number(port)))
        }
        Place::Daemon { host, port, path } => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("git {}{port} {path}", bracketed(host)))
        }
        Place::Local { path } => Some(format!("file {path}")),
    }
}

#[test]
fn addresses() {
    let repo = Repo::new();
    bolero::check!().with_max_len(10).with_iterations(10_000).for_each(|input| {
        let Ok(text) = String::from_utf8(spell(input, OF_URLS)) else { return };
        let Ok(url) = RepoUrl::parse(&text) else { return };
        let shown = url.to_string();
        // Without a scheme, what follows the first `:` is a path.
        let hides = !text.contains("://") || !shown.contains("secret");
        assert!(hides && !shown.starts_with('-'), "{text:?} is shown as {shown:?}");
        assert!(!shown.chars().any(char::is_control), "{text:?} is shown as {shown:?}");
        // What is shown can be given again, and means the same.
        if let Ok(again) = RepoUrl::parse(&shown) {
            assert_eq!(again.to_string(), shown, "{text:?}");
            assert!(again.same_place(&url) || matches!(url.0, Place::Ssh { .. }), "{text:?}: {shown:?}");
        }
        assert!(url.host().is_none_or(|host| !host.starts_with('-')), "{text:?}");
        let Some(expected) = expected(&url.0) else { return };
        let said = repo.git(["fetch-pack", "--diag-url", &text]);
        let theirs = match word(&said, "protocol") {
            "ssh" => {
                format!("ssh {} {} {}", word(&said, "userandhost"), word(&said, "port"), word(&said, "path"))
            }
            "git" => format!("git {} {}", word(&said, "hostandport"), word(&said, "path")),
            other => format!("{other} {}", word(&said, "path")),
        };
        assert_eq!(theirs, expected, "{text:?}");
    });
}

const OF_PATTERNS: &[&str] = &[
    "\n",
    "\n",
    "\n",
    "/",
    "!",
    "#",
    "\\",
    " ",
    "\t",
    "\r\n",
    "\0",
    "*",
    "**",
    "?",
    "[",
    "]",
    "[ab]",
    "[!a]",
    "[^a]",
    "[a-c]",
    "[]",
    "[[:alpha:]]",
    "[[:x:]]",
    "a",
    "b",
    "c",
    "d",
    "ab",
    ".log",
    "x.log",
    "*.log",
    "-",
    "{a,b}",
    "é",
    "\u{feff}",
    "/**/",
    "**/",
    "/**",
    "a/b",
    "\\*",
    "\\ ",
];

/// Files that patterns are about. Folders are those that have files.
const FILES: &[&str] = &[
    "a",
    "b/a",
    "b/b",
    "b/c/a",
    "b/c/d/a",
    "ab",
    "d/x.log",
    "x.log",
    "c/ab/x.log",
    "c/ab/d",
    "#a",
    "!a",
    "a b/c",
    " ",
    "é/a",
    "[a]",
    "*",
    "\\",
    "d/-",
    "{a,b}",
    "c/**",
    "a.b",
];

/// Lists what the patterns leave of [`FILES`], asking about folders first, as a listing does.
fn kept(root: &[u8], inner: &[u8]) -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    for file in FILES {
        let mut patterns = Patterns::new(&[]);
        patterns.enter(b"", root);
        let mut folders = file.match_indices('/').map(|(at, _)| file.get(..at).unwrap_or_default());
        let excluded = folders.any(|folder| {
            let excluded = patterns.excludes(folder.as_bytes(), true);
            patterns.enter(folder.as_bytes(), if folder == "b" { inner } else { b"" });
            excluded
        });
        if !excluded && !patterns.excludes(file.as_bytes(), false) {
            kept.push(file.as_bytes().to_vec());
        }
    }
    kept.sort();
    kept
}

#[test]
fn deployignore() {
    let theirs = Repo::new();
    FILES.iter().for_each(|file| theirs.write(file, "x"));
    bolero::check!().with_max_len(24).with_iterations(600).for_each(|input| {
        // The first half is the file at the root, the rest that of a folder.
        let (root, inner) = input.split_at(input.len() / 2);
        let (root, inner) = (spell(root, OF_PATTERNS), spell(inner, OF_PATTERNS));
        theirs.write(".gitignore", &root);
        theirs.write("b/.gitignore", &inner);
        let mut expected = theirs.not_ignored(&[]);
        expected.retain(|path| !path.ends_with(b".gitignore"));
        expected.sort();
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(kept(&root, &inner), expected, "root: {}\nb: {}", shown(&root), shown(&inner));
    });
}
