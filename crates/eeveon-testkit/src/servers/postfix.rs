//! A mail server: postfix with STARTTLS and implicit TLS, logins from a database of its own, and
//! mailboxes in a folder.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    certificate::{self, Validity},
    find, not_skipped, output,
    process::Process,
};

const USER: &str = "deployer";
const PASSWORD: &str = "loopback-Pa55word";

/// The domain it takes mail for.
const DOMAIN: &str = "example.org";

/// Who has a mailbox.
const MAILBOXES: [&str; 2] = ["ops", "dev"];

/// How long a message may take from the queue to its mailbox.
const PATIENCE: Duration = Duration::from_secs(20);

/// The processes of postfix that take mail and put it into mailboxes. None is in a chroot.
///
/// Source: <https://www.postfix.org/master.5.html>
const SERVICES: &str = "\
cleanup  unix       n - n - 0     cleanup
qmgr     unix       n - n 300 1   qmgr
rewrite  unix       - - n - -     trivial-rewrite
bounce   unix       - - n - 0     bounce
defer    unix       - - n - 0     bounce
trace    unix       - - n - 0     bounce
virtual  unix       - n n - -     virtual
error    unix       - - n - -     error
retry    unix       - - n - -     error
anvil    unix       - - n - 1     anvil
proxymap unix       - - n - -     proxymap
tlsmgr   unix       - - n 1000? 1 tlsmgr
postlog  unix-dgram n - n - 1     postlogd
";

/// A postfix that takes mail for `ops@example.org` and `dev@example.org` from whoever logs in.
#[derive(Debug)]
pub struct Postfix {
    process: Process,
    implicit: u16,
    state: TempDir,
}

