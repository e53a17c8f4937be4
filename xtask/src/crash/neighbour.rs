//! A server beside the world: it says whether what is live is well, and hears what the program tells.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::told::Heard;

/// A release that has a file of this name is not well.
pub(crate) const UNWELL: &str = "unwell";

/// Longer than whoever asks takes to say what it wants; who was killed meanwhile never does.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server. It takes one request after the other: when one was answered, all earlier ones were
/// heard.
#[derive(Debug)]
pub(crate) struct Neighbour {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    leaves: Arc<AtomicBool>,
}

impl Neighbour {
    /// Starts it. What is live is what `current` leads to.
    ///
    /// # Errors
    ///
    /// Nothing can be listened to.
    pub(crate) fn start(current: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let neighbour =
            Self { address: listener.local_addr()?, heard: Arc::default(), leaves: Arc::default() };
        let (heard, leaves) = (Arc::clone(&neighbour.heard), Arc::clone(&neighbour.leaves));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if leaves.load(Ordering::SeqCst) {
                    return;
                }
                // Who was killed in the middle of a sentence said nothing.
                let _unfinished = answer(stream, &current, &heard);
            }
        });
        Ok(neighbour)
    }

    /// Returns the URL that tells whether what is live is well.
    pub(crate) fn health_url(&self) -> String {
        format!("http://{}/health", self.address)
    }

    /// Returns the URL to tell of deployments.
    pub(crate) fn hook_url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Returns what it was told, in order.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what it was told.
    pub(crate) fn forget(&self) {
        self.recall(Vec::new());
    }

    /// Has been told this and nothing else.
    pub(crate) fn recall(&self, heard: Vec<Heard>) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::SeqCst);
        // It looks when somebody knocks.
        let _gone_already = TcpStream::connect(self.address);
    }
}

fn answer(stream: TcpStream, current: &Path, heard: &Mutex<Vec<Heard>>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        anyhow::ensure!(reader.read_line(&mut line)? > 0, "it ends early");
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let is_well = match head.first().is_some_and(|line| line.starts_with("post")) {
        true => {
            let message = serde_json::from_slice(&body).context("a message that is none")?;
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            true
        }
        false => current.exists() && !current.join(UNWELL).exists(),
    };
    let status = if is_well { "204 No Content" } else { "503 Service Unavailable" };
    let mut stream = &stream;
    Ok(stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn ask(neighbour: &Neighbour, request: &str) -> String {
        let mut stream = TcpStream::connect(neighbour.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_says_whether_what_is_live_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("current");
        let neighbour = Neighbour::start(current.clone()).unwrap();
        let look = || ask(&neighbour, "GET /health HTTP/1.1\r\n\r\n").contains(" 204 ");
        assert!(!look(), "nothing is live");
        fs::create_dir(&current).unwrap();
        assert!(look());
        fs::write(current.join(UNWELL), "").unwrap();
        assert!(!look());
    }

    #[test]
    fn it_hears_whole_messages_only() {
        let neighbour = Neighbour::start(PathBuf::new()).unwrap();
        let body = r#"{"id": "1-2", "type": "deployment.succeeded", "deployment": 1, "more": 0}"#;
        let request = format!("POST /hook HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let cut = request.get(..request.len() - 5).unwrap();
        assert_eq!(ask(&neighbour, cut), "");
        assert!(neighbour.heard().is_empty());
        assert!(ask(&neighbour, &request).contains(" 204 "));
        let heard = neighbour.heard();
        assert_eq!(
            (heard.len(), heard[0].deployment, heard[0].kind.as_str()),
            (1, 1, "deployment.succeeded")
        );
        neighbour.forget();
        assert!(neighbour.heard().is_empty());
    }
}
