//! What the caller decides: where the source is, how to get at it, and how much of it is too much.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use eeveon_core::Secret;

use crate::{HttpClients, RepoUrl};

/// Everything a [`crate::Mirror`] needs to know about one project's source.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Where the repository is.
    pub url: RepoUrl,
    /// The folder of the repository that is deployed, with `/` between parts; empty for all of it.
    pub dir: String,
    /// Patterns of what is not deployed, in the syntax of `.gitignore`, relative to `dir`. They win
    /// over every `.deployignore`.
    pub ignore: Vec<String>,
    /// How many commits of history the first fetch brings; 0 for all.
    pub depth: u32,
    /// Whether submodules are fetched and placed. Otherwise each becomes an empty folder.
    pub submodules: bool,
    /// How to prove who we are, and who the server is.
    pub credentials: Credentials,
    /// What is too much, and too slow.
    pub limits: Limits,
    /// Where http clients are kept; a program with many mirrors gives them clones of the same.
    pub clients: HttpClients,
}

impl SourceConfig {
    /// Returns the defaults for `url`: all of it, one commit deep, no submodules, no credentials.
    pub fn new(url: RepoUrl) -> Self {
        Self {
            url,
            dir: String::new(),
            ignore: Vec::new(),
            depth: 1,
            submodules: false,
            credentials: Credentials::default(),
            limits: Limits::default(),
            clients: HttpClients::default(),
        }
    }
}

/// How to prove who we are, and who the server is. What is `None` is left to `ssh` or the system.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The private key for ssh. No other key is offered then.
    pub ssh_key: Option<PathBuf>,
    /// The known hosts file for ssh.
    pub known_hosts: Option<PathBuf>,
    /// The socket of the SSH agent.
    pub ssh_agent: Option<PathBuf>,
    /// `HOME` for ssh; without it ssh asks the user database.
    pub home: Option<PathBuf>,
    /// `PATH` for finding `ssh` and `git`; without it the usual system folders.
    pub path: Option<OsString>,
    /// The user name for https. Most forges accept any with a token; the default is `git`.
    pub user: Option<String>,
    /// The token or password for https. Sent to the host of the repository's URL and to no other.
    pub token: Option<Secret>,
    /// More certificate authorities to trust for https, as a PEM file.
    pub ca_file: Option<PathBuf>,
    /// The proxy for http and https, such as `http://proxy:3128`. None is used without it.
    pub proxy: Option<String>,
}

/// What is too much, and too slow.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest pack accepted, in bytes.
    pub pack_bytes: u64,
    /// The largest single object accepted, in bytes.
    pub object_bytes: u64,
    /// The most files a release may have.
    pub files: usize,
    /// How long connecting may take.
    pub connect: Duration,
    /// How long the server may be silent.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack_bytes: 4 << 30,
            object_bytes: 512 << 20,
            files: 1_000_000,
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_show_the_token() {
        let secret = Secret::new("hunter2").unwrap();
        let credentials = Credentials { token: Some(secret), ..Credentials::default() };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
