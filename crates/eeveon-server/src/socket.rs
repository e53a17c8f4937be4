//! The socket: made with the right permissions, and the two kinds made one.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream},
};

use crate::{ListenAddress, ServerError, answer};

/// How many connections the system may keep for us; it cuts this to its own limit.
const BACKLOG: u32 = 4096;

/// Something that bytes come from and go to.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was accepted.
pub(crate) enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) async fn bind(address: &ListenAddress) -> Result<Self, ServerError> {
        match address {
            ListenAddress::Tcp(address) => {
                bind_tcp(*address).map(Self::Tcp).map_err(|source| bind_error(address.to_string(), source))
            }
            ListenAddress::Unix { path, mode } => bind_unix(path, *mode).await.map(Self::Unix),
        }
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are one small write each: nothing is gained by holding them back. It fails only when
                // the other side has left again, and the first read finds that.
                let _left = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream, peer.ip()))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

impl Accepted {
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, peer) => Some(*peer),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn into_io(self) -> Box<dyn Io> {
        match self {
            Self::Tcp(stream, _) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        }
    }

    /// Says that there is no room, without waiting for anything, and closes.
    pub(crate) fn turn_away(self) {
        // Nothing depends on whether they hear it.
        let _said = match self {
            Self::Tcp(stream, _) => stream.into_std().and_then(turn_away),
            Self::Unix(stream) => stream.into_std().and_then(turn_away),
        };
    }
}

/// The stream does not block.
fn turn_away(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(answer::NO_ROOM)?;
    // Closing with unread bytes would take the answer back.
    let _read = stream.read(&mut [0; 4096])?;
    Ok(())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, ServerError> {
    let shown = path.display().to_string();
    if mode & !0o660 != 0 {
        let why = "its mode may let only its owner and group read and write";
        return Err(ServerError::SocketFile { path: shown, why });
    }
    clear(path, &shown).await?;
    let bind = || {
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // Nobody can connect before `listen`, so at no moment with other permissions.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| bind_error(shown, source))
}

/// Removes the socket of a process that is gone, and nothing else.
async fn clear(path: &Path, shown: &str) -> Result<(), ServerError> {
    let failed = |source| bind_error(shown.to_owned(), source);
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_socket() {
        return Err(ServerError::SocketFile { path: shown.to_owned(), why: "something else has this path" });
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        // No room in its queue, then: somebody is there.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(failed(error)),
        _ => Err(ServerError::InUse { address: shown.to_owned() }),
    }
}

fn bind_error(address: String, source: io::Error) -> ServerError {
    match source.kind() {
        ErrorKind::AddrInUse => ServerError::InUse { address },
        _ => ServerError::Bind { address, source },
    }
}
