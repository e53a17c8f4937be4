//! Where a repository is: which addresses are understood, and which are refused.

use std::{fmt, net::IpAddr, path::Path, str::FromStr};

use crate::{SourceError, refs::shown};

/// The address of a repository, of one of the kinds that are ever used. Showing it shows no
/// password, no token and no user name of an https address (forges accept tokens there).
///
/// Source: git-fetch(1), "Git URLs", <https://git-scm.com/docs/git-fetch#_git_urls>.
#[derive(Clone, Eq, PartialEq)]
pub struct RepoUrl(pub(crate) Place);

#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Place {
    /// `https://`, or `http://` on loopback. The path begins with `/`, encoded as given.
    Http { secure: bool, user: Option<String>, host: String, port: Option<u16>, path: String },
    /// `ssh://` and `user@host:path`. The path as the server gets it.
    Ssh { user: Option<String>, host: String, port: Option<u16>, path: String },
    /// `git://`.
    Daemon { host: String, port: Option<u16>, path: String },
    /// An absolute path on this machine.
    Local { path: String },
}

impl RepoUrl {
    /// Reads an address. `http://` and `git://`, which protect nothing, are accepted on loopback
    /// only.
    ///
    /// # Errors
    ///
    /// `source/url`, with the rule the address breaks.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        parse(text, false)
    }

    /// Reads an address; `git://` may name any host. Nothing proves then that what arrives is what
    /// the repository holds.
    ///
    /// # Errors
    ///
    /// `source/url`, with the rule the address breaks.
    pub fn parse_allowing_insecure(text: &str) -> Result<Self, SourceError> {
        parse(text, true)
    }

    /// Reads an address a person typed in folder `cwd`: a relative path is taken from there.
    ///
    /// # Errors
    ///
    /// `source/url`, with the rule the address breaks.
    pub fn parse_in(text: &str, cwd: &Path) -> Result<Self, SourceError> {
        match is_path(text) && !text.starts_with('/') && !text.is_empty() {
            false => Self::parse(text),
            true if text.starts_with('-') => refuse(text, "it must not begin with `-`"),
            true => match cwd.join(text).to_str() {
                Some(absolute) => Self::parse(absolute),
                None => refuse(text, "the current folder's name is not UTF-8"),
            },
        }
    }

    /// Returns what the repository is called: the last part of its path, without `.git`.
    pub fn name(&self) -> Option<&str> {
        let path = match &self.0 {
            Place::Http { path, .. }
            | Place::Ssh { path, .. }
            | Place::Daemon { path, .. }
            | Place::Local { path } => path,
        };
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/.git").unwrap_or(path).trim_end_matches('/');
        let last = path.rsplit('/').next().unwrap_or(path);
        Some(last.strip_suffix(".git").unwrap_or(last)).filter(|name| !matches!(*name, "" | "." | ".."))
    }

    /// Whether both name the same repository of the same server, or the same folder: however the
    /// path ends, with the usual port or none. The user of an https address is not part of the
    /// place. Nothing is looked up, so two places may still hold the same repository.
    pub fn same_place(&self, other: &RepoUrl) -> bool {
        self.0.plain() == other.0.plain()
    }

    /// Returns the host that has the repository; `None` for one on this machine.
    pub fn host(&self) -> Option<&str> {
        match &self.0 {
            Place::Http { host, .. } | Place::Ssh { host, .. } | Place::Daemon { host, .. } => Some(host),
            Place::Local { .. } => None,
        }
    }

    /// Returns the folder, for a repository on this machine.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Local { path } => Some(Path::new(path)),
            _ => None,
        }
    }
}

impl Place {
    /// Returns the one way to write this place among those that mean the same.
    fn plain(&self) -> Self {
        let name = |host: &String| host.to_ascii_lowercase();
        let number = |port: &Option<u16>, usual| port.filter(|port| *port != usual);
        let end = |path: &String| path.trim_end_matches('/').to_owned();
        match self {
            Self::Http { secure, host, port, path, .. } => {
                let port = number(port, if *secure { 443 } else { 80 });
                Self::Http { secure: *secure, user: None, host: name(host), port, path: end(path) }
            }
            Self::Ssh { user, host, port, path } => {
                Self::Ssh { user: user.clone(), host: name(host), port: number(port, 22), path: end(path) }
            }
            Self::Daemon { host, port, path } => {
                Self::Daemon { host: name(host), port: number(port, 9418), path: end(path) }
            }
            Self::Local { path } => {
                // `//` and `/./` mean `/`.
                let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
                Self::Local { path: format!("/{}", parts.join("/")) }
            }
        }
    }
}

impl FromStr for RepoUrl {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        Self::parse(text)
    }
}

