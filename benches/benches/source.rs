//! A repository: asking what is new, also over git://, fetching it, listing what it consists of.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use eeveon_core::{CommitId, Contents, Fence, Permit, ProjectName, Release, ReleaseNumber};
use eeveon_source::{Mirror, RepoUrl, SourceConfig, Want};
use eeveon_testkit::{git::Repo, servers::GitDaemon};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// Files of the repository.
const FILES: usize = 1_000;

/// Bytes of a file.
const SIZE: usize = 2_048;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn permit() -> Permit {
    Permit::new(Fence(1), CancellationToken::new())
}

/// Makes a repository with one commit.
fn repository() -> Repo {
    let repo = Repo::new();
    for file in 0..FILES {
        let mut content = format!("{file}\n").into_bytes();
        content.resize(SIZE, b'.');
        repo.write(format!("part-{}/file-{file}", file % 20), content);
    }
    repo.commit("first");
    repo
}

fn mirror(repo: &Repo, folder: &Path) -> Mirror {
    let url = RepoUrl::parse(&repo.url()).unwrap();
    Mirror::open(&folder.join("mirror.git"), SourceConfig::new(url)).unwrap()
}

fn source(criterion: &mut Criterion) {
    let runtime = runtime();
    let (repo, folder) = (repository(), TempDir::new().unwrap());
    let known = mirror(&repo, folder.path());
    let want = Want::Branch("main".to_owned());
    let commit = runtime.block_on(known.resolve(&want, &permit())).unwrap();
    let fetched = runtime.block_on(known.fetch(&commit, None, &permit())).unwrap();
    let release = Release {
        project: ProjectName::new("bench").unwrap(),
        number: ReleaseNumber(1),
        revision: fetched.revision,
    };

    let mut group = criterion.benchmark_group("local repository of 1,000 files");
    group.sample_size(20);
    group.bench_function("what is new", |bencher| {
        bencher.iter(|| runtime.block_on(known.resolve(&want, &permit())).unwrap());
    });
    group.bench_function("first fetch", |bencher| {
        bencher.iter_batched_ref(
            || {
                let folder = TempDir::new().unwrap();
                (mirror(&repo, folder.path()), folder)
            },
            |(mirror, _)| runtime.block_on(mirror.fetch(&commit, None, &permit())).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("fetch of what is there", |bencher| {
        bencher.iter(|| runtime.block_on(known.fetch(&commit, None, &permit())).unwrap());
    });
    repo.write("part-0/file-0", "changed");
    let next = CommitId::new(repo.commit("second")).unwrap();
    group.bench_function("fetch of one commit more", |bencher| {
        bencher.iter_batched_ref(
            || {
                let folder = TempDir::new().unwrap();
                let mirror = mirror(&repo, folder.path());
                runtime.block_on(mirror.fetch(&commit, None, &permit())).unwrap();
                (mirror, folder)
            },
            |(mirror, _)| runtime.block_on(mirror.fetch(&next, Some(&commit), &permit())).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("list", |bencher| {
        bencher.iter(|| known.list(&release, &CancellationToken::new()).unwrap());
    });
    group.bench_function("read", |bencher| {
        let files = known.list(&release, &CancellationToken::new()).unwrap();
        bencher.iter(|| {
            let mut reader = known.reader(&release).unwrap();
            let mut content = Vec::new();
            files.iter().for_each(|file| reader.read(&file.id, &mut content).unwrap());
        });
    });
}

/// Asking a server what a branch names (ls-refs), each time over a connection of its own.
fn server(criterion: &mut Criterion) {
    let (runtime, repo, folder) = (runtime(), repository(), TempDir::new().unwrap());
    let root = repo.path().parent().unwrap();
    let daemon = GitDaemon::start(root).unwrap();
    let name = repo.path().file_name().unwrap().to_str().unwrap();
    let url = RepoUrl::parse(&daemon.url(&format!("{name}/.git"))).unwrap();
    let mirror = Mirror::open(&folder.path().join("mirror.git"), SourceConfig::new(url)).unwrap();
    let want = Want::Branch("main".to_owned());
    criterion.benchmark_group("git://").bench_function("what is new", |bencher| {
        bencher.iter(|| runtime.block_on(mirror.resolve(&want, &permit())).unwrap());
    });
}

criterion_group!(benches, source, server);
criterion_main!(benches);
