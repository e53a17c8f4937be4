//! Every code of this crate has a page under `docs/errors/`.

use eeveon_core::{action::Stopped, *};

use crate::stage::{ID, target};

#[test]
fn every_code_has_a_page() {
    let unavailable = JournalError::Unavailable("full".into());
    let unreadable = JournalError::Unreadable { deployment: ID, at: Seq(1), source: "new".into() };
    let source = state::IllegalRecord("it is empty");
    let mut codes = vec![
        EngineError::from(JournalError::Conflict { deployment: ID, at: Seq(1) }).code(),
        EngineError::from(unavailable).code(),
        EngineError::from(unreadable).code(),
        EngineError::Corrupt { deployment: ID, source }.code(),
        EngineError::Foreign { deployment: ID, found: 2 }.code(),
        EngineError::Parked(StepKey::new("a")).code(),
        EngineError::NoWayBack(ID).code(),
        Stopped.code(),
        Reach::default().deployer(&target("web-1")).unwrap_err().code(),
        // Of a type that only the engine makes.
        "engine/plan",
    ];
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 9, "{codes:?}");
    for code in codes {
        let page = format!("{}/../docs/errors/{}.md", env!("CARGO_MANIFEST_DIR"), code.replace('/', "-"));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{page} is missing"));
        assert!(text.starts_with(&format!("# {code}\n")), "{page}");
    }
}
