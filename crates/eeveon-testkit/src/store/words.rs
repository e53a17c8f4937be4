//! Plain data to fill a store with, and short ways to do it.

use std::{sync::Arc, time::Duration};

use eeveon_core::{
    Actor, Class, CommitId, DeploymentId, Durability, Endpoint, Entry, FORMAT, Failure, Fence, Kind, Live,
    Outcome, Plan, ProjectName, Quarantining, Record, Release, ReleaseNumber, Request, Revision, Seq, Stage,
    StepKey, StepSpec, TargetName, Trigger,
};
use eeveon_store::{
    Acquired, AutomaticOff, Delivery, Holder, Lease, Letter, LetterEnd, LetterFilter, NewLetter, Owner,
    Position, Quarantined, Store, StoreError,
};
use futures::future::join_all;
use jiff::Timestamp;

use super::{FOLLOWER, STATES, Subject};

/// Returns a project name.
pub fn project(name: &str) -> ProjectName {
    ProjectName::new(name).unwrap()
}

/// Returns the commit whose id ends in `number`.
pub fn commit(number: u64) -> CommitId {
    CommitId::new(format!("{number:040x}")).unwrap()
}

/// Returns a moment, `second` seconds and some nanoseconds after an arbitrary one.
pub fn moment(second: u64) -> Timestamp {
    Timestamp::new(1_700_000_000 + i64::try_from(second).unwrap(), 123_456_789).unwrap()
}

/// Returns a request to deploy release `number` of `project`, made of commit `number`.
pub fn request(project: &ProjectName, number: u64) -> Request {
    let revision = Revision {
        commit: commit(number),
        subject: "Fix \u{1b}[31mit\u{7} \"all\" 日本".into(),
        author: "Ada \u{202e}ecalevoL".into(),
        committed_at: moment(number),
    };
    let live = Live { release: ReleaseNumber(1), endpoint: Endpoint("/srv/shop/current".into()) };
    let local = TargetName::new("local").unwrap();
    Request {
        format: FORMAT,
        kind: Kind::Deploy,
        release: Release { project: project.clone(), number: ReleaseNumber(number), revision },
        live: vec![(local, (number > 1).then_some(live))],
        previous: (number > 1).then(|| commit(number - 1)),
        actor: Actor::User("ada".into()),
        trigger: Trigger::Manual,
        reason: None,
        config: format!("digest-{number}"),
        quarantine: Quarantining::default(),
        irreversible: false,
        settings: None,
    }
}

/// Returns the record that opens a deployment of one step, `ship`.
pub fn opened(request: Request) -> Record {
    let params = serde_json::json!({ "files": 3, "path": "/srv", "none": null, "deep": [1, [true, "x"]] });
    let step = StepSpec { key: ship(), stage: Stage::Ship, action: "host/ship".into(), params };
    Record::Opened { request: Box::new(request), plan: Plan { waves: vec![vec![step]], pivot: None } }
}

/// Returns the key of the step in [`opened`].
pub fn ship() -> StepKey {
    StepKey::new("ship")
}

/// Returns a failure with this message.
pub fn failure(message: &str) -> Failure {
    Failure {
        stage: Stage::Ship,
        code: "host/full".into(),
        class: Class::Failed,
        message: message.into(),
        causes: vec!["no space left".into()],
        hint: Some("make room".into()),
        details: None,
    }
}

/// Returns the record that ends a deployment well.
pub fn succeeded() -> Record {
    Record::Closed { outcome: Outcome::Succeeded }
}

/// Returns the record that ends a deployment which was taken back.
pub fn reverted(failure: Option<Failure>, served: bool) -> Record {
    Record::Closed { outcome: Outcome::Reverted { failure, served } }
}

/// Returns an entry, `at` seconds after [`moment`] zero plus its position.
pub fn entry(deployment: DeploymentId, seq: u64, record: Record) -> Entry {
    Entry { deployment, seq: Seq(seq), at: moment(deployment.0 * 100 + seq), record }
}

