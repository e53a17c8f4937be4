//! Where repositories can be had from: this machine's files, `git daemon`, or https from lighttpd
//! before `git http-backend`. The servers count who asked.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::place::wait;
use crate::{run, servers::find};

/// How repositories are reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Way {
    /// As folders of this machine.
    File,
    /// From `git daemon`.
    Git,
    /// From a web server, over TLS.
    Https,
}

/// Something that serves all repositories in a folder.
#[derive(Debug)]
pub(crate) struct Server {
    way: Way,
    root: PathBuf,
    port: u16,
    /// What it writes a line to for each question.
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Starts it, with what it writes in `folder`.
    ///
    /// # Errors
    ///
    /// It does not start, or is not there.
    pub(crate) fn start(way: Way, root: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        // Free a moment ago is free enough for a chore.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = folder.join("asked");
        let said = fs::File::create(&log)?;
        let git = run::output(Command::new("git").arg("--exec-path"))?;
        let git = Path::new(git.trim());
        let command = match way {
            Way::File => None,
            Way::Git => {
                let mut command = Command::new(git.join("git-daemon"));
                command.args(["--verbose", "--listen=127.0.0.1", "--reuseaddr", "--export-all"]);
                command.arg(format!("--port={port}")).arg(format!("--base-path={}", root.display()));
                command.arg("--max-connections=0").arg("--").arg(root).stderr(said);
                Some(command)
            }
            Way::Https => {
                certify(folder)?;
                let config = folder.join("lighttpd.conf");
                fs::write(&config, web(folder, root, &git.join("git-http-backend"), &log, port))?;
                let lighttpd = find("lighttpd").context("there is no lighttpd")?;
                let mut command = Command::new(lighttpd);
                command.arg("-D").arg("-f").arg(config);
                Some(command)
            }
        };
        let process =
            command.map(|mut it| it.stdin(Stdio::null()).stdout(Stdio::null()).spawn()).transpose()?;
        let mut server = Self { way, root: root.to_owned(), port, log, process };
        wait("the git server answers", || match &mut server.process {
            None => Ok(true),
            Some(process) => match process.try_wait()? {
                Some(status) => bail!("the git server ended with {status}"),
                None => Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()),
            },
        })?;
        Ok(server)
    }

    /// Returns where a repository is.
    pub(crate) fn url(&self, name: &str) -> String {
        match self.way {
            Way::File => format!("file://{}/{name}.git", self.root.display()),
            Way::Git => format!("git://127.0.0.1:{}/{name}.git", self.port),
            Way::Https => format!("https://127.0.0.1:{}/git/{name}.git", self.port),
        }
    }

    /// Returns what a project file needs in `[source]` to trust it.
    pub(crate) fn trust(&self) -> String {
        match (self.way, self.log.parent()) {
            (Way::Https, Some(folder)) => format!("ca_file = \"{}\"\n", folder.join("ca.pem").display()),
            _ => String::new(),
        }
    }

    /// Returns how often somebody asked which commits there are; nothing where nobody counts.
    pub(crate) fn asked(&self) -> Result<Option<usize>> {
        let word = match self.way {
            Way::File => return Ok(None),
            Way::Git => "Request upload-pack",
            Way::Https => "GET ",
        };
        let log = fs::read_to_string(&self.log)?;
        Ok(Some(log.lines().filter(|line| line.contains(word)).count()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may be gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Makes an authority, and a certificate for this machine that it vouches for.
fn certify(folder: &Path) -> Result<()> {
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n")?;
    let openssl = |words: &str| -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(command.status().context("there is no openssl")?.success(), "`openssl {words}` failed");
        Ok(())
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority"))?;
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=server"))?;
    let signed = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30";
    openssl(&format!("{signed} -extfile names -out server.pem"))
}

/// Returns lighttpd's configuration.
///
/// Source: <https://redmine.lighttpd.net/projects/lighttpd/wiki/Docs_Configuration>
fn web(folder: &Path, root: &Path, backend: &Path, log: &Path, port: u16) -> String {
    let (folder, root, backend, log) = (folder.display(), root.display(), backend.display(), log.display());
    format!(
        r#"server.modules = ("mod_alias", "mod_setenv", "mod_cgi", "mod_openssl", "mod_accesslog")
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{folder}"
server.upload-dirs = ("{folder}")
server.errorlog = "{folder}/errors"
server.max-keep-alive-requests = 1000000
server.max-keep-alive-idle = 600
accesslog.filename = "{log}"
ssl.engine = "enable"
ssl.pemfile = "{folder}/server.pem"
ssl.privkey = "{folder}/server.key"
alias.url += ("/git" => "{backend}")
$HTTP["url"] =~ "^/git" {{
  cgi.assign = ("" => "")
  setenv.add-environment = ("GIT_PROJECT_ROOT" => "{root}", "GIT_HTTP_EXPORT_ALL" => "1",
    "GIT_CONFIG_GLOBAL" => "/dev/null", "PATH" => "/usr/local/bin:/usr/bin:/bin")
}}
"#
    )
}