impl Postfix {
    /// Tells whether one can be started here, or why not.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub fn available() -> Result<(), String> {
        not_skipped("postfix")?;
        if !rustix::process::geteuid().is_root() {
            return Err("postfix needs root".to_owned());
        }
        find("saslpasswd2")?;
        find("postfix").map(|_| ())
    }

    /// Starts one with a certificate for `127.0.0.1` and `localhost`.
    ///
    /// # Errors
    ///
    /// It does not start; the message has what it said.
    pub fn start(validity: Validity) -> io::Result<Self> {
        Self::offering(validity, "PLAIN LOGIN")
    }

    /// The same, with these ways of logging in.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn offering(validity: Validity, mechanisms: &str) -> io::Result<Self> {
        let state = TempDir::new()?;
        prepare(state.path(), validity, mechanisms)?;
        let mut implicit = 0;
        let process = Process::start(&state.path().join("log"), |port| {
            implicit = free_port_beside(port)?;
            command(state.path(), port, implicit)
        })?;
        Ok(Self { process, implicit, state })
    }

    /// Returns the port that wants STARTTLS.
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// Returns the port where TLS comes first.
    pub fn implicit_port(&self) -> u16 {
        self.implicit
    }

    /// Returns the certificate, PEM, that vouches for the server.
    pub fn ca_file(&self) -> PathBuf {
        self.state.path().join("ca.pem")
    }

    /// Returns whom it takes mail from.
    pub fn user(&self) -> String {
        format!("{USER}@{DOMAIN}")
    }

    /// Returns the password of [`Self::user`].
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Waits until the mailbox of `name` holds `count` messages and returns them, as they lie
    /// there, in no order.
    ///
    /// # Errors
    ///
    /// They do not come; the message has what postfix wrote into its log.
    pub fn mailbox(&self, name: &str, count: usize) -> io::Result<Vec<Vec<u8>>> {
        let folder = self.state.path().join("mail").join(name).join("new");
        let end = Instant::now() + PATIENCE;
        loop {
            let files: Vec<_> =
                fs::read_dir(&folder).map(|files| files.flatten().collect()).unwrap_or_default();
            if files.len() >= count {
                return files.into_iter().map(|file| fs::read(file.path())).collect();
            }
            if Instant::now() >= end {
                let log = fs::read_to_string(self.state.path().join("mail.log")).unwrap_or_default();
                let came = files.len();
                return Err(io::Error::other(format!("{came} of {count} messages came for {name}\n{log}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Returns a free port other than `taken`.
fn free_port_beside(taken: u16) -> io::Result<u16> {
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if port != taken {
            return Ok(port);
        }
    }
}

/// Makes the folders, the certificate and the database of logins.
fn prepare(state: &Path, validity: Validity, mechanisms: &str) -> io::Result<()> {
    // Its processes run as other users and have to reach what is theirs.
    fs::set_permissions(state, fs::Permissions::from_mode(0o755))?;
    for folder in ["conf", "conf/sasl", "queue", "data", "mail"] {
        fs::create_dir(state.join(folder))?;
    }
    certificate::write(state, validity)?;
    let logins = state.join("logins");
    // Debian's postfix looks for this file beside main.cf, others where main.cf says.
    fs::write(
        state.join("conf/sasl/smtpd.conf"),
        format!(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: {mechanisms}\nsasldb_path: {}\n",
            logins.display()
        ),
    )?;
    set_password(&logins)?;
    let chown = |owner: &str, path: &str| output(Command::new("chown").arg(owner).arg(state.join(path)));
    chown("postfix", "logins")?;
    chown("postfix", "data")?;
    chown("nobody", "mail").map(|_| ())
}

/// Enters the one user into the database `logins`.
fn set_password(logins: &Path) -> io::Result<()> {
    let saslpasswd = find("saslpasswd2").map_err(io::Error::other)?;
    let mut child = Command::new(saslpasswd)
        .args(["-p", "-c", "-u", DOMAIN, "-f"])
        .arg(logins)
        .arg(USER)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        io::Write::write_all(&mut input, PASSWORD.as_bytes())?;
    }
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("saslpasswd2 failed")),
    }
}

/// Writes the configuration and returns the command line.
///
/// Source: <https://www.postfix.org/postconf.5.html>
fn command(state: &Path, port: u16, implicit: u16) -> io::Result<Command> {
    let mailboxes: Vec<String> = MAILBOXES.iter().map(|name| format!("{name}@{DOMAIN}={name}/")).collect();
    let main = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {state}/queue\n\
         data_directory = {state}/data\n\
         maillog_file = {state}/mail.log\n\
         maillog_file_prefixes = {state}\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         myhostname = mail.{DOMAIN}\n\
         mydestination =\n\
         mynetworks =\n\
         alias_maps =\n\
         alias_database =\n\
         smtpd_tls_cert_file = {state}/server.pem\n\
         smtpd_tls_key_file = {state}/server.key\n\
         smtpd_tls_security_level = encrypt\n\
         smtpd_tls_auth_only = yes\n\
         smtpd_sasl_auth_enable = yes\n\
         smtpd_sasl_type = cyrus\n\
         smtpd_sasl_path = smtpd\n\
         cyrus_sasl_config_path = {state}/conf/sasl\n\
         smtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
         smtpd_error_sleep_time = 0\n\
         virtual_mailbox_domains = {DOMAIN}\n\
         virtual_mailbox_maps = inline:{{ {mailboxes} }}\n\
         virtual_mailbox_base = {state}/mail\n\
         virtual_uid_maps = static:65534\n\
         virtual_gid_maps = static:65534\n\
         virtual_minimum_uid = 100\n",
        state = state.display(),
        mailboxes = mailboxes.join(", "),
    );
    let services = format!(
        "127.0.0.1:{port} inet n - n - - smtpd\n\
         127.0.0.1:{implicit} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n{SERVICES}"
    );
    let conf = state.join("conf");
    fs::write(conf.join("main.cf"), main)?;
    fs::write(conf.join("master.cf"), services)?;
    let postfix = find("postfix").map_err(io::Error::other)?;
    // Makes the folders of the queue, with the owners they need.
    output(Command::new(postfix).arg("-c").arg(&conf).arg("check"))?;
    let postconf = find("postconf").map_err(io::Error::other)?;
    let daemons = output(Command::new(postconf).args(["-d", "-h", "daemon_directory"]))?;
    let mut command = Command::new(Path::new(daemons.trim()).join("master"));
    // `-d`, as without it the process leaves our group and would outlive the test.
    command.arg("-d").arg("-c").arg(&conf).env("MAIL_CONFIG", &conf);
    Ok(command)
}
