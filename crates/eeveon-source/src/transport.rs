//! Gets bytes from and to a server: starts `ssh` and `git upload-pack`, opens TCP connections. The
//! only file of this crate that starts programs.
//!
//! A program is started from an argument vector, never through a shell, in a process group of its
//! own, with an environment made from nothing. It is killed, with all it started, when the
//! connection is dropped.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    net::TcpStream,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use gix::protocol::transport::{
    Protocol,
    client::{blocking_io::Transport, git::ConnectMode, git::blocking_io::Connection},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use crate::{Credentials, SourceError, url::bracketed, watch::Watch};

/// How often a wait looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// Where programs are found when the caller does not say.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A connection, and the program behind it if there is one. Fields are dropped in this order, so
/// that the program sees the end of its input before it is killed.
pub(crate) struct Line {
    pub(crate) transport: Box<dyn Transport>,
    _program: Option<Program>,
}

impl Line {
    /// Wraps a connection that needs no program.
    pub(crate) fn bare(transport: Box<dyn Transport>) -> Self {
        Self { transport, _program: None }
    }
}

/// A program in a process group of its own.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) else { return };
        // A program that is done has a moment to say so; its remote side ends in order then. It is
        // not reaped before its group is killed, so that the group's id is still its own.
        let exited = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end && matches!(waitid(WaitId::Pid(pid), exited), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        kill_process_group(pid, Signal::KILL).ok();
        self.0.wait().ok();
    }
}

/// Connects to a repository on this machine through `git upload-pack`.
pub(crate) fn local(path: &str, credentials: &Credentials, watch: &Arc<Watch>) -> Result<Line, SourceError> {
    let mut command = git(credentials);
    command.args(["upload-pack", "--", path]);
    // Nothing but the repository's own configuration applies; and that of the repository cannot
    // name programs for upload-pack.
    command.env("GIT_PROTOCOL", "version=2");
    start(command, "git", "git", path, watch)
}

/// Returns git, with no configuration but that of the repository it is run on.
pub(crate) fn git(credentials: &Credentials) -> Command {
    let mut command = clean("git", credentials);
    command.envs([
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ]);
    command
}

/// Connects through the system's `ssh`, which knows agents, jump hosts and hardware keys.
pub(crate) fn ssh(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    path: &str,
    credentials: &Credentials,
    watch: &Arc<Watch>,
) -> Result<Line, SourceError> {
    let mut command = clean("ssh", credentials);
    command.args(ssh_arguments(user, host, port, path, credentials, watch.limits.connect));
    command.env("GIT_PROTOCOL", "version=2");
    if let Some(agent) = &credentials.ssh_agent {
        command.env("SSH_AUTH_SOCK", agent);
    }
    if let Some(home) = &credentials.home {
        command.env("HOME", home);
    }
    start(command, "ssh", "openssh-client", path, watch)
}

fn ssh_arguments(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    path: &str,
    credentials: &Credentials,
    connect: Duration,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |text: &OsStr| {
        arguments.push("-o".into());
        arguments.push(text.to_owned());
    };
    for text in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "RequestTTY=no",
        "SendEnv=GIT_PROTOCOL",
    ] {
        option(OsStr::new(text));
    }
    option(OsStr::new(&format!("ConnectTimeout={}", connect.as_secs().max(1))));
    if let Some(known_hosts) = &credentials.known_hosts {
        option(&quoted("UserKnownHostsFile=", known_hosts.as_os_str()));
        option(OsStr::new("GlobalKnownHostsFile=/dev/null"));
    }
    if let Some(key) = &credentials.ssh_key {
        option(OsStr::new("IdentitiesOnly=yes"));
        arguments.push("-i".into());
        arguments.push(key.into());
    }
    if let Some(port) = port {
        arguments.push("-p".into());
        arguments.push(port.to_string().into());
    }
    if let Some(user) = user {
        arguments.push("-l".into());
        arguments.push(user.into());
    }
    arguments.push("--".into());
    arguments.push(host.into());
    arguments.push(format!("git-upload-pack {}", for_remote_shell(path)).into());
    arguments
}