/// Returns a process that exists nowhere.
pub fn owner(label: &str) -> Owner {
    Owner { host: "nowhere".into(), boot: "boot".into(), pid: 1, started: 1, label: label.into() }
}

pub(super) const TTL: Duration = Duration::from_secs(30);

pub(super) async fn append(store: &dyn Store, deployment: DeploymentId, seq: u64, record: Record) {
    store.append(&entry(deployment, seq, record), Durability::Process, None).await.unwrap();
}

/// Opens a deployment and appends `records` after it.
pub(super) async fn journal(
    store: &dyn Store,
    request: Request,
    records: impl IntoIterator<Item = Record>,
) -> DeploymentId {
    let id = store.reserve_deployment().await.unwrap();
    let records = std::iter::once(opened(request)).chain(records);
    for (seq, record) in (0..).zip(records) {
        append(store, id, seq, record).await;
    }
    id
}

pub(super) async fn take(store: &dyn Store, name: &str) -> Lease {
    granted(store.acquire(name, &owner("taker"), TTL, None, Fence(0)).await.unwrap())
}

#[expect(clippy::panic, reason = "a contract is broken by panicking")]
pub(super) fn granted(acquired: Acquired) -> Lease {
    match acquired {
        Acquired::Granted(lease) => lease,
        Acquired::Held(holder) => panic!("held by {holder:?}"),
    }
}

#[expect(clippy::panic, reason = "a contract is broken by panicking")]
pub(super) fn held(acquired: Acquired) -> Holder {
    match acquired {
        Acquired::Held(holder) => holder,
        Acquired::Granted(lease) => panic!("granted as {lease:?}"),
    }
}

#[track_caller]
pub(super) fn assert_conflict<T: std::fmt::Debug>(
    result: Result<T, StoreError>,
    deployment: DeploymentId,
    seq: u64,
) {
    let fits = matches!(&result, Err(StoreError::Conflict { deployment: of, at })
        if (*of, *at) == (deployment, Seq(seq)));
    assert!(fits, "no conflict at {seq} of {deployment}: {result:?}");
}

/// Returns the store and, if there can be one, a second handle on the same data.
pub(super) async fn handles(it: &dyn Subject) -> Vec<Arc<dyn Store>> {
    [Some(it.store()), it.reopen().await].into_iter().flatten().collect()
}

