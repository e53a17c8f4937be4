//! Several processes on one database, one of them killed in the middle of it: nothing that was
//! acknowledged is lost, and nothing is given out twice.
//!
//! This program is its own other processes: called with `work` and a path, it writes until it is
//! killed or told to stop, and says on its output what was acknowledged.
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
use eeveon_store::{SqliteStore, Store};
use eeveon_testkit::store::{entry, opened, project, request, ship};

/// How many acknowledgements to wait for before one process is killed, and how many after.
const ENOUGH: usize = 60;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match arguments.get(1..).unwrap_or_default() {
        [verb, path] if verb == "work" => runtime.block_on(work(Path::new(path))),
        // Whatever else the test runner was called with is for tests of another kind.
        _ => {
            runtime.block_on(nothing_is_lost_and_nothing_given_out_twice());
            println!("test nothing_is_lost_and_nothing_given_out_twice ... ok");
        }
    }
}

async fn work(path: &Path) {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let _until_it_ends = stdin().read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
    });
    let store = SqliteStore::open(path).await.unwrap();
    let shop = project("shop");
    while !stopped.load(Ordering::Relaxed) {
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

/// A process, and what it says was acknowledged.
struct Worker {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    acknowledged: Vec<(DeploymentId, Seq, ReleaseNumber)>,
}

impl Worker {
    fn start(path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child =
            command.arg("work").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, acknowledged: Vec::new() }
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
    let mut workers: Vec<_> = (0..3).map(|_| Worker::start(&path)).collect();
    workers.iter_mut().for_each(|worker| worker.read(ENOUGH));
    for worker in &mut workers[..2] {
        worker.child.kill().unwrap();
        worker.read(usize::MAX);
        worker.child.wait().unwrap();
    }
    // The others are not held up by the dead, and neither are new ones.
    workers.push(Worker::start(&path));
    for worker in &mut workers[2..] {
        worker.read(ENOUGH);
        drop(worker.child.stdin.take());
        worker.read(usize::MAX);
        assert!(worker.child.wait().unwrap().success());
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
