//! Thousands of connections at once, of which one in a hundred has something to say that counts.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    figures::{Spread, Usage},
    hook::{self, Hook},
    oracle,
    place::{Daemon, Place},
    repo::{Repo, Shape},
};

/// How many projects hear of commits.
const PROJECTS: usize = 4;

/// The most memory the daemon may ever have, in KiB.
const MOST_RESIDENT: u64 = 256 * 1024;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client is up to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Client {
    /// Knows the secret.
    Valid,
    /// Does not.
    Wrong,
    /// Calls a project that does not exist.
    Unknown,
    /// Sends its headers a byte at a time.
    SlowHeaders,
    /// Sends its body a byte at a time.
    SlowBody,
}

/// What came of a client.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    Answered(u16),
    /// The connection was ended without an answer.
    Hung,
    /// Nothing came for too long.
    Waiting,
    /// There was no connection.
    Unconnected,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "{status}"),
            Self::Hung => f.write_str("ended without an answer"),
            Self::Waiting => f.write_str("no answer"),
            Self::Unconnected => f.write_str("not connected"),
        }
    }
}

/// What a flood did.
#[derive(Default)]
struct Tally {
    ends: BTreeMap<(Client, End), usize>,
    /// How long answers took, from the attempt to connect on.
    times: BTreeMap<Client, Spread>,
    /// The deliveries that were taken, with their project.
    taken: Vec<(usize, String)>,
}

/// Floods a daemon in `folder` twice, with and without those who are slow on purpose.
///
/// # Errors
///
/// A rule is broken.
pub(crate) fn run(folder: &Path, program: &Path, connections: usize) -> Result<()> {
    for slow in [false, true] {
        let place = Place::make(folder, program)?;
        let names: Vec<String> = (1..=PROJECTS).map(|nth| format!("p{nth}")).collect();
        let mut hooks = Vec::new();
        for name in &names {
            let repo = Repo::make(&place.repo(name), Shape { files: 8, bytes: 400, commits: 1 })?;
            repo.push(1)?;
            place.add(name, &repo.folder().to_string_lossy(), "poll = false", "")?;
            hooks.push(place.hook(name)?);
        }
        let daemon = Daemon::start(&place)?;
        daemon.ready()?;
        let before = Usage::of(daemon.id())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let began = Instant::now();
        let (tally, health) = runtime.block_on(flood(daemon.address, &hooks, connections, slow))?;
        let took = began.elapsed();
        let after = Usage::of(daemon.id())?;
        daemon.kill()?;
        let slowness = if slow { "half of them slow on purpose" } else { "none slow on purpose" };
        println!("\n{connections} connections at once, {slowness}: {:.1} s", took.as_secs_f64());
        for ((client, end), count) in &tally.ends {
            println!("  {client:<12?} {end:<24} {count:>6}");
        }
        for (client, times) in &tally.times {
            println!("  {client:?} answered after {times}");
        }
        for (end, times) in &health {
            println!("  /healthz meanwhile {end}: {times}");
        }
        let cpu = (after.own - before.own).as_secs_f64();
        println!("  memory {} MiB before, {} MiB at most; {cpu:.1} s of processor", mib(before), mib(after));
        judge(&place, &names, &tally)?;
        ensure!(after.most_resident <= MOST_RESIDENT, "that is more than {} MiB", MOST_RESIDENT / 1024);
    }
    Ok(())
}

fn mib(usage: Usage) -> u64 {
    usage.most_resident / 1024
}

