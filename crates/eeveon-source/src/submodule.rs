//! Submodules: read from the commit, checked, fetched into mirrors of their own, placed below their
//! path and nowhere else.
//!
//! Source: gitmodules(5), <https://git-scm.com/docs/gitmodules>.

use std::collections::HashMap;

use gix::{ObjectId, bstr::ByteSlice, objs::Kind, prelude::FindExt};

use crate::{
    Mirror, RepoUrl, SourceConfig, SourceError,
    contents::{read_blob, root},
    mirror::{Inner, MODULES},
    names::{check_part, check_path},
    refs::shown_bytes,
    transfer::Job,
    url::Place,
    watch::chain,
};

/// How deep submodules may have submodules.
const NESTED: usize = 3;
/// How many submodules one commit may have.
const MOST: usize = 1000;

/// One submodule of a commit.
struct Spec {
    /// Where, in the repository that has it.
    path: Vec<u8>,
    url: RepoUrl,
    /// The commit it is pinned to.
    commit: ObjectId,
}

/// The submodules of a commit that are here, by their path.
pub(crate) struct Modules(HashMap<Vec<u8>, Module>);

/// A submodule that is here.
pub(crate) struct Module {
    pub(crate) repo: gix::Repository,
    pub(crate) modules: Modules,
}

impl Modules {
    /// Finds the mirrors of the submodules of `commit`.
    pub(crate) fn read(inner: &Inner, repo: &gix::Repository, commit: ObjectId) -> Result<Self, SourceError> {
        Self::read_at(inner, repo, commit, &inner.config.url, &inner.config.dir, 0)
    }

    fn read_at(
        top: &Inner,
        repo: &gix::Repository,
        commit: ObjectId,
        parent: &RepoUrl,
        dir: &str,
        level: usize,
    ) -> Result<Self, SourceError> {
        let mut found = HashMap::new();
        for spec in specs(repo, commit, parent, dir, level)? {
            let mirror = open(top, &spec.url)?;
            let module = mirror.inner.local()?;
            let modules = Self::read_at(top, &module, spec.commit, &spec.url, "", level + 1)?;
            found.insert(spec.path, Module { repo: module, modules });
        }
        Ok(Self(found))
    }

    /// Returns the submodule at `path` of its repository.
    pub(crate) fn at(&self, path: &[u8]) -> Option<&Module> {
        self.0.get(path)
    }

    /// Opens every submodule's mirror there is.
    pub(crate) fn every_repo(inner: &Inner) -> Result<Vec<gix::Repository>, SourceError> {
        let folder = inner.path.join(MODULES);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut repos = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(SourceError::io("list", &folder))? {
            let path = entry.map_err(SourceError::io("list", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "git") {
                repos.push(Mirror::open(&path, inner.config.clone())?.inner.local()?);
            }
        }
        Ok(repos)
    }
}

impl Inner {
    /// Fetches the submodules of `commit`, and theirs. Returns how many bytes that took.
    pub(crate) fn fetch_submodules(
        &self,
        repo: &gix::Repository,
        commit: ObjectId,
        job: &Job,
    ) -> Result<u64, SourceError> {
        self.fetch_level(repo, commit, &self.config.url, &self.config.dir, 0, job)
    }