impl fmt::Debug for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoUrl({self})")
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |port: &Option<u16>| port.map(|port| format!(":{port}")).unwrap_or_default();
        match &self.0 {
            Place::Http { secure, host, port: number, path, .. } => {
                let scheme = if *secure { "https" } else { "http" };
                write!(f, "{scheme}://{}{}{path}", bracketed(host), port(number))
            }
            Place::Ssh { user, host, port: number, path } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let slash = if path.starts_with('/') { "" } else { "/" };
                write!(f, "ssh://{user}{}{}{slash}{}", bracketed(host), port(number), encode(path))
            }
            Place::Daemon { host, port: number, path } => {
                write!(f, "git://{}{}{}", bracketed(host), port(number), encode(path))
            }
            Place::Local { path } => f.write_str(path),
        }
    }
}

/// Puts brackets around an IPv6 address.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Refuses `text`, of which nothing secret is shown.
fn refuse<T>(text: &str, rule: &'static str) -> Result<T, SourceError> {
    let given = match (text.find("://"), text.rfind('@')) {
        (Some(start), Some(at)) if start < at => {
            let scheme = text.get(..start + 3).unwrap_or_default();
            let rest = text.get(at..).unwrap_or_default();
            format!("{scheme}***{rest}")
        }
        // Before the `@` of `user:password@host` there may be a password too.
        (None, Some(at)) if text.get(..at).is_some_and(|before| before.contains(':')) => {
            format!("***{}", text.get(at..).unwrap_or_default())
        }
        _ => text.to_owned(),
    };
    Err(SourceError::Url { given: shown(&given), rule })
}

/// Whether git takes `text` for a path: no scheme, and no `:` before the first `/`.
fn is_path(text: &str) -> bool {
    if text.contains("://") {
        return false;
    }
    match (text.find(':'), text.find('/')) {
        (None, _) => true,
        (Some(colon), Some(slash)) => slash < colon,
        (Some(_), None) => false,
    }
}

fn parse(text: &str, insecure: bool) -> Result<RepoUrl, SourceError> {
    if text.is_empty() {
        return refuse(text, "it is empty");
    }
    if text.len() > 4000 {
        return refuse(text, "it is too long");
    }
    if text.chars().any(char::is_control) {
        return refuse(text, "it has a control character");
    }
    if text.starts_with('-') {
        return refuse(text, "it must not begin with `-`");
    }
    // `helper::address` makes git run git-remote-helper, `ext::` among them, which is a shell.
    let scheme_end =
        text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(text.len());
    if text.get(scheme_end..).is_some_and(|rest| rest.starts_with("::")) {
        return refuse(text, "remote helpers are never used");
    }
    let place = match text.split_once("://") {
        // As for git, whatever stands before `://` is a scheme.
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "https" => http(text, rest, true)?,
            "http" => http(text, rest, false)?,
            "ssh" | "git+ssh" | "ssh+git" => ssh_url(text, rest)?,
            "git" => daemon(text, rest, insecure)?,
            "file" => file_url(text, rest)?,
            _ => return refuse(text, "this kind of address is never used"),
        },
        _ if is_path(text) => local(text, text.to_owned())?,
        _ => scp(text)?,
    };
    Ok(RepoUrl(place))
}

struct Authority<'a> {
    user: Option<&'a str>,
    host: String,
    port: Option<u16>,
    path: &'a str,
}

/// Splits `[user@]host[:port]/path`.
fn authority<'a>(text: &str, rest: &'a str) -> Result<Authority<'a>, SourceError> {
    let slash = rest.find('/').unwrap_or(rest.len());
    let (place, path) = (rest.get(..slash).unwrap_or_default(), rest.get(slash..).unwrap_or_default());
    let (user, place) = match place.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, place),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return refuse(text, "it holds a password");
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(place) => match place.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) if port.starts_with(':') => (host, port.strip_prefix(':')),
            _ => return refuse(text, "its host is malformed"),
        },
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            _ => return refuse(text, "its port is malformed"),
        },
    };
    Ok(Authority { user: check_user(text, user)?, host: check_host(text, host)?, port, path })
}

fn check_user<'a>(text: &str, user: Option<&'a str>) -> Result<Option<&'a str>, SourceError> {
    match user {
        Some("") => refuse(text, "its user is empty"),
        Some(user) if user.starts_with('-') => refuse(text, "its user begins with `-`"),
        Some(user) if !user.bytes().all(|b| b.is_ascii_graphic()) => refuse(text, "its user is malformed"),
        user => Ok(user),
    }
}

