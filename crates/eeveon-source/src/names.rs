//! Which names may become files of a release.

use gix::{bstr::ByteSlice, validate::path::component};

/// The longest name of one file or folder, in bytes.
const PART: usize = 255;
/// The longest path of a file in a release, in bytes; less than `PATH_MAX`, as the release has a
/// path too.
const PATH: usize = 4000;
/// How deep folders may be nested.
const DEPTH: usize = 256;

/// Checks one part of a path: `.git` is refused in every form some file system takes for it, see
/// <https://github.com/git/git/blob/master/path.c> and `core.protectNTFS`, `core.protectHFS` in
/// git-config(1).
pub(crate) fn check_part(name: &[u8], is_link: bool) -> Result<(), &'static str> {
    if name.contains(&0) {
        return Err("it holds a NUL byte");
    }
    if name.len() > PART {
        return Err("a part of it is longer than 255 bytes");
    }
    // Names only Windows refuses are fine: releases are placed on other systems.
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    let mode = is_link.then_some(component::Mode::Symlink);
    // Where `\` divides folders, each piece is a name; git looks at them too.
    let is_git = |piece: &[u8]| {
        let judged = gix::validate::path::component(piece.as_bstr(), mode, options);
        matches!(judged, Err(component::Error::DotGitDir))
    };
    if name.split(|byte| *byte == b'\\').any(is_git) {
        return Err("`.git`, in every spelling, is reserved for git");
    }
    match gix::validate::path::component(name.as_bstr(), mode, options) {
        Ok(_) => Ok(()),
        Err(component::Error::Empty) => Err("a part of it is empty"),
        Err(component::Error::Relative) => Err("`.` and `..` are no names"),
        Err(component::Error::SymlinkedGitModules) => Err("`.gitmodules` must not be a symbolic link"),
        Err(_) => Err("it holds a `/`"),
    }
}

/// Checks a whole path, made of parts that are fine.
pub(crate) fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.len() > PATH {
        return Err("it is longer than 4000 bytes");
    }
    if path.iter().filter(|byte| **byte == b'/').count() >= DEPTH {
        return Err("it is nested deeper than 256 folders");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_refused_in_every_spelling() {
        for bad in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git ",
            ".git.",
            ".git...",
            ".git::$INDEX_ALLOCATION",
            ".git\\hooks",
            "GIT~1\\config",
            ".git \\x",
            "a\\.git",
            ".g\u{200c}it",
            ".gi\u{feff}t",
            "\u{200e}.git",
            ".git\u{202e}",
            "",
            ".",
            "..",
            "a/b",
            "a\0b",
        ] {
            assert!(check_part(bad.as_bytes(), false).is_err(), "{bad:?}");
        }
        assert!(check_part(&[b'x'; 256], false).is_err());
        assert!(check_part(b".gitmodules", true).is_err());
    }

    #[test]
    fn ordinary_names_are_fine() {
        for good in [
            ".gitignore",
            ".gitmodules",
            "git",
            "a b",
            "aux",
            "con.txt",
            "a:b",
            "a\\b",
            "x\ny",
            "~",
            "-rf",
            "$(x)",
            "...",
            ".gitx",
            "é",
        ] {
            assert_eq!(check_part(good.as_bytes(), false), Ok(()), "{good:?}");
        }
        assert_eq!(check_part(b"\xff\xfe", false), Ok(()));
        assert_eq!(check_part(&[b'x'; 255], true), Ok(()));
    }

    #[test]
    fn paths_are_bounded() {
        assert!(check_path(&[b'x'; 4001]).is_err());
        assert!(check_path("a/".repeat(256).as_bytes()).is_err());
        assert_eq!(check_path("a/".repeat(255).as_bytes()), Ok(()));
    }
}
