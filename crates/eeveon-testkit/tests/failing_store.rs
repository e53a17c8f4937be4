//! The store that fails fails at every method there is, and only when it is told to.

use std::{fs, path::Path, sync::Arc};

use eeveon_core::DeploymentId;
use eeveon_store::{MemoryStore, Store};
use eeveon_testkit::store::{FALLIBLE, FailingStore, Loses};

/// A method with a body of its own in the trait would otherwise pass by unseen.
#[test]
fn no_method_of_the_trait_is_left_out() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../eeveon-store/src/lib.rs");
    let source = fs::read_to_string(source).unwrap();
    let (_, body) = source.split_once("pub trait Store").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let names = body.lines().filter_map(|line| line.trim_start().split_once("fn "));
    let names = names.filter(|(before, _)| ["", "async "].contains(before));
    let names: Vec<&str> = names.filter_map(|(_, rest)| Some(rest.split_once('(')?.0)).collect();
    assert!(names.len() > 30, "{names:?}");
    assert_eq!(names, FALLIBLE);
}

#[tokio::test]
async fn one_call_fails_before_or_after_it_was_done() {
    for (loses, next) in [(Loses::Call, 2), (Loses::Answer, 3)] {
        let store = FailingStore::new(Arc::new(MemoryStore::new()), 2, loses);
        assert_eq!(store.reserve_deployment().await.unwrap(), DeploymentId(1));
        assert_eq!(store.struck(), None);
        let error = store.reserve_deployment().await.unwrap_err();
        assert!(error.to_string().contains("/store"), "{error}");
        assert_eq!(store.struck(), Some("reserve_deployment"));
        assert_eq!(store.reserve_deployment().await.unwrap(), DeploymentId(next), "{loses:?}");
    }
}

#[tokio::test]
async fn at_one_call_the_caller_dies_before_or_after_it_was_done() {
    for (loses, done) in [(Loses::Call, 1), (Loses::Answer, 2)] {
        let inner = Arc::new(MemoryStore::new());
        let store = FailingStore::deadly(Arc::clone(&inner) as _, 2, loses);
        assert_eq!(store.reserve_deployment().await.unwrap(), DeploymentId(1));
        // Two at once: when one dies the other does nothing more.
        let dying = async { tokio::join!(store.reserve_deployment(), store.reserve_deployment()) };
        tokio::select! {
            biased;
            it = dying => unreachable!("it lives: {it:?}"),
            () = store.died() => {}
        }
        assert_eq!(store.struck(), Some("reserve_deployment"));
        assert_eq!(inner.reserve_deployment().await.unwrap(), DeploymentId(done + 1), "{loses:?}");
    }
}
