//! Git over ssh: an sshd of our own that lets the current user in by key.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{find, not_skipped, output, process::Process};

/// An ssh server.
#[derive(Debug)]
pub struct GitSsh {
    process: Process,
    state: TempDir,
    root: PathBuf,
    user: String,
}

impl GitSsh {
    /// Tells whether one can be started here, or why not.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub fn available() -> Result<(), String> {
        not_skipped("sshd")?;
        ["sshd", "ssh", "ssh-keygen"].iter().try_for_each(|program| find(program).map(|_| ()))
    }

    /// Serves the bare repositories in `root`, and all else the current user can read.
    ///
    /// # Errors
    ///
    /// It does not start; the message has what it said.
    pub fn start(root: &Path) -> io::Result<Self> {
        let state = TempDir::new()?;
        let user = output(Command::new("id").arg("-un"))?.trim().to_owned();
        if user == "root" {
            // Where sshd, when it runs as root, locks up its unprivileged part.
            fs::create_dir_all("/run/sshd")?;
        }
        make_key(&state.path().join("client_key"))?;
        make_key(&state.path().join("host_key"))?;
        fs::copy(state.path().join("client_key.pub"), state.path().join("authorized_keys"))?;
        let process = Process::start(&state.path().join("log"), |port| command(state.path(), port))?;
        let server = Self { process, state, root: root.canonicalize()?, user };
        server.write_known_hosts()?;
        Ok(server)
    }

    /// Returns the URL of a repository, given relative to the root.
    pub fn url(&self, repository: &str) -> String {
        format!("ssh://{}@127.0.0.1:{}{}/{repository}", self.user, self.process.port(), self.root.display())
    }

    /// Returns the private key that is let in.
    pub fn key_file(&self) -> PathBuf {
        self.state.path().join("client_key")
    }

    /// Returns the file that names the server's key, as it was when the server was started.
    pub fn known_hosts(&self) -> PathBuf {
        self.state.path().join("known_hosts")
    }

    /// Gives the server another key, on the same port. [`Self::known_hosts`] keeps the old one.
    ///
    /// # Errors
    ///
    /// It does not start again; the message has what it said.
    pub fn change_host_key(&mut self) -> io::Result<()> {
        let state = self.state.path();
        for old in ["host_key", "host_key.pub"] {
            fs::remove_file(state.join(old))?;
        }
        make_key(&state.join("host_key"))?;
        self.process.replace(&state.join("log"), |port| command(state, port))
    }

    /// Writes the one line of the known hosts.
    ///
    /// Source: <https://man.openbsd.org/sshd.8#SSH_KNOWN_HOSTS_FILE_FORMAT>
    fn write_known_hosts(&self) -> io::Result<()> {
        let key = fs::read_to_string(self.state.path().join("host_key.pub"))?;
        let key: Vec<&str> = key.split_whitespace().take(2).collect();
        fs::write(self.known_hosts(), format!("[127.0.0.1]:{} {}\n", self.process.port(), key.join(" ")))
    }
}

/// Makes an Ed25519 key without a passphrase.
fn make_key(file: &Path) -> io::Result<()> {
    let keygen = find("ssh-keygen").map_err(io::Error::other)?;
    output(Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "eeveon-test", "-f"]).arg(file))
        .map(|_| ())
}

/// Writes sshd's configuration and returns its command line.
///
/// Source: <https://man.openbsd.org/sshd_config>
fn command(state: &Path, port: u16) -> io::Result<Command> {
    let path = env::var("PATH").unwrap_or_default();
    let config = format!(
        "ListenAddress 127.0.0.1\n\
         Port {port}\n\
         HostKey {state}/host_key\n\
         AuthorizedKeysFile {state}/authorized_keys\n\
         PidFile none\n\
         UsePAM no\n\
         StrictModes no\n\
         PermitRootLogin prohibit-password\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PrintMotd no\n\
         AcceptEnv GIT_PROTOCOL\n\
         SetEnv \"PATH={path}\"\n",
        state = state.display(),
    );
    let file = state.join("sshd_config");
    fs::write(&file, config)?;
    let mut command = Command::new(find("sshd").map_err(io::Error::other)?);
    command.args(["-D", "-e", "-f"]).arg(file);
    Ok(command)
}
