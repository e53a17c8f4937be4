//! A git server that says whatever it is told to, on loopback.
//!
//! Source: <https://git-scm.com/docs/protocol-v2>, <https://git-scm.com/docs/gitprotocol-pack>.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// Says something to a client.
pub(crate) type Say = Arc<dyn Fn(&mut TcpStream) -> io::Result<()> + Send + Sync>;

/// What the server says, and when.
#[derive(Clone)]
pub(crate) struct Script {
    /// To whoever connects.
    pub(crate) greeting: Say,
    /// To the question which references there are.
    pub(crate) refs: Say,
    /// To the request for objects.
    pub(crate) pack: Say,
}

/// Returns something that is always said the same way.
pub(crate) fn say(bytes: impl Into<Vec<u8>>) -> Say {
    let bytes = bytes.into();
    Arc::new(move |stream| stream.write_all(&bytes))
}

/// Says something again and again, up to so many bytes, or until the client has heard enough.
pub(crate) fn say_endlessly(first: impl Into<Vec<u8>>, again: impl Into<Vec<u8>>, limit: usize) -> Say {
    let (first, again) = (first.into(), again.into().repeat(64));
    Arc::new(move |stream| {
        stream.write_all(&first)?;
        (0..limit / again.len().max(1)).try_for_each(|_| stream.write_all(&again))
    })
}

/// Wraps one line as the protocol has it.
pub(crate) fn line(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [format!("{:04x}", content.len() + 4).as_bytes(), content].concat()
}

/// Several lines, and the end of an answer.
pub(crate) fn lines<C: AsRef<[u8]>>(contents: &[C]) -> Vec<u8> {
    let mut out: Vec<u8> = contents.iter().flat_map(line).collect();
    out.extend_from_slice(b"0000");
    out
}

/// The answer that brings a pack, whatever that is.
pub(crate) fn packfile(pack: &[u8]) -> Vec<u8> {
    let mut out = line("packfile\n");
    for piece in pack.chunks(65_000) {
        out.extend(line([&[1], piece].concat()));
    }
    out.extend_from_slice(b"0000");
    out
}

/// The greeting of a server that means well.
pub(crate) fn greeting() -> Vec<u8> {
    lines(&["version 2\n", "agent=git/2\n", "ls-refs=unborn\n", "fetch=shallow\n", "object-format=sha1\n"])
}

/// Starts a server. It goes on until this process ends. Returns the address of its repository.
///
/// # Errors
///
/// No port can be had.
pub(crate) fn start(script: Script) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            // A client that hangs up has heard enough.
            thread::spawn(move || serve(stream, &script).is_ok());
        }
    });
    Ok(format!("git://127.0.0.1:{port}/hostile.git"))
}

fn serve(mut stream: TcpStream, script: &Script) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    // Which repository is asked for does not matter.
    read_line(&mut stream)?;
    (script.greeting)(&mut stream)?;
    loop {
        let mut command = Vec::new();
        while let Some(line) = read_line(&mut stream)? {
            if line.starts_with(b"command=") {
                command = line;
            }
        }
        match command.starts_with(b"command=ls-refs") {
            true => (script.refs)(&mut stream)?,
            false => (script.pack)(&mut stream)?,
        }
    }
}

/// Reads one line; `None` at the end of a request.
fn read_line(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = std::str::from_utf8(&length).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        match length.ok_or(io::ErrorKind::InvalidData)? {
            0 => return Ok(None),
            // A delimiter between parts of a request.
            1..=3 => {}
            length => {
                let mut line = vec![0; length.saturating_sub(4)];
                stream.read_exact(&mut line)?;
                return Ok(Some(line));
            }
        }
    }
}