/// Runs `ask` so many times at once, in turn on each handle, and returns what each run returned.
pub(super) async fn at_once<T, F>(
    handles: &[Arc<dyn Store>],
    times: u32,
    ask: impl Fn(Arc<dyn Store>, u32) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let runs = (0..times).zip(handles.iter().cycle());
    // Each in a task of its own, so that they run on several threads.
    let tasks: Vec<_> = runs.map(|(n, store)| tokio::spawn(ask(Arc::clone(store), n))).collect();
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

pub(super) fn quarantined(number: u64, at: u64, deployment: Option<DeploymentId>) -> Quarantined {
    let (by, reason) = (Actor::User("ada".into()), "bad".into());
    Quarantined { commit: commit(number), reason, deployment, by, at: moment(at) }
}

/// Puts something of everything into a store.
pub async fn fill(store: &dyn Store) {
    let (shop, blog) = (project("shop"), project("blog"));
    let quarantine = Quarantining { on_success: vec![commit(2)], ..Quarantining::default() };
    journal(store, request(&shop, 1), [succeeded()]).await;
    journal(
        store,
        Request { irreversible: true, ..request(&shop, 2) },
        [reverted(Some(failure("bad")), false)],
    )
    .await;
    let back = Request { kind: Kind::Rollback, quarantine, ..request(&shop, 1) };
    journal(store, back, [Record::Started { step: ship(), attempt: 1 }, succeeded()]).await;
    let open = journal(store, request(&blog, 1), [Record::Started { step: ship(), attempt: 1 }]).await;
    store.pin(&shop, ReleaseNumber(1), true).await.unwrap();
    store.quarantine(&blog, &quarantined(9, 9, Some(open))).await.unwrap();
    store.request_cancel(open, &Actor::Engine, Some("enough"), moment(3)).await.unwrap();
    let (by, reason) = (Actor::User("ada".into()), Some("frozen".to_owned()));
    store.set_automatic(&blog, Some(AutomaticOff { by, reason, at: moment(4) })).await.unwrap();
    fill_outbox(store).await;
    fill_inbox(store).await;
}

/// Puts a letter in each state into a store, and leaves entries that were not followed yet.
async fn fill_outbox(store: &dyn Store) {
    let shop = project("shop");
    let new: Vec<_> = (1..=5).map(|n| new_letter(&shop, n, n)).collect();
    assert!(store.post(FOLLOWER, Position(5), &new).await.unwrap());
    let ids: Vec<u64> = letters(store, &all_letters()).await.iter().map(|letter| letter.id).collect();
    let [delivered, later, dead, sending, _waiting] = ids[..] else { unreachable!("five were posted") };
    for id in [delivered, later, dead, sending] {
        store.begin_sending(id).await.unwrap().unwrap();
    }
    let error = "no answer \u{1b}[31m".to_owned();
    let again = LetterEnd::Later { due_at: moment(90), error: error.clone() };
    for (id, end) in [(delivered, LetterEnd::Delivered), (later, again), (dead, LetterEnd::Dead { error })] {
        assert!(store.settle(id, end).await.unwrap());
    }
}

/// Puts states, and a delivery of each kind for each project, into a store.
async fn fill_inbox(store: &dyn Store) {
    let [poll, schedule, none] = STATES.map(str::to_owned);
    let states = [(poll, Some("{\"seen\":1}".to_owned())), (none, Some("soon gone".to_owned()))];
    store.save_states(&states, Durability::Process).await.unwrap();
    let [_, (none, _)] = states;
    let ask = Some("{\"text\":\"日本 \\u0000\"}".to_owned());
    let asking = Delivery { ask, ..delivery("shop", "7") };
    let changes = [(schedule, Some("\u{1b}[31m".to_owned())), (none, None)];
    assert!(store.take_delivery(&asking, &changes).await.unwrap());
    let ignored = Delivery { accepted: false, received_at: moment(4), ..delivery("shop", "6") };
    for ignored in [&ignored, &Delivery { project: project("blog"), ..ignored.clone() }] {
        assert!(store.take_delivery(ignored, &[]).await.unwrap());
    }
}

/// Returns a delivery for the project of this name that was accepted and made no request.
pub fn delivery(name: &str, id: &str) -> Delivery {
    Delivery {
        project: project(name),
        provider: "github".to_owned(),
        id: id.to_owned(),
        received_at: moment(5),
        accepted: true,
        why: "push to `main` \u{1b}[31m日本".to_owned(),
        ask: None,
        request: None,
    }
}

/// Returns a letter of the entry at `position`, written and due at [`moment`] `due`.
pub fn new_letter(project: &ProjectName, position: u64, due: u64) -> NewLetter {
    NewLetter {
        position: Position(position),
        project: project.clone(),
        channel: "chat".to_owned(),
        key: position.to_string(),
        body: format!("{{\"n\":{position},\"text\":\"日本 \\u0000\"}}"),
        created_at: moment(due),
        due_at: moment(due),
    }
}

/// Returns a filter for all letters of [`FOLLOWER`].
pub fn all_letters() -> LetterFilter {
    LetterFilter { follower: FOLLOWER.to_owned(), ..LetterFilter::default() }
}

pub(super) async fn letters(store: &dyn Store, filter: &LetterFilter) -> Vec<Letter> {
    store.letters(filter).await.unwrap()
}

/// Follows, and expects that every entry can be read.
///
/// # Errors
///
/// The first one that cannot be.
pub async fn followed(
    store: &dyn Store,
    after: Position,
    limit: u32,
) -> Result<Vec<(Position, Entry)>, StoreError> {
    let items = store.follow(after, limit).await?;
    items.into_iter().map(|(position, entry)| entry.map(|entry| (position, entry))).collect()
}