    fn fetch_level(
        &self,
        repo: &gix::Repository,
        commit: ObjectId,
        parent: &RepoUrl,
        dir: &str,
        level: usize,
        job: &Job,
    ) -> Result<u64, SourceError> {
        let mut bytes = 0;
        for spec in specs(repo, commit, parent, dir, level)? {
            let mirror = open(self, &spec.url)?;
            bytes += mirror.inner.fetch(spec.commit, None, job)?.bytes;
            let module = mirror.inner.local()?;
            bytes += self.fetch_level(&module, spec.commit, &spec.url, "", level + 1, job)?;
        }
        Ok(bytes)
    }
}

/// Opens the mirror of the submodule at `url`.
fn open(top: &Inner, url: &RepoUrl) -> Result<Mirror, SourceError> {
    let name = gix::objs::compute_hash(gix::hash::Kind::Sha1, Kind::Blob, url.to_string().as_bytes());
    let name = name.map_err(|error| top.failed("name", &gix::Error::from_error(error)))?;
    let path = top.path.join(MODULES).join(format!("{name}.git"));
    let mut config =
        SourceConfig { url: url.clone(), submodules: false, dir: String::new(), ..top.config.clone() };
    if !same_server(url, &top.config.url) {
        // A token is for one server.
        config.credentials.token = None;
    }
    Mirror::open(&path, config)
}

fn same_server(one: &RepoUrl, other: &RepoUrl) -> bool {
    match (&one.0, &other.0) {
        (
            Place::Http { secure, host, port, .. },
            Place::Http { secure: other_secure, host: other_host, port: other_port, .. },
        ) => (secure, host, port) == (other_secure, other_host, other_port),
        _ => false,
    }
}

/// Reads which submodules `commit` has below `dir`, and where they are pinned.
fn specs(
    repo: &gix::Repository,
    commit: ObjectId,
    parent: &RepoUrl,
    dir: &str,
    level: usize,
) -> Result<Vec<Spec>, SourceError> {
    let tree = root(repo, commit)?;
    let Some((true, blob)) = find(repo, tree, b".gitmodules")? else { return Ok(Vec::new()) };
    let refuse =
        |path: &[u8], rule: &str| SourceError::Submodule { path: shown_bytes(path), rule: rule.to_owned() };
    let bytes = read_blob(repo, blob)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| refuse(b".gitmodules", "it is not UTF-8"))?;
    let file = gix::config::File::try_from(text)
        .map_err(|error| refuse(b".gitmodules", &shown_bytes(chain(&error).as_bytes())))?;
    let mut specs = Vec::new();
    for section in file.sections_by_name("submodule").into_iter().flatten() {
        let name = section.header().subsection_name().unwrap_or_default();
        gix::validate::submodule::name(name).map_err(|_| refuse(name, "git allows no such name"))?;
        let (Some(path), Some(url)) = (section.value("path"), section.value("url")) else {
            return Err(refuse(name, "it has no path or no url"));
        };
        let path = path.trim_end_with(|c| c == '/').to_vec();
        if path.starts_with(b"-") {
            return Err(refuse(&path, "its path begins with `-`"));
        }
        path.split(|byte| *byte == b'/')
            .try_for_each(|part| check_part(part, false))
            .and_then(|()| check_path(&path))
            .map_err(|rule| refuse(&path, rule))?;
        let dir = dir.trim_matches('/').as_bytes();
        let inside = dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"));
        let pinned = find(repo, tree, &path)?;
        let (true, Some((false, commit))) = (inside, pinned) else { continue };
        if level >= NESTED {
            return Err(refuse(&path, "it is nested too deep"));
        }
        let url = url.to_str().map_err(|_| refuse(&path, "its url is not UTF-8"))?;
        let url = resolve(parent, url).map_err(|rule| refuse(&path, &rule))?;
        if specs.len() == MOST {
            return Err(refuse(&path, "there are too many"));
        }
        specs.push(Spec { path, url, commit });
    }
    Ok(specs)
}

/// Finds what is at `path`: `true` and the id of a regular file, `false` and that of a pinned
/// commit; `None` for anything else. No symbolic link is followed.
fn find(
    repo: &gix::Repository,
    mut tree: ObjectId,
    path: &[u8],
) -> Result<Option<(bool, ObjectId)>, SourceError> {
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let mut buffer = Vec::new();
        let damaged =
            |error: gix::Error| SourceError::Corrupt { id: tree.to_string(), detail: chain(&error) };
        let mut entries = repo.objects.find_tree_iter(&tree, &mut buffer).map_err(damaged)?;
        let found = entries.find_map(|entry| entry.ok().filter(|entry| entry.filename == part));
        let Some(entry) = found else { return Ok(None) };
        let last = parts.peek().is_none();
        match () {
            () if last && entry.mode.is_commit() => return Ok(Some((false, entry.oid.to_owned()))),
            () if last && entry.mode.is_blob() => return Ok(Some((true, entry.oid.to_owned()))),
            () if !last && entry.mode.is_tree() => tree = entry.oid.to_owned(),
            () => return Ok(None),
        }
    }
    Ok(None)
}

