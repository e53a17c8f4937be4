//! Git over https: lighttpd in front of `git http-backend`, with a certificate of our own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{
    certificate::{self, Validity, write_private},
    find, find_in_git, not_skipped, output,
    process::Process,
};

const USER: &str = "deployer";
const PASSWORD: &str = "loopback-Pa55word";

/// Modules of lighttpd that are needed.
const MODULES: &str =
    r#"server.modules = ("mod_alias", "mod_setenv", "mod_cgi", "mod_auth", "mod_authn_file", "mod_openssl")"#;

/// Who may read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Whoever gives [`GitHttps::user`] and [`GitHttps::password`]; they may also push.
    Password,
    /// Anyone.
    Anonymous,
}

/// A web server with git repositories behind it.
#[derive(Debug)]
pub struct GitHttps {
    process: Process,
    state: TempDir,
}

impl GitHttps {
    /// Tells whether one can be started here, or why not.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub fn available() -> Result<(), String> {
        not_skipped("lighttpd")?;
        find_in_git("git-http-backend")?;
        let lighttpd = find("lighttpd")?;
        let state = TempDir::new().map_err(|error| error.to_string())?;
        let config = state.path().join("modules.conf");
        fs::write(&config, format!("server.document-root = \"/\"\n{MODULES}\n"))
            .map_err(|error| error.to_string())?;
        // Loading them is the only sure way to know that they are installed.
        let loaded = output(Command::new(lighttpd).arg("-tt").arg("-f").arg(&config));
        loaded.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Serves the bare repositories in `root`.
    ///
    /// # Errors
    ///
    /// It does not start; the message has what it said.
    pub fn start(root: &Path, access: Access) -> io::Result<Self> {
        let state = TempDir::new()?;
        let lighttpd = find("lighttpd").map_err(io::Error::other)?;
        let backend = find_in_git("git-http-backend").map_err(io::Error::other)?;
        certificate::write(state.path(), Validity::Good)?;
        write_private(&state.path().join("users"), &format!("{USER}:{PASSWORD}\n"))?;
        let process = Process::start(&state.path().join("log"), |port| {
            let config = state.path().join("lighttpd.conf");
            fs::write(&config, configuration(state.path(), root, &backend, port, access)?)?;
            let mut command = Command::new(&lighttpd);
            command.arg("-D").arg("-f").arg(config);
            Ok(command)
        })?;
        Ok(Self { process, state })
    }

    /// Returns the URL of a repository, given relative to the root. It holds no password.
    pub fn url(&self, repository: &str) -> String {
        format!("https://127.0.0.1:{}/git/{repository}", self.process.port())
    }

    /// Returns the certificate, PEM, that vouches for the server.
    pub fn ca_file(&self) -> PathBuf {
        self.state.path().join("ca.pem")
    }

    /// Returns who may read when it takes a password.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// Returns the password of [`Self::user`].
    pub fn password(&self) -> &'static str {
        PASSWORD
    }
}

/// Returns lighttpd's configuration.
///
/// Source: <https://redmine.lighttpd.net/projects/lighttpd/wiki/Docs_Configuration>
fn configuration(state: &Path, root: &Path, backend: &Path, port: u16, access: Access) -> io::Result<String> {
    let quoted = |path: &Path| match path.to_str().filter(|path| !path.contains(['"', '\\', '\n'])) {
        Some(path) => Ok(format!("\"{path}\"")),
        None => Err(io::Error::other(format!("lighttpd cannot be told of {}", path.display()))),
    };
    let state = |name: &str| quoted(&state.join(name));
    let authentication = match access {
        Access::Anonymous => String::new(),
        Access::Password => format!(
            r#"  auth.backend = "plain"
  auth.backend.plain.userfile = {users}
  auth.require = ("" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))
"#,
            users = state("users")?
        ),
    };
    Ok(format!(
        r#"{MODULES}
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = {folder}
server.upload-dirs = ({folder})
server.errorlog = {errors}
ssl.engine = "enable"
ssl.pemfile = {certificate}
ssl.privkey = {key}
alias.url += ("/git" => {backend})
$HTTP["url"] =~ "^/git" {{
  cgi.assign = ("" => "")
  setenv.add-environment = (
    "GIT_PROJECT_ROOT" => {root},
    "GIT_HTTP_EXPORT_ALL" => "1",
    "GIT_CONFIG_GLOBAL" => "/dev/null",
    "GIT_CONFIG_NOSYSTEM" => "1",
    "PATH" => "/usr/local/bin:/usr/bin:/bin"
  )
{authentication}}}
"#,
        folder = state("")?,
        errors = state("errors")?,
        certificate = state("server.pem")?,
        key = state("server.key")?,
        backend = quoted(backend)?,
        root = quoted(root)?,
    ))
}
