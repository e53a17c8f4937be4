//! Deliveries of webhooks, signed after Standard Webhooks (<https://www.standardwebhooks.com>), and
//! what is answered.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use standardwebhooks::Webhook;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says that the branch has something new.
const PUSH: &str = r#"{"type": "push", "data": {"ref": "refs/heads/main"}}"#;

/// What was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// Everything after the headers.
    pub(crate) body: String,
}

/// One project's hook.
#[derive(Clone)]
pub(crate) struct Hook {
    project: String,
    key: String,
}

impl Hook {
    /// Returns the hook of `project` with its secret.
    pub(crate) fn new(project: &str, secret: &str) -> Self {
        Self { project: project.to_owned(), key: secret.to_owned() }
    }

    /// Returns a whole request that says under `id` that the branch has something new. With another id
    /// in `signed` the signature is wrong.
    ///
    /// # Errors
    ///
    /// The secret is none.
    pub(crate) fn push(&self, id: &str, signed: &str) -> Result<String> {
        let now = jiff::Timestamp::now().as_second();
        let signature = Webhook::new(&self.key)?.sign(signed, now, PUSH.as_bytes())?;
        Ok(format!(
            "POST /hooks/{}/generic HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             webhook-id: {id}\r\nwebhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{PUSH}",
            self.project,
            PUSH.len()
        ))
    }

    /// Delivers that.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub(crate) fn deliver(&self, to: SocketAddr, id: &str) -> Result<Answer> {
        ask(to, &self.push(id, id)?)
    }
}

/// Makes a request on a connection of its own.
///
/// # Errors
///
/// There is no answer.
pub(crate) fn ask(to: SocketAddr, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    read(&String::from_utf8_lossy(&answer)).context("it was no answer")
}

/// Asks with GET.
///
/// # Errors
///
/// There is no answer.
pub(crate) fn get(to: SocketAddr, path: &str) -> Result<Answer> {
    ask(to, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// Takes an answer apart.
pub(crate) fn read(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = read("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(answer, Answer { status: 202, body: "{}".to_owned() });
        assert_eq!(read("HTTP/1.1 2"), None);
    }
}
