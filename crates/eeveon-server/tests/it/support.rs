//! A server with hooks that do as they are told.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_server::{
    App, Bytes, HeadersView, HookAddress, Limits, ListenAddress, ListenConfig, Listener, Load, Readiness,
    Reply, Stopped, Webhooks,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Hooks that do what the name of the provider says.
#[derive(Debug)]
pub(crate) struct Hooks {
    /// The bodies of what was accepted, in the place of a store.
    pub(crate) accepted: Mutex<BTreeSet<Vec<u8>>>,
    /// The headers of the last delivery.
    pub(crate) headers: Mutex<Vec<(String, Vec<u8>)>>,
    /// How many deliveries have begun.
    pub(crate) begun: Semaphore,
    /// How many deliveries to `wait` may be finished.
    pub(crate) finish: Semaphore,
    /// What the daemon waits for.
    pub(crate) in_the_way: Mutex<Option<String>>,
}

#[async_trait]
impl Webhooks for Hooks {
    async fn deliver(&self, to: HookAddress, headers: HeadersView, body: Bytes) -> Reply {
        self.begun.add_permits(1);
        *self.headers.lock().unwrap() =
            headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        match to.provider.as_str() {
            "accept" => {}
            "secret" if body.starts_with(b"secret ") => {}
            "secret" => return Reply::Refused,
            "wait" => self.finish.acquire().await.unwrap().forget(),
            "ignore" => return Reply::Ignored { why: "another branch\u{202e}\u{1b}".to_owned() },
            "refuse" => return Reply::Refused,
            "malformed" => return Reply::Malformed { why: "a".repeat(10_000) },
            "busy" => return Reply::Busy { retry_after: Duration::from_secs(7) },
            "fail" => return Reply::Failed,
            "panic" => panic!("as asked for"),
            _ => return Reply::Unknown,
        }
        self.accepted.lock().unwrap().insert(body.to_vec());
        Reply::Accepted { why: "deployment 1 of `shop` waits".to_owned() }
    }
}

#[async_trait]
impl Readiness for Hooks {
    async fn ready(&self) -> Result<(), String> {
        self.in_the_way.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) load: Load,
    pub(crate) shutdown: CancellationToken,
    pub(crate) stopped: JoinHandle<Stopped>,
    address: Option<SocketAddr>,
}

/// Starts a server on a port the system chooses.
pub(crate) async fn start(limits: Limits) -> Running {
    start_on(ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()), limits).await
}

pub(crate) async fn start_on(address: ListenAddress, limits: Limits) -> Running {
    let listener = Listener::bind(ListenConfig { address, limits }).await.unwrap();
    let (load, address) = (listener.load(), listener.local_addr());
    let hooks = Arc::new(Hooks {
        accepted: Mutex::default(),
        headers: Mutex::default(),
        begun: Semaphore::new(0),
        finish: Semaphore::new(0),
        in_the_way: Mutex::default(),
    });
    let app = App { webhooks: hooks.clone(), readiness: hooks.clone() };
    let shutdown = CancellationToken::new();
    let stopped = tokio::spawn(listener.serve(app, shutdown.clone()));
    Running { hooks, load, shutdown, stopped, address }
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Sends bytes, and returns all that comes until the server closes.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The server may have heard enough before all is sent.
        let _sent = stream.write_all(bytes.as_ref()).await;
        rest(&mut stream).await
    }

    /// Delivers a body, and returns the answer.
    pub(crate) async fn deliver(&self, path: &str, body: &str) -> String {
        self.send(post(path, body)).await
    }

    /// Asks for the end and waits for it.
    pub(crate) async fn stop(self) -> Stopped {
        self.shutdown.cancel();
        self.stopped.await.unwrap()
    }
}

/// Returns a delivery after which the connection ends.
pub(crate) fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Returns all that comes until the server closes, however it does.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _end = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

/// Returns the first line.
pub(crate) fn status(answer: &str) -> &str {
    answer.lines().next().unwrap_or("nothing")
}
