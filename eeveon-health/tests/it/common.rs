//! Servers that say what they are told to, and checks of them.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{
    DeploymentId, Fence, Permit, Secret, SecretError, SecretRef, Secrets, StepError, StepKey, Untrusted,
};
use eeveon_health::{
    CheckSpec, Checks, CommandEnd, CommandJob, Commands, Ending, HealthCheck, HealthError, HttpSpec, Origin,
    Pace, ProbeError, Reach, Reading, What,
};
use eeveon_testkit::health::{Looks, subject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
};
use tokio_util::sync::CancellationToken;

/// Secrets by reference.
#[derive(Default)]
pub(crate) struct Known(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets for Known {
    fn reveal(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let missing = || SecretError::Missing { at: at.to_string(), why: "is not there".to_owned() };
        self.0.get(&at.to_string()).and_then(|text| Secret::new(text.as_str())).ok_or_else(missing)
    }
}

/// How a command ends, and what it has written; `None` when it never ends by itself.
type Told = Option<(Ending, &'static str)>;

/// Commands that end as told; the last ending goes for all that follow.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) endings: Arc<Mutex<Vec<Told>>>,
    pub(crate) looks: Looks,
    /// What was run, for which step.
    pub(crate) ran: Arc<Mutex<Vec<(String, Origin)>>>,
}

impl Script {
    pub(crate) fn new(endings: impl IntoIterator<Item = Told>) -> Self {
        let mut endings: Vec<_> = endings.into_iter().collect();
        endings.reverse();
        Self { endings: Arc::new(Mutex::new(endings)), looks: Looks::default(), ran: Arc::default() }
    }

    /// Exit codes, one after the other.
    pub(crate) fn codes(codes: impl IntoIterator<Item = i32>) -> Self {
        Self::new(codes.into_iter().map(|code| Some((Ending::Exited(code), "said"))))
    }

    pub(crate) fn count(&self) -> usize {
        self.ran.lock().unwrap().len()
    }
}

#[async_trait]
impl Commands for Script {
    async fn run(&self, job: CommandJob<'_>, cancel: &CancellationToken) -> Result<CommandEnd, StepError> {
        self.ran.lock().unwrap().push((format!("{:?}", job.command), job.origin.clone()));
        let ending = {
            let mut endings = self.endings.lock().unwrap();
            if endings.len() > 1 { endings.pop().unwrap() } else { *endings.last().unwrap() }
        };
        // As with real commands, dropping the future ends nothing: only the cancellation does.
        let (look, cancel, timeout) = (self.looks.begin(), cancel.clone(), job.timeout);
        let end = tokio::spawn(async move {
            let _look = look;
            match ending {
                Some(ending) => ending,
                None => {
                    tokio::select! {
                        () = cancel.cancelled() => (Ending::Killed, ""),
                        () = tokio::time::sleep(timeout) => (Ending::TimedOut, ""),
                    }
                }
            }
        });
        let (how, output) = end.await.unwrap();
        Ok(CommandEnd { how, output: Untrusted::from(output) })
    }
}

pub(crate) fn checks(commands: impl Commands + 'static, secrets: Known) -> Checks {
    Checks::new(Arc::new(commands), Arc::new(secrets))
}

pub(crate) fn origin() -> Origin {
    Origin { deployment: DeploymentId(1), step: StepKey::new("health/1"), undo: false }
}

pub(crate) fn permit() -> Permit {
    Permit::new(Fence(1), CancellationToken::new())
}

pub(crate) fn spec(what: What) -> CheckSpec {
    CheckSpec { name: "web".to_owned(), what, pace: Pace { timeout_ms: 30_000, ..Pace::default() } }
}

/// Makes a check of the operator's.
pub(crate) async fn made(spec: &CheckSpec) -> Result<Box<dyn HealthCheck>, HealthError> {
    checks(Script::codes([0]), Known::default()).make(spec, Reach::Operator, &origin()).await
}

/// Looks once.
pub(crate) async fn probe(spec: &CheckSpec) -> Result<Reading, ProbeError> {
    made(spec).await.unwrap().probe(&subject()).await
}

/// Looks once, by HTTP.
pub(crate) async fn get(url: String, change: impl FnOnce(&mut HttpSpec)) -> Result<Reading, ProbeError> {
    probe(&request(url, change)).await
}

pub(crate) fn request(url: String, change: impl FnOnce(&mut HttpSpec)) -> CheckSpec {
    let mut http = HttpSpec::new(url);
    change(&mut http);
    spec(What::Http(Box::new(http)))
}

/// Returns why something is unhealthy.
pub(crate) fn reason(seen: Result<Reading, ProbeError>) -> String {
    match seen {
        Ok(Reading::Unhealthy { reason }) => reason.as_raw().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// One answer of a server.
pub(crate) type Answer = Vec<u8>;

/// Makes an answer of headers and a body.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What a server does with each connection, once it has the head of a request.
#[derive(Clone)]
pub(crate) enum Manner {
    /// Answers what this makes of the head.
    Answers(Arc<dyn Fn(&str) -> Answer + Send + Sync>),
    /// Says this, then this again and again, until nobody listens any more.
    Endless(Answer, Answer),
    /// Says this, then nothing, and holds the connection.
    Hangs(Answer),
}

/// A server that keeps the head of every request.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
    pub(crate) looks: Looks,
}

impl Server {
    pub(crate) async fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, heads: Arc::default(), looks: Looks::default() };
        let (heads, looks) = (Arc::clone(&server.heads), server.looks.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let look = looks.begin();
                let (manner, heads) = (manner.clone(), Arc::clone(&heads));
                tokio::spawn(async move {
                    converse(stream, &manner, &heads).await;
                    drop(look);
                });
            }
        });
        server
    }

    /// Answers what `answer` makes of the head of each request.
    pub(crate) async fn answering(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::new(Manner::Answers(Arc::new(answer))).await
    }

    /// Says always the same.
    pub(crate) async fn saying(answer: Answer) -> Self {
        Self::answering(move |_| answer.clone()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/healthz", self.port)
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Holds one conversation.
pub(crate) async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: &Manner,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    heads.lock().unwrap().push(head.clone());
    // Whoever has heard enough hangs up, which is no failure here.
    match manner {
        Manner::Answers(answer) => drop(stream.write_all(&answer(&head)).await),
        Manner::Endless(first, again) => {
            drop(stream.write_all(first).await);
            while stream.write_all(again).await.is_ok() {}
        }
        Manner::Hangs(first) => {
            drop(stream.write_all(first).await);
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest).await);
        }
    }
    drop(stream.shutdown().await);
}

/// Serves on a Unix socket in a folder, until the folder is gone.
pub(crate) fn on_socket(folder: &tempfile::TempDir, answer: Answer) -> PathBuf {
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let manner = Manner::Answers(Arc::new(move |_| answer.clone()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            converse(stream, &manner, &Mutex::default()).await;
        }
    });
    path
}

/// Holds a port on which nobody listens.
pub(crate) fn nobody() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// A limit that runs out before what never comes.
pub(crate) fn short() -> Pace {
    Pace { timeout_ms: 150, ..Pace::default() }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
