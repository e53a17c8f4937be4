//! A server's process: started on a free port, awaited, killed with all it started.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a server that ends at once is started again, each time on another port if that is free
/// to choose.
const ATTEMPTS: usize = 5;

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// Starts what `command` returns for a port, with its output going to `log`. The port is free
    /// when it is chosen; if something else takes it before the server does, another is tried.
    pub(super) fn start(log: &Path, mut command: impl FnMut(u16) -> io::Result<Command>) -> io::Result<Self> {
        Self::retry(|| {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            Self::start_on(port, log, &mut command(port)?)
        })
    }

    /// Ends the server and starts `command` on the same port.
    pub(super) fn replace(
        &mut self,
        log: &Path,
        mut command: impl FnMut(u16) -> io::Result<Command>,
    ) -> io::Result<()> {
        let port = self.port;
        self.end();
        *self = Self::retry(|| Self::start_on(port, log, &mut command(port)?))?;
        Ok(())
    }

    /// Returns the port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn retry(mut start: impl FnMut() -> io::Result<Self>) -> io::Result<Self> {
        let mut started = start();
        for _ in 1..ATTEMPTS {
            if started.is_ok() {
                break;
            }
            started = start();
        }
        started
    }

    fn start_on(port: u16, log: &Path, command: &mut Command) -> io::Result<Self> {
        let output = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", command.get_program().display())))?;
        let mut server = Self { child, port };
        server.wait_until_listening().map_err(|error| {
            let said = fs::read_to_string(log).unwrap_or_default();
            io::Error::other(format!("{}: {error}\n{said}", command.get_program().display()))
        })?;
        Ok(server)
    }

    fn wait_until_listening(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
            // Asked after connecting: whoever answered was not a server that is gone.
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once with {status}")));
            }
            match connected {
                // A port nobody listens on can be given to the very connection that asks for it.
                Ok(stream) if stream.local_addr()? != stream.peer_addr()? => return Ok(()),
                Ok(_) => {}
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn end(&mut self) {
        let group = Pid::from_child(&self.child);
        // It may be gone already; there is nobody to tell.
        let _gone = kill_process_group(group, Signal::KILL);
        let _status = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
