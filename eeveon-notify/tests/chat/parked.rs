//! What is told of a deployment that waits for a person: what serves meanwhile, and what to do.

use eeveon_core::{
    Actor, CommitId, DeploymentId, Endpoint, Entry, FORMAT, Failure, Kind, Live, Plan, ProjectName,
    Quarantining, Record, Release, ReleaseNumber, Request, Revision, Seq, Stage, State, StepKey, StepSpec,
    TargetName, Trigger, Untrusted,
};
use eeveon_notify::{Event, EventKind, Level, Message, Route, Serving, Wording, tell};
use eeveon_testkit::notify::{Reply, Service, event};
use jiff::Timestamp;
use serde_json::json;

use crate::failures::all;

fn commit(digit: char) -> CommitId {
    CommitId::new(digit.to_string().repeat(40)).unwrap()
}

fn key(key: &str) -> StepKey {
    StepKey::new(key)
}

/// A deployment of release 12 where 11 is live: to switch, a hook, a check, and then no way back.
fn opened() -> Record {
    let step = |name: &str, action: &str, stage| StepSpec {
        key: key(name),
        stage,
        action: action.to_owned(),
        params: json!({}),
    };
    let waves = vec![
        vec![step("ship/local", "deploy.ship", Stage::Ship)],
        vec![step("switch/local", "deploy.switch", Stage::Switch)],
        vec![step("post_switch/1", "build.command", Stage::Switch)],
        vec![step("post/web", "health.gate", Stage::Check)],
    ];
    let revision = Revision {
        commit: commit('2'),
        subject: "Fix".into(),
        author: "Ada".into(),
        committed_at: Timestamp::UNIX_EPOCH,
    };
    let live = Live { release: ReleaseNumber(11), endpoint: Endpoint("/srv/shop".into()) };
    let request = Request {
        format: FORMAT,
        kind: Kind::Deploy,
        release: Release { project: ProjectName::new("shop").unwrap(), number: ReleaseNumber(12), revision },
        live: vec![(TargetName::new("local").unwrap(), Some(live))],
        previous: Some(commit('1')),
        actor: Actor::Engine,
        trigger: Trigger::Manual,
        reason: None,
        config: String::new(),
        quarantine: Quarantining::default(),
        irreversible: false,
        settings: None,
    };
    Record::Opened { request: Box::new(request), plan: Plan { waves, pivot: None } }
}

/// Returns what is told of the last of these records, which follow the opening.
fn told(records: &[Record]) -> Event {
    let mut state = State::default();
    let all: Vec<Record> = [opened()].into_iter().chain(records.iter().cloned()).collect();
    for record in &all {
        state.apply(record).unwrap();
    }
    let seq = Seq(all.len() as u64 - 1);
    let record = all.last().unwrap().clone();
    let entry = Entry { deployment: DeploymentId(42), seq, at: Timestamp::UNIX_EPOCH, record };
    let events = tell(&state, &entry, Timestamp::UNIX_EPOCH, &Untrusted::from("main"), None);
    assert_eq!(events.len(), 1, "{events:?}");
    events.into_iter().next().unwrap()
}

fn started(step: &str) -> Record {
    Record::Started { step: key(step), attempt: 1 }
}

fn finished(step: &str) -> Record {
    Record::Finished { step: key(step), output: json!({}) }
}

fn parked(step: &str) -> Record {
    Record::Parked { step: key(step), failure: None }
}

fn failed(step: &str) -> Record {
    let failure = Failure {
        stage: Stage::Check,
        code: "health/unhealthy".into(),
        class: eeveon_core::Class::Failed,
        message: "bad".into(),
        causes: Vec::new(),
        hint: None,
        details: None,
    };
    Record::Failed { step: key(step), failure }
}

#[test]
fn what_serves_is_said_as_far_as_the_journal_knows() {
    let new = Serving::Release { release: ReleaseNumber(12), revision: Some(commit('2')) };
    let old = Serving::Release { release: ReleaseNumber(11), revision: Some(commit('1')) };
    let either = Serving::Either { new: ReleaseNumber(12), old: Some(ReleaseNumber(11)) };
    let to_the_check: Vec<Record> = ["ship/local", "switch/local", "post_switch/1"]
        .into_iter()
        .flat_map(|step| [started(step), finished(step)])
        .chain([started("post/web")])
        .collect();
    let (undo, undone) = (
        |step: &str| Record::UndoStarted { step: key(step), attempt: 1 },
        |step: &str| Record::UndoFinished { step: key(step) },
    );
    let back = [
        to_the_check.clone(),
        vec![failed("post/web"), undo("post/web"), undone("post/web")],
        vec![undo("post_switch/1"), undone("post_switch/1"), undo("switch/local")],
    ]
    .concat();
    let cases = [
        // A check after the switch asks whether the release stays: it is live.
        ([to_the_check.clone(), vec![parked("post/web")]].concat(), &new, "post/web"),
        ([to_the_check[..5].to_vec(), vec![parked("post_switch/1")]].concat(), &new, "post_switch/1"),
        ([to_the_check[..3].to_vec(), vec![parked("switch/local")]].concat(), &either, "switch/local"),
        ([to_the_check[..1].to_vec(), vec![parked("ship/local")]].concat(), &old, "ship/local"),
        // On the way back.
        ([back.clone(), vec![parked("switch/local")]].concat(), &either, "switch/local"),
        (
            [back, vec![undone("switch/local"), undo("ship/local"), parked("ship/local")]].concat(),
            &old,
            "ship/local",
        ),
    ];
    for (records, serving, step) in cases {
        let event = told(&records);
        assert_eq!((event.kind, event.level()), (EventKind::Parked, Level::Warning));
        assert_eq!((&event.serving, event.step.clone()), (serving, Some(key(step))), "{records:?}");
        let plain = Wording::of(&event).plain();
        for line in ["Next: ee-deploy why 42", "ee-deploy resume 42 (", "--skip (", "ee-deploy cancel 42 ("] {
            assert!(plain.contains(line), "{line}: {plain}");
        }
    }
}

#[tokio::test]
async fn every_channel_says_that_somebody_is_waited_for_and_what_to_do() {
    let service = Service::start(|_| Reply::new(200, r#"{"ok":true}"#)).await;
    for kind in [EventKind::Parked, EventKind::WaitingForApproval] {
        assert!(Route::default().wants(&event(kind)), "nobody has to ask for it");
        let (waits, commands) = match kind {
            EventKind::Parked => {
                ("release 12 waits for a person", ["ee-deploy resume 42", "ee-deploy cancel 42"])
            }
            _ => ("release 12 waits for approval", ["ee-deploy approve shop", "ee-deploy reject shop"]),
        };
        for notifier in all(&service.url("")) {
            notifier.notify(&Message::of(event(kind))).await.unwrap();
            let body = service.received().last().unwrap().json().to_string();
            for words in [&[waits][..], &commands].concat() {
                assert!(body.contains(words), "{}: {words}: {body}", notifier.name());
            }
        }
    }
}