/// Works out where a submodule is. One that begins with `./` or `../` is relative to its parent.
fn resolve(parent: &RepoUrl, url: &str) -> Result<RepoUrl, String> {
    let found = match url.starts_with("./") || url.starts_with("../") {
        false => RepoUrl::parse(url).map_err(|error| error.to_string())?,
        true => relative(parent, url).ok_or("its url leads nowhere")?,
    };
    // What a repository names must not reach further than the repository itself: not from a server
    // into this machine, and not from one folder here into any other.
    match (&parent.0, &found.0) {
        (Place::Http { secure, .. }, Place::Http { secure: also, .. }) if secure == also => Ok(found),
        (Place::Ssh { .. }, Place::Ssh { .. }) | (Place::Daemon { .. }, Place::Daemon { .. }) => Ok(found),
        (Place::Local { path }, Place::Local { path: to }) => {
            let folder =
                path.trim_end_matches("/.git").trim_end_matches('/').rsplit_once('/').map_or("", |cut| cut.0);
            let beside = to.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            match beside && !to.split('/').any(|part| part == "..") {
                true => Ok(found),
                false => Err("it is not beside its parent".to_owned()),
            }
        }
        _ => Err("its url is of another kind than its parent's".to_owned()),
    }
}

fn relative(parent: &RepoUrl, url: &str) -> Option<RepoUrl> {
    let mut place = parent.0.clone();
    let path = match &mut place {
        Place::Http { path, .. }
        | Place::Ssh { path, .. }
        | Place::Daemon { path, .. }
        | Place::Local { path } => path,
    };
    let mut base: &str = path.trim_end_matches('/');
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            base = match base.rsplit_once('/') {
                Some((above, _)) => above,
                None if base.is_empty() => return None,
                // user@host:name is beside user@host:other.
                None => "",
            };
        } else {
            break;
        }
    }
    let absolute = path.starts_with('/');
    if rest.is_empty() || rest.split('/').any(|part| matches!(part, "" | "." | "..")) || rest.starts_with('-')
    {
        return None;
    }
    let joined = match base.is_empty() && !absolute {
        true => rest.to_owned(),
        false => format!("{base}/{rest}"),
    };
    if joined.chars().any(char::is_control) {
        return None;
    }
    *path = joined;
    Some(RepoUrl(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(parent: &str, url: &str) -> Result<String, String> {
        resolve(&RepoUrl::parse(parent).unwrap(), url).map(|url| url.to_string())
    }

    #[test]
    fn relative_urls_start_at_the_parent() {
        for (parent, url, expected) in [
            ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
            ("https://h/a/b.git/", "../../c/d", "https://h/c/d"),
            ("https://h/a/b", "./c", "https://h/a/b/c"),
            ("git@h:a/b", "../c", "ssh://git@h/a/c"),
            ("git@h:b", "../c", "ssh://git@h/c"),
            ("ssh://h/a/b", "../c", "ssh://h/a/c"),
            ("/srv/a", "../c", "/srv/c"),
            ("/srv/a", "/srv/c", "/srv/c"),
            ("https://h/a", "https://other/c", "https://other/c"),
        ] {
            assert_eq!(at(parent, url).unwrap(), expected, "{parent} {url}");
        }
    }

    #[test]
    fn sub_rce_urls_reach_no_further_than_the_parent() {
        for (parent, url) in [
            ("https://h/a", "/etc"),
            ("https://h/a", "file:///etc"),
            ("https://h/a", "ssh://h/a"),
            ("https://h/a", "http://localhost/a"),
            ("https://h/a", "ext::sh -c x"),
            ("https://h/a", "-oProxyCommand=x"),
            ("https://h/a", "../../../../c"),
            ("https://h/a", "../x/../../y"),
            ("https://h/a", "../-x/"),
            ("git@h:a", "../-oProxyCommand=x"),
            ("git@h:a", "git://localhost/x"),
            ("/srv/x/a", "../../c"),
            ("/srv/x/a", "/srv/y/c"),
            ("/srv/x/a", "/srv/x/../y"),
            ("/srv/x/a", "./../../y"),
        ] {
            assert!(at(parent, url).is_err(), "{parent} {url}");
        }
    }

    #[test]
    fn cred_host_a_token_goes_to_the_parents_server_only() {
        let url = |text: &str| RepoUrl::parse(text).unwrap();
        assert!(same_server(&url("https://h/a"), &url("https://h/b")));
        assert!(!same_server(&url("https://h/a"), &url("https://h:444/b")));
        assert!(!same_server(&url("https://h/a"), &url("https://h.evil/b")));
    }
}
