//! Servers that talk without end: greeting, listing references, or beside a pack that never comes.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
};

use crate::common::*;
use eeveon_core::CommitId;
use eeveon_source::{Mirror, RepoUrl, SourceConfig, Want};
use eeveon_testkit::git::Repo;

/// More than anything but a pack may have.
const MOST: usize = 48 << 20;

/// Where a server begins to repeat itself.
#[derive(Clone, Copy, Eq, PartialEq)]
enum At {
    Greeting,
    References,
    Answer(&'static str),
}

fn line(content: &str) -> Vec<u8> {
    format!("{:04x}{content}", content.len() + 4).into_bytes()
}

/// Reads a request to its end, and tells whether it asks for references.
fn request(stream: &mut TcpStream) -> io::Result<bool> {
    let mut references = false;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
        let mut content = vec![0; length.saturating_sub(4)];
        stream.read_exact(&mut content)?;
        references |= content.starts_with(b"command=ls-refs");
        if length == 0 {
            return Ok(references);
        }
    }
}

fn converse(stream: &mut TcpStream, at: At, again: &str, said: &mut usize) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    stream.read_exact(&mut vec![0; length - 4])?;
    stream.write_all(&line("version 2\n"))?;
    if at != At::Greeting {
        stream.write_all(&[line("ls-refs\n"), line("fetch=shallow\n"), b"0000".to_vec()].concat())?;
        while request(stream)? && at != At::References {
            let reference = line(&format!("{} refs/heads/main\n", "1".repeat(40)));
            stream.write_all(&[reference, b"0000".to_vec()].concat())?;
        }
    }
    if let At::Answer(begin) = at {
        stream.write_all(&line(begin))?;
    }
    let again = line(again).repeat(64);
    while *said < 4 * MOST {
        stream.write_all(&again)?;
        *said += again.len();
    }
    Ok(())
}

/// Starts a server that says `again` for ever. It tells how much it could say to each client.
fn serve(at: At, again: String) -> (String, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut said = 0;
            // The client hangs up: that is the point.
            let _hung_up = converse(&mut stream, at, &again, &mut said);
            if sender.send(said).is_err() {
                return;
            }
        }
    });
    (format!("git://127.0.0.1:{port}/x"), receiver)
}

fn open(repo: &Repo, url: &str) -> Mirror {
    Mirror::open(&mirror_path(repo), SourceConfig::new(RepoUrl::parse(url).unwrap())).unwrap()
}

#[tokio::test]
async fn who_greets_or_lists_without_end_is_left() {
    for (at, again) in [
        (At::Greeting, format!("{}\n", "x".repeat(900))),
        (At::References, format!("{} refs/heads/{}\n", "1".repeat(40), "r".repeat(900))),
    ] {
        let (url, said) = serve(at, again);
        let repo = Repo::new();
        let error = open(&repo, &url).resolve(&Want::Branch("main".to_owned()), &permit()).await;
        assert_eq!(code(error), "source/protocol");
        assert!(said.recv().unwrap() < MOST);
    }
}

#[tokio::test]
async fn who_talks_beside_the_pack_without_end_is_left() {
    for (begin, again) in [
        ("packfile\n", format!("\u{2}{}\n", "n".repeat(900))),
        ("shallow-info\n", format!("shallow {}\n", "1".repeat(40))),
        ("acknowledgments\n", format!("ACK {}\n", "1".repeat(40))),
    ] {
        let (url, said) = serve(At::Answer(begin), again);
        let repo = Repo::new();
        let wanted = CommitId::new("1".repeat(40)).unwrap();
        let error = open(&repo, &url).fetch(&wanted, None, &permit()).await;
        assert_eq!(code(error), "source/protocol", "{begin}");
        assert!(said.recv().unwrap() < MOST, "{begin}");
    }
}
