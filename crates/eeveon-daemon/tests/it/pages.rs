//! Every error has a code, a hint and a page.

use eeveon_core::{Diagnose, Untrusted};
use eeveon_daemon::{Cycle, DaemonError, Refusal, RequestId, Shut, Why};

use crate::common::project;

#[test]
fn every_code_has_a_page() {
    let text = || "x".to_owned();
    let refusals = [
        Refusal::Full { waiting: 1 },
        Refusal::ProjectFull { waiting: 1 },
        Refusal::SetAside { request: RequestId(1) },
        Refusal::TooLong { limit: 1 },
    ];
    let mut all = vec![
        DaemonError::Schedule { expression: text(), why: text() },
        DaemonError::Zone { name: text() },
        DaemonError::Window { why: text() },
        DaemonError::Calendar { why: text() },
        DaemonError::Cycle(Cycle(vec![project("a"), project("a")])),
        DaemonError::Shut(Shut { why: Why::Frozen(Untrusted::from("x")), until: None }),
        DaemonError::Newer { what: "queue", found: 2, known: 1 },
        DaemonError::Damaged { what: "queue", why: text() },
        DaemonError::Socket { path: "/home/daemon.sock".into(), why: text() },
    ];
    all.extend(refusals.map(DaemonError::Refused));
    for error in all {
        let name = error.code().replace('/', "-");
        let page = format!("{}/../../docs/errors/{name}.md", env!("CARGO_MANIFEST_DIR"));
        let content = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{page} is missing"));
        assert!(content.starts_with(&format!("# {}\n", error.code())), "{page}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
        let message = error.to_string();
        assert!(message.starts_with(char::is_lowercase) && !message.ends_with('.'), "{message}");
    }
}
