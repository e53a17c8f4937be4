//! The journal: recording an entry, reading a long journal back, and folding it.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use eeveon_core::{
    DeploymentId, Durability, Entry, Plan, Record, Seq, Stage, State, StepKey, StepSpec, decide,
};
use eeveon_store::{MemoryStore, SqliteStore, Store};
use eeveon_testkit::store::{entry, project, request};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Steps of the long journal; a real deployment has ten or twenty.
const STEPS: usize = 500;

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Returns the journal of a deployment that has done all its steps, one after the other.
fn journal(deployment: DeploymentId, steps: usize) -> Vec<Entry> {
    let step = |number: usize| StepSpec {
        key: StepKey::new(format!("step-{number}")),
        stage: Stage::Ship,
        action: "host/ship".to_owned(),
        params: serde_json::json!({ "target": "local", "number": number }),
    };
    let plan = Plan { waves: (0..steps).map(|number| vec![step(number)]).collect(), pivot: None };
    let mut records =
        vec![Record::Opened { request: Box::new(request(&project("bench"), 1)), plan: plan.clone() }];
    for step in plan.steps() {
        records.push(Record::Started { step: step.key.clone(), attempt: 1 });
        let output = serde_json::json!({ "files": 1000, "bytes": 1_000_000 });
        records.push(Record::Finished { step: step.key.clone(), output });
    }
    (0..).zip(records).map(|(seq, record)| entry(deployment, seq, record)).collect()
}

/// Begins a deployment of one step in the store; what follows may be as many attempts as one likes.
async fn open(store: &dyn Store) -> DeploymentId {
    let deployment = store.reserve_deployment().await.unwrap();
    let first = journal(deployment, 1).into_iter().next().unwrap();
    store.append(&first, Durability::Power, None).await.unwrap();
    deployment
}

fn append(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = TempDir::new().unwrap();
    let sqlite = runtime.block_on(SqliteStore::open(folder.path().join("bench.db"))).unwrap();
    let memory = MemoryStore::default();
    let cases: [(&str, &dyn Store, Durability); 3] = [
        ("sqlite, outlives the process", &sqlite, Durability::Process),
        ("sqlite, outlives a power cut", &sqlite, Durability::Power),
        ("memory", &memory, Durability::Process),
    ];
    let mut group = criterion.benchmark_group("append");
    for (name, store, durability) in cases {
        let deployment = runtime.block_on(open(store));
        let mut seq = Seq(0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                seq = seq.next();
                let attempt = u32::try_from(seq.0).unwrap();
                let record = Record::Started { step: StepKey::new("step-0"), attempt };
                let next = entry(deployment, seq.0, record);
                runtime.block_on(store.append(&next, durability, None)).unwrap();
            });
        });
    }
}

fn read_and_fold(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = TempDir::new().unwrap();
    let store = runtime.block_on(SqliteStore::open(folder.path().join("bench.db"))).unwrap();
    let deployment = runtime.block_on(store.reserve_deployment()).unwrap();
    let entries = journal(deployment, STEPS);
    for entry in &entries {
        runtime.block_on(store.append(entry, Durability::Process, None)).unwrap();
    }
    let mut group = criterion.benchmark_group("journal of 1,001 entries");
    group.bench_function("read", |bencher| {
        bencher.iter(|| runtime.block_on(store.read(deployment, Seq(0))).unwrap());
    });
    group.bench_function("fold", |bencher| {
        bencher.iter(|| {
            let mut state = State::default();
            for entry in &entries {
                state.apply(&entry.record).unwrap();
            }
            black_box(decide(&state))
        });
    });
}

criterion_group!(benches, append, read_and_fold);
criterion_main!(benches);