/// Accepts names and addresses only: nothing ssh, a resolver or a proxy could read otherwise.
fn check_host(text: &str, host: &str) -> Result<String, SourceError> {
    if host.is_empty() {
        return refuse(text, "it names no host");
    }
    if host.starts_with('-') {
        return refuse(text, "its host begins with `-`");
    }
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !plain && host.parse::<IpAddr>().is_err() {
        return refuse(text, "its host is malformed");
    }
    Ok(host.to_owned())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn http(text: &str, rest: &str, secure: bool) -> Result<Place, SourceError> {
    let Authority { user, host, port, path } = authority(text, rest)?;
    if !secure && !is_loopback(&host) {
        return refuse(text, "http:// protects nothing and is used on this machine only");
    }
    if path.trim_matches('/').is_empty() {
        return refuse(text, "it names no repository");
    }
    if path.contains(['?', '#', ' ', '\\']) {
        return refuse(text, "its path is malformed");
    }
    Ok(Place::Http { secure, user: user.map(str::to_owned), host, port, path: path.to_owned() })
}

fn ssh_url(text: &str, rest: &str) -> Result<Place, SourceError> {
    let Authority { user, host, port, path } = authority(text, rest)?;
    let path = decode(text, path)?;
    // ssh://host/~user/x means the path ~user/x.
    let path = match path.strip_prefix('/') {
        Some(rest) if rest.starts_with('~') => rest.to_owned(),
        _ => path,
    };
    Ok(Place::Ssh { user: user.map(str::to_owned), host, port, path: check_path(text, path)? })
}

fn scp(text: &str) -> Result<Place, SourceError> {
    let (user, rest) = match text.split_once('@') {
        // Only an `@` before the `:` ends a user; one in the path does not.
        Some((user, rest)) if !user.contains([':', '/']) => (Some(user), rest),
        Some((user, rest)) if user.contains(':') && !user.contains('/') && rest.contains(':') => {
            return refuse(text, "it holds a password");
        }
        _ => (None, text),
    };
    let (host, path) = match rest.strip_prefix('[') {
        Some(rest) => match rest.split_once("]:") {
            Some(parts) => parts,
            None => return refuse(text, "its host is malformed"),
        },
        None => match rest.split_once(':') {
            Some(parts) => parts,
            None => return refuse(text, "its host is malformed"),
        },
    };
    // [host:port]:path, as git reads it.
    let (host, port) = match host.split_once(':') {
        Some((name, port)) if host.parse::<IpAddr>().is_err() => match port.parse::<u16>() {
            Ok(port) if port > 0 => (name, Some(port)),
            _ => return refuse(text, "its port is malformed"),
        },
        _ => (host, None),
    };
    Ok(Place::Ssh {
        user: check_user(text, user)?.map(str::to_owned),
        host: check_host(text, host)?,
        port,
        path: check_path(text, path.to_owned())?,
    })
}

fn daemon(text: &str, rest: &str, insecure: bool) -> Result<Place, SourceError> {
    let Authority { user, host, port, path } = authority(text, rest)?;
    if user.is_some() {
        return refuse(text, "git:// knows no users");
    }
    if !insecure && !is_loopback(&host) {
        return refuse(text, "git:// protects nothing and is used on this machine only");
    }
    let path = check_path(text, decode(text, path)?)?;
    Ok(Place::Daemon { host, port, path })
}

fn file_url(text: &str, rest: &str) -> Result<Place, SourceError> {
    let path = match rest.strip_prefix("localhost/") {
        Some(path) => format!("/{path}"),
        None if rest.starts_with('/') => rest.to_owned(),
        None => return refuse(text, "file:// names paths on this machine only"),
    };
    local(text, decode(text, &path)?)
}

fn local(text: &str, path: String) -> Result<Place, SourceError> {
    if !path.starts_with('/') {
        return refuse(text, "a path must be absolute");
    }
    Ok(Place::Local { path: check_path(text, path)? })
}

fn check_path(text: &str, path: String) -> Result<String, SourceError> {
    if path.trim_matches('/').is_empty() {
        return refuse(text, "it names no repository");
    }
    if path.starts_with('-') {
        return refuse(text, "its path begins with `-`");
    }
    if path.chars().any(char::is_control) {
        return refuse(text, "it has a control character");
    }
    Ok(path)
}

/// Writes a path such that [`decode`] makes the same of it.
fn encode(path: &str) -> String {
    path.replace('%', "%25")
}

/// Decodes `%41`, as git does for every kind of URL but http.
fn decode(text: &str, path: &str) -> Result<String, SourceError> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                    _ => return refuse(text, "it has a malformed `%`"),
                }
            }
            byte => out.push(byte),
        }
    }
    match String::from_utf8(out) {
        Ok(path) => Ok(path),
        Err(_) => refuse(text, "its path is not UTF-8"),
    }
}

#[cfg(test)]
mod tests;
