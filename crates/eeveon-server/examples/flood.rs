//! Measures a flood of deliveries:
//!
//! ```text
//! cargo run --release -p eeveon-server --example flood [CONNECTIONS [REQUESTS [RATE [SLOW]]]]
//! ```
//!
//! The server runs in a process of its own, so that its memory can be told from the flood's. One delivery in
//! a hundred is genuine, and is written to a file and synced before it is accepted. In the end the server is
//! killed, and the file is compared with what was promised.
//!
//! RATE is how many deliveries become due each second, and 0 sends each as soon as the one before on its
//! connection was answered. SLOW connections besides send a byte every ten seconds meanwhile, half of them
//! headers and half a body. Each connection is a file of either process: mind `ulimit -n`.

#![expect(clippy::print_stdout, reason = "an example shows what it found")]
#![expect(clippy::unwrap_used, reason = "an example that cannot go on stops")]
#![expect(clippy::indexing_slicing, reason = "the sizes are those of this file")]

use std::{
    collections::HashSet,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{self, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use eeveon_server::{
    App, Bytes, HeadersView, HookAddress, Limits, ListenAddress, ListenConfig, Listener, Readiness, Reply,
    Webhooks,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "the example's own";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(number(1, 10_000), &arguments[2]).await,
        _ => flood(number(0, 10_000), number(1, 100_000), number(2, 0), number(3, 0)).await,
    }
}

/// Something like a signature: cheap to check, and not to be had without the secret.
fn signature(body: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update(SECRET).chain_update(body).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Appends ids to a file; all that wait are synced at once.
#[derive(Debug)]
struct Hooks(mpsc::Sender<(String, oneshot::Sender<()>)>);

impl Hooks {
    fn new(path: &str) -> Self {
        let mut file = fs::File::create(path).unwrap();
        let (sender, receiver) = mpsc::channel::<(String, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            while let Ok(first) = receiver.recv() {
                let batch: Vec<_> = std::iter::once(first).chain(receiver.try_iter()).collect();
                let lines: String = batch.iter().map(|(id, _)| format!("{id}\n")).collect();
                file.write_all(lines.as_bytes()).unwrap();
                file.sync_data().unwrap();
                for (_, done) in batch {
                    let _gone = done.send(());
                }
            }
        });
        Self(sender)
    }
}

#[async_trait]
impl Webhooks for Hooks {
    async fn deliver(&self, _: HookAddress, headers: HeadersView, body: Bytes) -> Reply {
        let expected = hex(&signature(&body));
        if !headers.iter().any(|(name, value)| name == "x-signature" && value == expected.as_bytes()) {
            return Reply::Refused;
        }
        let id = String::from_utf8_lossy(&body).split(' ').next().unwrap_or_default().to_owned();
        let (done, synced) = oneshot::channel();
        self.0.send((id, done)).unwrap();
        match synced.await {
            Ok(()) => Reply::Accepted { why: "it is in the file".to_owned() },
            Err(_) => Reply::Failed,
        }
    }
}

#[async_trait]
impl Readiness for Hooks {
    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

async fn serve(connections: usize, path: &str) {
    let limits = Limits { connections, queue_time: Duration::from_secs(60), ..Limits::default() };
    let address = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(ListenConfig { address, limits }).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let hooks = Arc::new(Hooks::new(path));
    listener.serve(App { webhooks: hooks.clone(), readiness: hooks }, CancellationToken::new()).await;
}

async fn flood(connections: usize, requests: usize, rate: usize, slow: usize) {
    let path = env::temp_dir().join(format!("eeveon-flood-{}", process::id()));
    let places = (connections + slow) * 3 / 2;
    let mut server = process::Command::new(env::current_exe().unwrap())
        .args(["serve", &places.to_string(), path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().parse().unwrap();
    println!(
        "{connections} connections, {slow} slow ones, {requests} deliveries, {rate} a second, 1 % genuine"
    );
    println!("memory at rest: {} KiB", memory(server.id(), "VmRSS:"));

    for n in 0..slow {
        tokio::spawn(slowly(address, n % 2 == 0));
    }
    if slow > 0 {
        // Long enough for all to have connected.
        sleep(Duration::from_secs(3)).await;
        println!("memory with slow connections: {} KiB", memory(server.id(), "VmRSS:"));
    }

    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..connections {
        let next = Arc::clone(&next);
        clients.spawn(async move { client(address, &next, requests, begun, rate).await });
    }
    let results = clients.join_all().await;
    let took = begun.elapsed();
    println!("memory at most: {} KiB", memory(server.id(), "VmHWM:"));
    server.kill().unwrap();
    server.wait().unwrap();

    let durable: HashSet<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    fs::remove_file(&path).unwrap();
    let promised: Vec<String> = results.iter().flat_map(|result| result.promised.clone()).collect();
    let lost = promised.iter().filter(|id| !durable.contains(*id)).count();
    let mut times: Vec<Duration> = results.iter().flat_map(|result| result.times.clone()).collect();
    times.sort();
    let errors: usize = results.iter().map(|result| result.errors).sum();
    let rate = times.len() as f64 / took.as_secs_f64();
    println!("answered: {} in {took:.1?}, {rate:.0} a second; failed: {errors}", times.len());
    println!("promised: {}, durable after a kill: {}, lost: {lost}", promised.len(), durable.len());
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("time to an answer: median {:.1?}, 99 of 100 within {:.1?}", at(50), at(99));
}

#[derive(Default)]
struct Found {
    promised: Vec<String>,
    times: Vec<Duration>,
    errors: usize,
}

/// Sends a byte every ten seconds, over and over.
async fn slowly(address: SocketAddr, headers: bool) {
    let head = if headers { "" } else { "POST /hooks/shop/x HTTP/1.1\r\ncontent-length: 9999\r\n\r\n" };
    while let Ok(mut stream) = TcpStream::connect(address).await {
        let _sent = stream.write_all(head.as_bytes()).await;
        while stream.write_all(b"P").await.is_ok() {
            sleep(Duration::from_secs(10)).await;
        }
    }
}

/// Delivers over one connection, until enough were delivered by all.
async fn client(
    address: SocketAddr,
    next: &AtomicUsize,
    requests: usize,
    start: Instant,
    rate: usize,
) -> Found {
    let mut found = Found::default();
    let mut stream = None;
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= requests {
            return found;
        }
        let body = format!("{n} {}", "x".repeat(2_000));
        let genuine = n.is_multiple_of(100);
        let signature = if genuine { signature(body.as_bytes()) } else { vec![0; 32] };
        let request = format!(
            "POST /hooks/shop/github HTTP/1.1\r\nhost: a\r\nx-signature: {}\r\ncontent-length: {}\r\n\r\n{body}",
            hex(&signature),
            body.len()
        );
        let mut begun = Instant::now();
        if rate > 0 {
            // Counted from when it was due: a delivery that has to wait for its turn is a slow one.
            begun = start + Duration::from_secs_f64(n as f64 / rate as f64);
            sleep(begun.saturating_duration_since(Instant::now())).await;
        }
        match deliver(&mut stream, address, &request).await {
            Some(status) => {
                found.times.push(begun.elapsed());
                if status == "202" {
                    found.promised.push(n.to_string());
                }
            }
            None => {
                found.errors += 1;
                stream = None;
            }
        }
    }
}

/// Sends one request and returns the status.
async fn deliver(stream: &mut Option<TcpStream>, address: SocketAddr, request: &str) -> Option<String> {
    let stream = match stream {
        Some(stream) => stream,
        none => none.insert(TcpStream::connect(address).await.ok()?),
    };
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // Every answer's body is one JSON object.
    while !answer.ends_with(b"}") {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&answer).split(' ').nth(1)?.to_owned())
}

/// Returns what the system says of a process's memory, in KiB.
fn memory(pid: u32, what: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
    line.trim_start_matches(what).trim().trim_end_matches(" kB").to_owned()
}
