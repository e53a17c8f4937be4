//! Releases on a plain server: the first one, and one in which little changed.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use eeveon_core::{Contents, Deployer, Fence, FileKind, Live, Permit, Release, Target, TargetName, Traffic};
use eeveon_host::{Host, HostOptions};
use eeveon_testkit::deployer::FakeContents;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// Files of a release.
const FILES: usize = 1_000;

/// Files in which the second release differs from the first.
const CHANGED: usize = 10;

/// Bytes of a file.
const SIZE: usize = 2_048;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Makes release `number`; it has changes if it is not the first.
fn release(contents: &FakeContents, number: u64) -> Release {
    let content = |file: usize| {
        let version = if file < CHANGED { number } else { 1 };
        let mut content = format!("{file} {version}\n").into_bytes();
        content.resize(SIZE, b'.');
        content
    };
    let files: Vec<_> = (0..FILES)
        .map(|file| (format!("part-{}/file-{file}", file % 20).into_bytes(), content(file)))
        .collect();
    let tree: Vec<_> = files
        .iter()
        .map(|(path, content)| (path.as_slice(), FileKind::Regular, content.as_slice()))
        .collect();
    contents.release(number, &tree)
}

/// A server of its own for every round.
struct Server {
    host: Host,
    target: Target,
    _folder: TempDir,
}

impl Server {
    fn new(contents: &Arc<FakeContents>, first: &Release) -> Self {
        let folder = TempDir::new().unwrap();
        let options = HostOptions {
            path: folder.path().join("site"),
            project: first.project.clone(),
            home_id: "bench".to_owned(),
            shared_dirs: Vec::new(),
            shared_files: Vec::new(),
            commands_run: false,
            reserve_bytes: 0,
        };
        let host = Host::new(options, Arc::clone(contents) as Arc<dyn Contents>).unwrap();
        let name = TargetName::new("local").unwrap();
        let target = Target { name, deployer: "host".to_owned(), traffic: "symlink".to_owned() };
        Self { host, target, _folder: folder }
    }

    /// Brings a release from nothing to live.
    async fn deploy(&self, release: &Release) {
        let permit = Permit::new(Fence(1), CancellationToken::new());
        self.host.ready(&permit, &self.target, release).await.unwrap();
        self.host.ship(&permit, &self.target, release).await.unwrap();
        let placed = self.host.seal(&permit, &self.target, release).await.unwrap();
        let live = Live { release: release.number, endpoint: placed.endpoint };
        self.host.turn(&permit, &self.target, Some(&live)).await.unwrap();
    }
}

fn deploy(criterion: &mut Criterion) {
    let runtime = runtime();
    let contents = Arc::new(FakeContents::default());
    let (first, second) = (release(&contents, 1), release(&contents, 2));
    let mut group = criterion.benchmark_group("release of 1,000 files");
    group.sample_size(20);
    group.bench_function("first", |bencher| {
        bencher.iter_batched_ref(
            || Server::new(&contents, &first),
            |server| runtime.block_on(server.deploy(&first)),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("10 files changed", |bencher| {
        bencher.iter_batched_ref(
            || {
                let server = Server::new(&contents, &first);
                runtime.block_on(server.deploy(&first));
                server
            },
            |server| runtime.block_on(server.deploy(&second)),
            BatchSize::PerIteration,
        );
    });
}

/// Seeing whether a release is what it was: by the change times of its files, and by reading them all.
fn compare(criterion: &mut Criterion) {
    let runtime = runtime();
    let contents = Arc::new(FakeContents::default());
    let first = release(&contents, 1);
    let server = Server::new(&contents, &first);
    runtime.block_on(server.deploy(&first));
    let mut group = criterion.benchmark_group("1,000 files compared");
    group.sample_size(20);
    let compare = || assert!(runtime.block_on(server.host.compare(first.number)).unwrap().is_empty());
    group.bench_function("by change times", |bencher| bencher.iter(compare));
    std::fs::remove_file(server.host.shared_path().with_file_name(".eeveon").join("ledger")).unwrap();
    group.bench_function("by their hashes", |bencher| bencher.iter(compare));
}

criterion_group!(benches, deploy, compare);
criterion_main!(benches);
