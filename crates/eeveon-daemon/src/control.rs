//! The local socket: commands on the same machine hand their requests to a working daemon and follow
//! what becomes of them.
//!
//! A connection is one request: a line of JSON from the command, then lines of JSON from the daemon.
//! Only processes of the daemon's own user, and of root, are answered; the system says who they are
//! (`SO_PEERCRED`, unix(7)).

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eeveon_core::ProjectName;
use rustix::{io::Errno, net::RecvFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{Answer, Ask, Cancel, Cancelled, DaemonError, Handle, News, Overview, Refusal, RequestId, Taken};

/// The socket's name in its folder.
pub const SOCKET: &str = "daemon.sock";

/// The version of what is said over it.
const VERSION: u32 = 2;

/// Bytes a line of a command may have.
const LINE: u64 = 64 << 10;

/// Bytes a line of the daemon may have: all that waits, and why, of thousands of projects.
const ANSWER: u64 = 16 << 20;

/// Commands that are answered at the same time.
const CONNECTIONS: usize = 64;

/// How long the other side may take to say or to hear one line, unless there is nothing to say.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what happened last may take to be told when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    request: Request,
}

/// Reads the version, whatever else is there.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Ask(Ask),
    Cancel(Cancel),
    Lift(ProjectName),
    Reload,
    Overview,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Taken { request: RequestId, answer: Answer },
    News(News),
    Cancelled(Cancelled),
    Lifted(usize),
    Reloads,
    Overview(Overview),
    Refused(Refusal),
    Failed { why: String },
    OtherVersion { version: u32 },
}

impl Reply {
    /// Returns what is said of an error; nothing where the daemon is no more, and the line is cut.
    fn error(error: DaemonError) -> Option<Self> {
        match error {
            DaemonError::Gone => None,
            DaemonError::Refused(refusal) => Some(Self::Refused(refusal)),
            DaemonError::Store { why } => Some(Self::Failed { why }),
            other => Some(Self::Failed { why: other.to_string() }),
        }
    }

    /// Returns the error this reply stands for; any other reply was not what was asked.
    fn into_error(self) -> DaemonError {
        match self {
            Self::Refused(refusal) => DaemonError::Refused(refusal),
            Self::Failed { why } => DaemonError::Store { why },
            Self::OtherVersion { version } => {
                DaemonError::Newer { what: "daemon's socket", found: version, known: VERSION }
            }
            _ => DaemonError::Gone,
        }
    }
}

/// Returns a path to the socket that is short enough for the system however deep `folder` lies (a
/// socket's address has 108 bytes), as long as the returned file is open.
fn address(folder: &Path) -> io::Result<(fs::File, PathBuf)> {
    let open = fs::File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()));
    Ok((open, path))
}

/// Listens for commands.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
}

impl Control {
    /// Listens in `folder`. What a daemon left there that died is replaced: whoever calls this is the only
    /// daemon of the folder.
    ///
    /// # Errors
    ///
    /// `daemon/socket`: it cannot be made, or something else has its name, or it is somebody else's.
    pub fn bind(folder: &Path) -> Result<Self, DaemonError> {
        let shown = folder.join(SOCKET);
        let refuse = |why: &str| DaemonError::Socket { path: shown.clone(), why: why.to_owned() };
        let unable = |error: io::Error| refuse(&error.to_string());
        let (_open, path) = address(folder).map_err(unable)?;
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(refuse("something else has its name"));
            }
            Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
                return Err(refuse("it belongs to another user"));
            }
            Ok(_) => fs::remove_file(&path).map_err(unable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unable(error)),
        }
        let listener = UnixListener::bind(&path).map_err(unable)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(unable)?;
        Ok(Self { listener })
    }

    /// Answers commands until `stop` fires.
    pub async fn serve(self, handle: Handle, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Who finds no place is hung up on, and goes on without the daemon.
                        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                        let handle = handle.clone();
                        connections.spawn(async move {
                            if let Err(error) = answer(stream, handle).await {
                                tracing::debug!(%error, "a command was not answered to the end");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no command can be heard");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(self.listener);
        let told = async { while connections.join_next().await.is_some() {} };
        let _too_late = tokio::time::timeout(FAREWELL, told).await;
        connections.shutdown().await;
    }
}

/// Tells whether the process at the other end may speak to the daemon.
fn may_speak(stream: &UnixStream) -> io::Result<bool> {
    let peer = stream.peer_cred()?.uid();
    Ok(peer == rustix::process::geteuid().as_raw() || peer == 0)
}

/// Tells whether nobody is at the other end any more. The system knows that before the runtime does.
fn has_left(stream: &UnixStream) -> bool {
    match rustix::net::recv(stream, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, bytes)) => bytes == 0,
        Err(error) => error != Errno::AGAIN,
    }
}