/// Quotes a path for the list of files an ssh option takes.
fn quoted(option: &str, path: &OsStr) -> OsString {
    let mut out = OsString::from(option);
    out.push("\"");
    out.push(path);
    out.push("\"");
    out
}

/// Quotes `path` for the shell at the other end the way git does: in single quotes, with `'` and
/// `!` (csh) taken out of them.
///
/// Source: `sq_quote_buf`, <https://github.com/git/git/blob/master/quote.c>.
fn for_remote_shell(path: &str) -> String {
    let mut out = String::from("'");
    for c in path.chars() {
        match c {
            '\'' => out.push_str("'\\''"),
            '!' => out.push_str("'\\!'"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Returns a command with nothing of our environment in it.
fn clean(program: &str, credentials: &Credentials) -> Command {
    let path = credentials.path.as_deref().unwrap_or(OsStr::new(SYSTEM_PATH));
    // With a whole path the standard library starts it without a copy of this process's page tables,
    // which takes longer than everything else when the process is large.
    let mut command = match find(program, path) {
        Some(found) => Command::new(found),
        None => Command::new(program),
    };
    command.env_clear();
    command.env("PATH", path);
    command.env("LC_ALL", "C");
    command.current_dir("/");
    command
}

/// Returns the first program of this name in the folders of `path`, leaving out those that are no whole
/// path.
fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        let found = file.metadata();
        found.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let folders = path.as_bytes().split(|byte| *byte == b':').map(|it| Path::new(OsStr::from_bytes(it)));
    let folders = folders.filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(program)).find(is_program)
}

/// Starts a program that talks on its standard input and output.
fn start(
    command: Command,
    tool: &'static str,
    package: &'static str,
    path: &str,
    watch: &Arc<Watch>,
) -> Result<Line, SourceError> {
    let (program, stdin, reader) = spawn(command, tool, package, watch)?;
    let complaints =
        reader.stderr.as_ref().and_then(|stderr| stderr.as_fd().try_clone_to_owned().map(File::from).ok());
    let writer = PatientWriter::<ChildStdin> { inner: stdin, complaints, watch: Arc::clone(watch) };
    let mode = ConnectMode::Process;
    let (reader, writer) = buffered(reader, writer);
    let connection = Connection::new(reader, writer, Protocol::V2, path, None::<(String, _)>, mode, false);
    Ok(Line { transport: Box::new(connection), _program: Some(program) })
}

/// Runs a program without input to its end. Returns what it wrote, and whether it succeeded; what it
/// complained about is with `watch`.
pub(crate) fn run(
    command: Command,
    tool: &'static str,
    package: &'static str,
    watch: &Arc<Watch>,
) -> Result<(String, bool), SourceError> {
    let (program, stdin, mut reader) = spawn(command, tool, package, watch)?;
    drop(stdin);
    let mut written = String::new();
    reader.read_to_string(&mut written).map_err(|error| watch.explain(&error))?;
    // Reaped when it is dropped, as its group's id is its own only until then.
    let ended = i32::try_from(program.0.id()).ok().and_then(Pid::from_raw).and_then(|pid| {
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok().flatten()
    });
    Ok((written, ended.is_some_and(|status| status.exit_status() == Some(0))))
}

fn spawn(
    mut command: Command,
    tool: &'static str,
    package: &'static str,
    watch: &Arc<Watch>,
) -> Result<(Program, ChildStdin, PipeReader), SourceError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    tracing::debug!(tool, repo = %watch.repo, "starting");
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SourceError::ToolMissing { tool, package },
        _ => SourceError::Io { action: "start", path: tool.into(), source: error },
    })?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let program = Program(child);
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        let source = io::Error::other("no pipes");
        return Err(SourceError::Io { action: "talk to", path: tool.into(), source });
    };
    let reader = PipeReader { stdout, stderr: Some(stderr), watch: Arc::clone(watch) };
    Ok((program, stdin, reader))
}

