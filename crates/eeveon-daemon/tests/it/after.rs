//! Projects that wait for others.

use eeveon_core::Diagnose;
use eeveon_daemon::{
    AfterConfig, DaemonError, Edge, Follow, Graph, Progress,
    after::{FORMAT, Ready},
};

use crate::common::{commit, project};

fn edge(name: &str, after: &str, follow: Follow) -> Edge {
    Edge { project: project(name), after: project(after), follow }
}

fn graph(edges: &[(&str, &str, Follow)]) -> Graph {
    Graph::new(edges.iter().map(|(name, after, follow)| edge(name, after, *follow))).unwrap()
}

fn ready(graph: &Graph, progress: &Progress) -> Vec<(String, Option<u64>)> {
    let number =
        |id: &eeveon_core::CommitId| u64::from_str_radix(id.as_str().trim_start_matches('0'), 16).unwrap();
    let found = graph.ready(progress, |_| false).into_iter();
    found.map(|Ready { project, commit }| (project.to_string(), commit.as_ref().map(number))).collect()
}

use Follow::{AnySuccess, SameCommit};

#[test]
fn a_cycle_is_named() {
    let cycle = |edges: &[(&str, &str)]| {
        Graph::new(edges.iter().map(|(name, after)| edge(name, after, AnySuccess)))
            .map_err(|cycle| cycle.to_string())
    };
    assert_eq!(cycle(&[("a", "b"), ("b", "a")]).unwrap_err(), "a -> b -> a");
    assert_eq!(cycle(&[("a", "a")]).unwrap_err(), "a -> a");
    // Only those that go round are named, not those that wait for them, nor a longer way.
    assert_eq!(
        cycle(&[("x", "c"), ("c", "d"), ("d", "e"), ("e", "c"), ("d", "y"), ("y", "e")]).unwrap_err(),
        "c -> d -> e -> c"
    );
    assert!(cycle(&[("a", "b"), ("b", "c"), ("a", "c")]).is_ok());
    let error = DaemonError::from(Graph::new([edge("a", "a", AnySuccess)]).unwrap_err());
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("daemon/cycle", "projects wait for each other: a -> a")
    );
}

#[test]
fn a_long_chain_is_no_trouble() {
    let name = |number: u32| format!("p{number}");
    let chain = |last: u32| (0..last).map(|number| edge(&name(number), &name(number + 1), AnySuccess));
    assert!(Graph::new(chain(300)).is_ok());
    let round = chain(300).chain([edge(&name(300), &name(0), AnySuccess)]);
    assert_eq!(Graph::new(round).unwrap_err().0.len(), 302);
}

#[test]
fn all_that_is_waited_for_must_succeed() {
    let graph = graph(&[("web", "api", AnySuccess), ("web", "db", AnySuccess)]);
    let mut progress = Progress::default();
    assert_eq!(ready(&graph, &progress), []);
    progress.succeeded(&project("api"), &commit(1));
    assert_eq!(ready(&graph, &progress), []);
    progress.succeeded(&project("db"), &commit(9));
    assert_eq!(ready(&graph, &progress), [("web".to_owned(), None)]);
    progress.took_turn(&project("web"));
    assert_eq!(ready(&graph, &progress), []);
    progress.succeeded(&project("db"), &commit(9));
    assert_eq!(ready(&graph, &progress), []);
}

#[test]
fn a_burst_starts_one_run() {
    let graph = graph(&[("web", "api", AnySuccess)]);
    let mut progress = Progress::default();
    let mut turns = 0;
    let mut busy = false;
    for burst in 0..10 {
        progress.succeeded(&project("api"), &commit(burst));
        for next in graph.ready(&progress, |_| busy) {
            progress.took_turn(&next.project);
            (turns, busy) = (turns + 1, true);
        }
    }
    assert_eq!(turns, 1);
    // What came while it was busy is one more.
    assert_eq!(ready(&graph, &progress).len(), 1);
    progress.took_turn(&project("web"));
    assert_eq!(ready(&graph, &progress), []);
}

#[test]
fn the_same_commit_everywhere() {
    let graph = graph(&[("web", "api", SameCommit), ("web", "db", SameCommit)]);
    let mut progress = Progress::default();
    for (name, number) in [("api", 1), ("api", 2), ("db", 1)] {
        progress.succeeded(&project(name), &commit(number));
    }
    // The other has gone on, but the first is complete.
    assert_eq!(ready(&graph, &progress), [("web".to_owned(), Some(1))]);
    progress.succeeded(&project("db"), &commit(2));
    assert_eq!(ready(&graph, &progress), [("web".to_owned(), Some(2))]);
    progress.took_turn(&project("web"));
    progress.succeeded(&project("api"), &commit(3));
    assert_eq!(ready(&graph, &progress), []);
}

#[test]
fn both_kinds_together() {
    let graph = graph(&[("web", "api", SameCommit), ("web", "db", AnySuccess), ("web", "api", AnySuccess)]);
    let mut progress = Progress::default();
    progress.succeeded(&project("api"), &commit(1));
    assert_eq!(ready(&graph, &progress), []);
    progress.succeeded(&project("db"), &commit(7));
    // Of two edges for one pair the stricter one counts.
    assert_eq!(ready(&graph, &progress), [("web".to_owned(), Some(1))]);
}

#[test]
fn memory_is_bounded() {
    let graph = graph(&[("web", "api", SameCommit)]);
    let mut progress = Progress::default();
    for number in 0..1000 {
        progress.succeeded(&project("api"), &commit(number));
        progress.succeeded(&project("gone"), &commit(number));
    }
    assert_eq!(ready(&graph, &progress), [("web".to_owned(), Some(999))]);
    progress.prune(&graph);
    let text = progress.save().unwrap();
    assert!(text.len() < 8000 && !text.contains("gone"), "{}", text.len());
}

#[test]
fn what_was_written_before_is_read() {
    let golden = include_str!("../golden/progress-1.json");
    let mut progress = Progress::default();
    progress.succeeded(&project("api"), &commit(1));
    progress.succeeded(&project("db"), &commit(2));
    progress.took_turn(&project("web"));
    assert_eq!(FORMAT, 1);
    assert_eq!(Progress::load(golden).unwrap(), progress);
    assert_eq!(progress.save().unwrap(), golden.trim_end());
    let newer = golden.replace("\"format\":1", "\"format\":2");
    assert_eq!(Progress::load(&newer).unwrap_err().code(), "daemon/newer-format");
    assert_eq!(Progress::load("{}").unwrap_err().code(), "daemon/damaged-state");
}

#[test]
fn what_is_written_in_a_project_file_is_read() {
    let config: AfterConfig = toml::from_str("project = 'api'").unwrap();
    assert_eq!(config, AfterConfig { project: project("api"), on: AnySuccess });
    let config: AfterConfig = toml::from_str("project = 'api'\non = 'same-commit'").unwrap();
    assert_eq!(config.on, SameCommit);
    assert!(toml::from_str::<AfterConfig>("project = 'API'").is_err());
}
