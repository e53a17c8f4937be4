//! Several processes on one database, some of them killed in the middle of it: nothing that was
//! acknowledged is lost, nothing is given out twice, and every entry is told of.
//!
//! This program is its own other processes: called with `work`, `tell`, `send` or `take` and a path, it
//! writes, follows, sends or takes in deliveries until it is killed or told to stop, and says on its output
//! what was acknowledged.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "read by the test runner, and by the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, stdin},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use eeveon_core::{DeploymentId, Durability, Record, ReleaseNumber, Seq};
use eeveon_store::{LetterFilter, LetterState, Position, SqliteStore, Store};
use eeveon_testkit::store::{
    FOLLOWER, all_letters, delivery, entry, followed, new_letter, opened, project, request, ship,
};

/// How many acknowledgements to wait for before one process is killed, and how many after.
const ENOUGH: usize = 60;

/// How many deliveries come to several processes at once.
const DELIVERIES: u64 = 200;

/// How many deployments a process writes at most, so that there is a letter for every entry of several.
const MOST: usize = 800;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match arguments.get(1..).unwrap_or_default() {
        [verb, path] if verb == "work" => runtime.block_on(work(Path::new(path))),
        [verb, path] if verb == "tell" => runtime.block_on(tell(Path::new(path))),
        [verb, path] if verb == "send" => runtime.block_on(send(Path::new(path))),
        [verb, path] if verb == "take" => runtime.block_on(take(Path::new(path))),
        // Whatever else the test runner was called with is for tests of another kind.
        _ => {
            runtime.block_on(nothing_is_lost_and_nothing_given_out_twice());
            println!("test nothing_is_lost_and_nothing_given_out_twice ... ok");
            runtime.block_on(every_entry_is_told_of_and_every_letter_sent_once());
            println!("test every_entry_is_told_of_and_every_letter_sent_once ... ok");
            runtime.block_on(every_delivery_is_taken_in_once());
            println!("test every_delivery_is_taken_in_once ... ok");
        }
    }
}

/// Returns what becomes true when the process is to stop.
fn stopped() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let _until_it_ends = stdin().read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
    });
    stopped
}

async fn work(path: &Path) {
    let stopped = stopped();
    let store = SqliteStore::open(path).await.unwrap();
    let shop = project("shop");
    for _ in 0..MOST {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let id = store.reserve_deployment().await.unwrap();
        let number = store.reserve_release(&shop, ReleaseNumber(0)).await.unwrap();
        let started = |attempt| Record::Started { step: ship(), attempt };
        let records = [opened(request(&shop, number.0)), started(1), started(2)];
        for (seq, record) in (0..).zip(records) {
            let durability = if seq == 2 { Durability::Power } else { Durability::Process };
            store.append(&entry(id, seq, record), durability, None).await.unwrap();
            println!("{id} {seq} {number}");
        }
    }
}

/// Follows the journals, and writes a letter for every entry. Says for how many.
async fn tell(path: &Path) {
    let stopped = stopped();
    let store = SqliteStore::open(path).await.unwrap();
    let shop = project("shop");
    let mut posted = 0;
    loop {
        // Asked first: what was there when it was told to stop is told of.
        let stopped = stopped.load(Ordering::Relaxed);
        let cursor = store.cursor(FOLLOWER).await.unwrap().unwrap_or_default();
        let entries = followed(&store, cursor, 7).await.unwrap();
        let new: Vec<_> = entries.iter().map(|(at, _)| new_letter(&shop, at.0, at.0)).collect();
        match entries.last() {
            Some((last, _)) if store.post(FOLLOWER, *last, &new).await.unwrap() => {
                posted += new.len();
                println!("{posted} 0 0");
            }
            None if stopped => break,
            _ => {}
        }
    }
}

/// Begins to send every letter that waits, and says which ones it got.
async fn send(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    let waiting = || LetterFilter { state: Some(LetterState::Waiting), limit: 5, ..all_letters() };
    loop {
        let letters = store.letters(&waiting()).await.unwrap();
        if letters.is_empty() {
            break;
        }
        for letter in letters {
            if store.begin_sending(letter.id).await.unwrap().is_some() {
                println!("{} 0 0", letter.id);
            }
        }
    }
}

/// Takes in the same deliveries as others do, and says of each whether it was told to be the first.
async fn take(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    let own = std::process::id().to_string();
    for n in 1..=DELIVERIES {
        let delivery = delivery("shop", &n.to_string());
        let state = [(format!("taken/{n}"), Some(own.clone()))];
        let first = store.take_delivery(&delivery, &state).await.unwrap();
        println!("{n} {} 0", u8::from(first));
    }
}

/// A process, and what it says was acknowledged.
struct Worker {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    acknowledged: Vec<(DeploymentId, Seq, ReleaseNumber)>,
}