/// Nobody but those who know a secret was told of success, and what they were told is still so after
/// the daemon was killed.
fn judge(place: &Place, names: &[String], tally: &Tally) -> Result<()> {
    for (client, end) in tally.ends.keys() {
        let is_fine = match (client, end) {
            (Client::Valid, End::Answered(status)) => [202, 503].contains(status),
            (_, End::Answered(status)) => [400, 401, 408, 503].contains(status),
            _ => true,
        };
        ensure!(is_fine, "{client:?} came to {end}");
    }
    ensure!(!tally.taken.is_empty(), "no delivery was taken");
    let daemon = Daemon::start(place)?;
    daemon.ready()?;
    for (nth, name) in names.iter().enumerate() {
        super::place::wait("what was asked for is live", || Ok(oracle::live(place, name) == Some(1)))?;
        let stored = oracle::deliveries(place, name)?;
        let taken: Vec<&String> =
            tally.taken.iter().filter(|(project, _)| *project == nth).map(|(_, id)| id).collect();
        let lost: Vec<_> = taken.iter().filter(|id| stored.get(**id) != Some(&1)).collect();
        ensure!(lost.is_empty(), "{name}: taken and not in the store: {lost:?}");
        let history = place.json(&["history", name, "-n", "1000"])?;
        let deployments = history.as_array().context("no history")?.len();
        println!("  {name}: {} deliveries taken, all in the store, {deployments} deployments", taken.len());
        ensure!(deployments <= 2, "that is too many");
    }
    daemon.stop()
}

/// What those who asked for its health met, and after how long.
type Health = BTreeMap<End, Spread>;

async fn flood(to: SocketAddr, hooks: &[Hook], connections: usize, slow: bool) -> Result<(Tally, Health)> {
    let over = Arc::new(AtomicBool::new(false));
    let health = tokio::spawn(ask_for_health(to, Arc::clone(&over)));
    let mut clients = tokio::task::JoinSet::new();
    for nth in 0..connections {
        let client = match (nth % 100, slow) {
            (0, _) => Client::Valid,
            (rest, true) if rest % 4 == 1 => Client::SlowHeaders,
            (rest, true) if rest % 4 == 3 => Client::SlowBody,
            (rest, _) if rest % 2 == 0 => Client::Wrong,
            _ => Client::Unknown,
        };
        let project = (nth / 100) % hooks.len().max(1);
        let hook = hooks.get(project).context("there is no project")?;
        let id = format!("flood-{nth}");
        let request = match client {
            Client::Valid => hook.push(&id, &id)?,
            Client::Unknown => Hook::new("nobody", "whsec_AAAA").push(&id, &id)?,
            _ => hook.push(&id, "another")?,
        };
        clients.spawn(async move {
            let began = Instant::now();
            let end = timeout(PATIENCE, one(to, client, &request)).await.unwrap_or(End::Waiting);
            (client, end, began.elapsed(), project, id)
        });
    }
    let mut tally = Tally::default();
    while let Some(ended) = clients.join_next().await {
        let (client, end, took, project, id) = ended?;
        *tally.ends.entry((client, end)).or_default() += 1;
        if let End::Answered(status) = end {
            tally.times.entry(client).or_default().add(took);
            if status == 202 {
                tally.taken.push((project, id));
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    Ok((tally, health.await?))
}

async fn ask_for_health(to: SocketAddr, over: Arc<AtomicBool>) -> Health {
    let mut health = Health::new();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let end = timeout(PATIENCE, one(to, Client::Valid, request)).await.unwrap_or(End::Waiting);
        health.entry(end).or_default().add(began.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    health
}

async fn one(to: SocketAddr, client: Client, request: &str) -> End {
    let Ok(mut stream) = TcpStream::connect(to).await else { return End::Unconnected };
    let (mut reading, mut writing) = stream.split();
    let body = request.find("\r\n\r\n").map_or(request.len(), |at| at + 4);
    // As much at once as fits the intent, then a byte every ten seconds.
    let at_once = match client {
        Client::SlowHeaders => 20,
        Client::SlowBody => body,
        _ => request.len(),
    };
    let say = async {
        let (first, rest) = request.as_bytes().split_at(at_once);
        writing.write_all(first).await?;
        for byte in rest {
            sleep(Duration::from_secs(10)).await;
            writing.write_all(&[*byte]).await?;
        }
        std::io::Result::Ok(())
    };
    let hear = async {
        let mut answer = Vec::new();
        // What came before an end without manners counts as well.
        let _ = reading.read_to_end(&mut answer).await;
        hook::read(&String::from_utf8_lossy(&answer)).map_or(End::Hung, |it| End::Answered(it.status))
    };
    tokio::pin!(hear);
    tokio::select! {
        end = &mut hear => end,
        _ = say => hear.await,
    }
}