/// Connects to a git daemon.
pub(crate) fn daemon(
    host: &str,
    port: Option<u16>,
    path: &str,
    watch: &Arc<Watch>,
) -> Result<Line, SourceError> {
    let unreachable =
        |error: io::Error| SourceError::Unreachable { repo: watch.repo.clone(), detail: error.to_string() };
    let connecting = tokio::net::TcpStream::connect((host, port.unwrap_or(9418)));
    let stream = tokio::runtime::Handle::current().block_on(async {
        tokio::select! {
            stream = tokio::time::timeout(watch.limits.connect, connecting) => match stream {
                Ok(stream) => stream.and_then(tokio::net::TcpStream::into_std).map_err(unreachable),
                Err(_) => Err(watch.connect_timed_out()),
            },
            () = watch.permit.cancel.cancelled() => Err(eeveon_core::action::Stopped.into()),
        }
    })?;
    stream.set_nonblocking(false).map_err(unreachable)?;
    stream.set_write_timeout(Some(watch.limits.idle)).map_err(unreachable)?;
    let reader = PatientReader { inner: stream.try_clone().map_err(unreachable)?, watch: Arc::clone(watch) };
    let writer = PatientWriter::<TcpStream> { inner: stream, complaints: None, watch: Arc::clone(watch) };
    let host = Some((bracketed(host), port));
    let (reader, writer) = buffered(reader, writer);
    let connection = Connection::new(reader, writer, Protocol::V2, path, host, ConnectMode::Daemon, false);
    Ok(Line::bare(Box::new(connection)))
}

/// Reads and writes in a few large pieces what the protocol takes apart into its smallest: a length, a
/// word, an end of line. What is written is flushed by whoever goes on to read the answer.
fn buffered<R: Read, W: Write>(reader: R, writer: W) -> (BufReader<R>, BufWriter<W>) {
    (BufReader::new(reader), BufWriter::new(writer))
}

/// Waits until one of `fds` is ready, the other side has been silent for too long, or the work
/// should stop. Returns which are ready.
fn wait<const N: usize>(
    fds: [(BorrowedFd<'_>, PollFlags); N],
    since: Instant,
    watch: &Watch,
) -> io::Result<[bool; N]> {
    let look = Timespec::try_from(LOOK).map_err(io::Error::other)?;
    loop {
        watch.check()?;
        let mut polled = fds.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags));
        match poll(&mut polled, Some(&look)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(polled.map(|fd| !fd.revents().is_empty())),
            Err(error) => return Err(error.into()),
        }
        if since.elapsed() > watch.limits.idle {
            return Err(watch.silent());
        }
    }
}

/// Reads what a program writes, and collects what it complains about.
struct PipeReader {
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    watch: Arc<Watch>,
}

/// Takes what is there to be read of a program's standard error.
fn listen<R: Read>(stderr: &mut Option<R>, watch: &Watch) {
    let mut buffer = [0; 4096];
    match stderr.as_mut().map(|stderr| stderr.read(&mut buffer)) {
        Some(Ok(count)) if count > 0 => watch.heard(buffer.get(..count).unwrap_or_default()),
        _ => *stderr = None,
    }
}