impl Worker {
    fn start(verb: &str, path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child =
            command.arg(verb).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, acknowledged: Vec::new() }
    }

    /// Ends it at once, and reads what it had still said.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.read(usize::MAX);
        self.child.wait().unwrap();
    }

    /// Lets it come to its end, and reads what it says until then.
    fn stop(&mut self) {
        drop(self.child.stdin.take());
        self.read(usize::MAX);
        assert!(self.child.wait().unwrap().success());
    }

    /// Reads so many more acknowledgements, or all that there are. A death can cut off the last.
    fn read(&mut self, most: usize) {
        for line in self.output.by_ref().lines().take(most) {
            let line = line.unwrap();
            let numbers: Vec<u64> = line.split(' ').map_while(|number| number.parse().ok()).collect();
            if let [id, seq, number] = numbers[..] {
                self.acknowledged.push((DeploymentId(id), Seq(seq), ReleaseNumber(number)));
            }
        }
    }
}

async fn nothing_is_lost_and_nothing_given_out_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eeveon.db");
    // They race for creating the database, too.
    let mut workers: Vec<_> = (0..3).map(|_| Worker::start("work", &path)).collect();
    workers.iter_mut().for_each(|worker| worker.read(ENOUGH));
    for worker in &mut workers[..2] {
        worker.kill();
    }
    // The others are not held up by the dead, and neither are new ones.
    workers.push(Worker::start("work", &path));
    for worker in &mut workers[2..] {
        worker.read(ENOUGH);
        worker.stop();
    }

    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    let (mut numbers, mut ids) = (BTreeMap::new(), BTreeSet::new());
    for (n, worker) in workers.iter().enumerate() {
        assert!(worker.acknowledged.len() >= ENOUGH);
        for (id, seq, number) in &worker.acknowledged {
            ids.insert(*id);
            assert_eq!(*numbers.entry(*number).or_insert((n, *id)), (n, *id), "given out twice");
            let journal = store.read(*id, *seq).await.unwrap();
            assert_eq!(journal.first().map(|entry| entry.seq), Some(*seq), "lost");
        }
    }
    assert_eq!(ids.len(), numbers.len(), "each deployment has one release of its own");
}

async fn every_entry_is_told_of_and_every_letter_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eeveon.db");
    let mut writers: Vec<_> = (0..2).map(|_| Worker::start("work", &path)).collect();
    let mut tellers = vec![Worker::start("tell", &path)];
    tellers[0].read(3);
    tellers.extend((0..2).map(|_| Worker::start("tell", &path)));
    tellers[0].kill();
    writers[0].kill();
    writers[1].read(ENOUGH);
    writers[1].stop();
    tellers[1..].iter_mut().for_each(Worker::stop);

    let store = SqliteStore::open(&path).await.unwrap();
    let newest = store.newest_position().await.unwrap();
    assert!(newest.0 >= u64::try_from(ENOUGH).unwrap());
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), Some(newest));
    let letters = store.letters(&all_letters()).await.unwrap();
    let told: Vec<u64> = letters.iter().map(|letter| letter.key.parse().unwrap()).collect();
    assert_eq!(told, (1..=newest.0).collect::<Vec<_>>(), "each entry once, and in order");
    let mut next: BTreeMap<DeploymentId, Seq> = BTreeMap::new();
    for (_, entry) in followed(&store, Position(0), u32::MAX).await.unwrap() {
        let next = next.entry(entry.deployment).or_default();
        assert_eq!(entry.seq, *next);
        *next = next.next();
    }

    let mut senders: Vec<_> = (0..3).map(|_| Worker::start("send", &path)).collect();
    senders[0].read(5);
    senders[0].kill();
    senders[1..].iter_mut().for_each(Worker::stop);
    let mut sent: Vec<_> =
        senders.iter().flat_map(|sender| &sender.acknowledged).map(|(id, ..)| id.0).collect();
    sent.sort_unstable();
    let all = store.letters(&all_letters()).await.unwrap();
    for letter in &all {
        assert_eq!((letter.state, letter.attempts), (LetterState::Sending, 1));
    }
    let by_nobody = all.iter().filter(|letter| sent.binary_search(&letter.id).is_err()).count();
    // The one that was killed may not have come to say which it got last.
    assert!(by_nobody <= 1, "{by_nobody}");
    assert_eq!(sent.len() + by_nobody, all.len(), "none by two");
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
}

async fn every_delivery_is_taken_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eeveon.db");
    let mut takers: Vec<_> = (0..3).map(|_| Worker::start("take", &path)).collect();
    takers.iter_mut().for_each(|taker| taker.read(5));
    takers[0].kill();
    takers[1..].iter_mut().for_each(Worker::stop);

    let store = SqliteStore::open(&path).await.unwrap();
    let mut first = BTreeMap::new();
    for taker in &takers {
        for (n, ..) in taker.acknowledged.iter().filter(|(_, won, _)| *won == Seq(1)) {
            assert_eq!(first.insert(n.0, taker.child.id()), None, "{n} was taken in twice");
        }
    }
    let mut by_nobody = 0;
    for n in 1..=DELIVERIES {
        let taken_by = store.state(&format!("taken/{n}")).await.unwrap().unwrap();
        // The one that was killed may not have come to say which it got last.
        let first = first.get(&n).copied().unwrap_or_else(|| {
            by_nobody += 1;
            takers[0].child.id()
        });
        assert_eq!(taken_by, first.to_string(), "the state of {n} is not from whoever took it in");
    }
    assert!(by_nobody <= 1, "{by_nobody}");
    let kept = store.deliveries(&project("shop"), u32::MAX).await.unwrap();
    assert_eq!(kept.len(), usize::try_from(DELIVERIES).unwrap());
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
}