async fn answer(stream: UnixStream, handle: Handle) -> io::Result<()> {
    if !may_speak(&stream)? {
        tracing::warn!("a process of another user spoke to the daemon; it was not heard");
        return Ok(());
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Some(line) = tokio::time::timeout(PATIENCE, read_line(&mut reader, LINE)).await?? else {
        return Ok(());
    };
    let Version { version } = serde_json::from_slice(&line)?;
    if version != VERSION {
        return say(&mut writer, Some(Reply::OtherVersion { version: VERSION })).await;
    }
    let Envelope { request, .. } = serde_json::from_slice(&line)?;
    // Who did not wait for the answer has done it without the daemon.
    if has_left(reader.get_ref().as_ref()) {
        return Ok(());
    }
    let reply = match request {
        Request::Ask(ask) => return follow(ask, &handle, &mut reader, &mut writer).await,
        Request::Cancel(cancel) => handle.cancel(cancel).await.map(Reply::Cancelled),
        Request::Lift(project) => handle.lift(project).await.map(Reply::Lifted),
        Request::Reload => handle.reload().await.map(|()| Reply::Reloads),
        Request::Overview => handle.overview().await.map(Reply::Overview),
    };
    say(&mut writer, reply.map_or_else(Reply::error, Some)).await
}

async fn follow(
    ask: Ask,
    handle: &Handle,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let asked = tokio::select! {
        asked = handle.ask_and_follow(ask) => asked,
        // Who gives up is not asked for any more, as long as nothing was promised.
        _ = reader.fill_buf() => return Ok(()),
    };
    let mut news = match asked {
        Ok((Taken::Answered { request, answer }, news)) => {
            say(writer, Some(Reply::Taken { request, answer })).await?;
            news
        }
        // Only deliveries are repeated.
        Ok((Taken::Repeated, _)) => return Ok(()),
        Err(error) => return say(writer, Reply::error(error)).await,
    };
    loop {
        tokio::select! {
            next = news.recv() => match next {
                Some(news) => say(writer, Some(Reply::News(news))).await?,
                None => return Ok(()),
            },
            // Whoever asked went away. What was asked for is done all the same.
            _ = reader.fill_buf() => return Ok(()),
        }
    }
}

/// Reads a line of at most `longest` bytes. Returns nothing when there is none.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), longest: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(longest).read_until(b'\n', &mut line).await?;
    match line.last() {
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 >= longest => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"))
        }
        _ => Ok(None),
    }
}

async fn say(writer: &mut OwnedWriteHalf, what: Option<impl Serialize>) -> io::Result<()> {
    let Some(what) = what else { return Ok(()) };
    let mut line = serde_json::to_vec(&what)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, writer.write_all(&line)).await?
}

/// A connection to a working daemon.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Finds the daemon that works in `folder`. Returns nothing when there is none.
    pub async fn connect(folder: &Path) -> Option<Self> {
        let (_open, path) = address(folder).ok()?;
        let stream = UnixStream::connect(&path).await.ok()?;
        let (reader, writer) = stream.into_split();
        Some(Self { reader: BufReader::new(reader), writer })
    }

    /// Asks for a deployment. Returns the request's number, what becomes of it, and what follows it.
    ///
    /// # Errors
    ///
    /// `daemon/refused`; `daemon/ended` when the daemon does not answer in 10 s, and does not do it
    /// later either; `daemon/store`; `daemon/newer-format` when it speaks another language.
    pub async fn ask(mut self, ask: Ask) -> Result<(RequestId, Answer, Following), DaemonError> {
        match self.request(Request::Ask(ask)).await? {
            Reply::Taken { request, answer } => Ok((request, answer, Following(self))),
            other => Err(other.into_error()),
        }
    }

    /// Does not want a request any more.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn cancel(mut self, cancel: Cancel) -> Result<Cancelled, DaemonError> {
        match self.request(Request::Cancel(cancel)).await? {
            Reply::Cancelled(cancelled) => Ok(cancelled),
            other => Err(other.into_error()),
        }
    }

    /// Lets a project's requests that were set aside be asked for again. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn lift(mut self, project: ProjectName) -> Result<usize, DaemonError> {
        match self.request(Request::Lift(project)).await? {
            Reply::Lifted(lifted) => Ok(lifted),
            other => Err(other.into_error()),
        }
    }

    /// Lets the daemon look at once for what changed in its projects.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn reload(mut self) -> Result<(), DaemonError> {
        match self.request(Request::Reload).await? {
            Reply::Reloads => Ok(()),
            other => Err(other.into_error()),
        }
    }

    /// Tells how things stand.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn overview(mut self) -> Result<Overview, DaemonError> {
        match self.request(Request::Overview).await? {
            Reply::Overview(overview) => Ok(overview),
            other => Err(other.into_error()),
        }
    }

    async fn request(&mut self, request: Request) -> Result<Reply, DaemonError> {
        say(&mut self.writer, Some(Envelope { version: VERSION, request }))
            .await
            .map_err(|_| DaemonError::Gone)?;
        let reply = tokio::time::timeout(PATIENCE, self.hear()).await.map_err(|_| DaemonError::Gone)?;
        reply?.ok_or(DaemonError::Gone)
    }

    async fn hear<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DaemonError> {
        let line = read_line(&mut self.reader, ANSWER).await.map_err(|_| DaemonError::Gone)?;
        line.map(|line| serde_json::from_slice(&line).map_err(|_| DaemonError::Gone)).transpose()
    }
}

/// Follows a request.
#[derive(Debug)]
pub struct Following(Client);

impl Following {
    /// Returns the next news.
    ///
    /// # Errors
    ///
    /// `daemon/ended`: the daemon is no more. What was asked for waits for the next one.
    pub async fn next(&mut self) -> Result<News, DaemonError> {
        match self.0.hear().await? {
            Some(Reply::News(news)) => Ok(news),
            Some(other) => Err(other.into_error()),
            None => Err(DaemonError::Gone),
        }
    }
}