/// Waits a moment for the rest of it: when a program hangs up, the reason is on its way.
fn hear_out<R: Read + AsFd>(stderr: &mut Option<R>, watch: &Watch) -> io::Result<()> {
    let look = Timespec::try_from(LOOK).map_err(io::Error::other)?;
    let end = Instant::now() + Duration::from_millis(500);
    while let Some(open) = stderr
        && Instant::now() < end
    {
        let mut polled = [PollFd::new(open, PollFlags::IN)];
        if poll(&mut polled, Some(&look)).is_ok_and(|ready| ready > 0) {
            listen(stderr, watch);
        }
    }
    Ok(())
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let since = Instant::now();
        let answer = (PollFlags::IN, PollFlags::IN);
        loop {
            let (data, complaint) = match &self.stderr {
                Some(stderr) => {
                    let [data, complaint] = wait(
                        [(self.stdout.as_fd(), answer.0), (stderr.as_fd(), answer.1)],
                        since,
                        &self.watch,
                    )?;
                    (data, complaint)
                }
                None => {
                    let [data] = wait([(self.stdout.as_fd(), answer.0)], since, &self.watch)?;
                    (data, false)
                }
            };
            if complaint {
                listen(&mut self.stderr, &self.watch);
            }
            if !data {
                continue;
            }
            let count = self.stdout.read(out)?;
            if count == 0 {
                hear_out(&mut self.stderr, &self.watch)?;
            }
            self.watch.came(count)?;
            return Ok(count);
        }
    }
}

/// Reads from a socket.
struct PatientReader<R> {
    inner: R,
    watch: Arc<Watch>,
}

impl<R: Read + AsFd> Read for PatientReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        wait([(self.inner.as_fd(), PollFlags::IN)], Instant::now(), &self.watch)?;
        let count = self.inner.read(out)?;
        self.watch.came(count)?;
        Ok(count)
    }
}

/// Writes to a pipe or socket, never more at once than is sure not to block.
struct PatientWriter<W> {
    inner: W,
    /// Where the program at the other end complains: why it hung up is said there.
    complaints: Option<File>,
    watch: Arc<Watch>,
}

impl<W: Write + AsFd> Write for PatientWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait([(self.inner.as_fd(), PollFlags::OUT)], Instant::now(), &self.watch)?;
        // A pipe that polls writable takes this much (PIPE_BUF on Linux).
        let written = self.inner.write(bytes.get(..4096).unwrap_or(bytes));
        if written.is_err() && self.complaints.is_some() {
            hear_out(&mut self.complaints, &self.watch)?;
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(path: &str, credentials: &Credentials) -> Vec<String> {
        ssh_arguments(Some("git"), "host", Some(2222), path, credentials, Duration::from_secs(30))
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    #[test]
    fn programs_are_found_by_their_whole_path() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, bin) = (folder.path().join("plain"), folder.path().join("bin"));
        for it in [&plain, &bin] {
            std::fs::create_dir(it).unwrap();
            std::fs::write(it.join("tool"), "").unwrap();
        }
        std::fs::set_permissions(bin.join("tool"), PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("relative:{}:{}", plain.display(), bin.display());
        assert_eq!(find("tool", path.as_ref()), Some(bin.join("tool")));
        assert_eq!(find("other", path.as_ref()), None);
    }

    #[test]
    fn inj_argv_ssh_gets_a_vector_and_the_path_in_quotes() {
        let credentials = Credentials {
            ssh_key: Some("/k".into()),
            known_hosts: Some("/home/a b/known".into()),
            ..Credentials::default()
        };
        let arguments = arguments("a'; touch /tmp/x; '!b", &credentials);
        let dashes = arguments.iter().position(|argument| argument == "--").unwrap();
        assert_eq!(&arguments[dashes + 1..], ["host", "git-upload-pack 'a'\\''; touch /tmp/x; '\\'''\\!'b'"]);
        for expected in ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"] {
            assert!(arguments.iter().any(|argument| argument == expected), "{expected}");
        }
        assert!(arguments.contains(&"UserKnownHostsFile=\"/home/a b/known\"".to_owned()));
        assert!(arguments.windows(2).any(|pair| pair == ["-i", "/k"]));
        assert!(arguments.windows(2).any(|pair| pair == ["-p", "2222"]));
        assert!(arguments.windows(2).any(|pair| pair == ["-l", "git"]));
    }

    #[test]
    fn the_remote_shell_sees_one_word() {
        for path in ["/a b", "it's", "$(x) `y` \"z\" \\ !", "a'b'c", "~/x"] {
            let output =
                Command::new("sh").args(["-c", &format!("printf %s {}", for_remote_shell(path))]).output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), path);
        }
    }
}
