//! What the surroundings say: environment variables, read here and nowhere else.

use std::{collections::BTreeMap, env, ffi::OsString, path::PathBuf};

use eeveon_core::{Actor, Secret, SecretError, SecretRef, Secrets, Untrusted};

/// The environment, as far as EEveon looks at it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `SSH_AUTH_SOCK`: where the ssh agent listens.
    pub ssh_agent: Option<PathBuf>,
    /// `PATH`: where programs are.
    pub path: Option<OsString>,
    /// `https_proxy` or `HTTPS_PROXY`.
    pub proxy: Option<String>,
    /// `http_proxy` or `HTTP_PROXY`.
    pub http_proxy: Option<String>,
    /// `no_proxy` or `NO_PROXY`: what is reached without one.
    pub no_proxy: Option<String>,
    /// `NO_COLOR` is set to something.
    pub no_color: bool,
    /// Who runs the command: the person behind sudo, or the login name.
    pub user: String,
    /// What build and hook commands get to see of the environment.
    pub for_commands: BTreeMap<String, String>,
}

/// What of the environment commands see. Everything else, tokens of other tools for instance, is
/// kept from them.
const FOR_COMMANDS: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];

impl Environment {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let user = text("SUDO_USER").or_else(|| text("USER")).or_else(|| text("LOGNAME"));
        Self {
            home: text("HOME").map(PathBuf::from),
            ssh_agent: text("SSH_AUTH_SOCK").map(PathBuf::from),
            path: env::var_os("PATH"),
            proxy: text("https_proxy").or_else(|| text("HTTPS_PROXY")),
            http_proxy: text("http_proxy").or_else(|| text("HTTP_PROXY")),
            no_proxy: text("no_proxy").or_else(|| text("NO_PROXY")),
            no_color: text("NO_COLOR").is_some(),
            user: user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw())),
            for_commands: FOR_COMMANDS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), text(name)?)))
                .collect(),
        }
    }

    /// Returns the value of a variable the configuration refers to.
    pub fn variable(name: &str) -> Option<String> {
        env::var(name).ok()
    }

    /// Returns the path of this program.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn program() -> std::io::Result<PathBuf> {
        env::current_exe()
    }

    /// Finds a program the way a shell does.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        let folders = self.path.as_ref()?;
        env::split_paths(folders).map(|folder| folder.join(program)).find(|path| path.is_file())
    }

    /// Returns who runs the command.
    pub fn actor(&self) -> Actor {
        Actor::User(Untrusted::from(self.user.clone()))
    }
}

impl Secrets for Environment {
    fn reveal(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        /// A file anywhere near this size holds no secret.
        const LIMIT_BYTES: u64 = 64 << 10;
        let missing = |why: String| SecretError::Missing { at: at.to_string(), why };
        let value = match at {
            SecretRef::Env(name) => Self::variable(name).ok_or_else(|| missing("is not set".to_owned()))?,
            SecretRef::File(path) => {
                let unreadable = |error: std::io::Error| missing(format!("cannot be read: {error}"));
                let mut text = String::new();
                // A pipe or a device would keep whoever opens it.
                let is_file = std::fs::metadata(path).map_err(unreadable)?.is_file();
                let file = is_file.then(|| std::fs::File::open(path)).transpose().map_err(unreadable)?;
                let file = file.ok_or_else(|| missing("is no file".to_owned()))?;
                std::io::Read::read_to_string(&mut std::io::Read::take(file, LIMIT_BYTES), &mut text)
                    .map_err(unreadable)?;
                text
            }
        };
        Secret::new(value.trim()).ok_or_else(|| missing("is empty".to_owned()))
    }
}
