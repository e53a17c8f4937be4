//! The two stores of this crate do the same, whatever is asked of them and in whatever order.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Debug, sync::Arc, time::Duration};

use eeveon_core::{
    Actor, DeploymentId, Diagnose, Durability, Fence, Kind, Outcome, Quarantining, Record, ReleaseNumber,
    Request,
};
use eeveon_store::{
    Acquired, AutomaticOff, Delivery, DeploymentFilter, Holder, Lease, LetterEnd, LetterFilter, LetterState,
    MemoryStore, NewLetter, Owner, Position, Quarantined, SqliteStore, Store, StoreError,
};
use eeveon_testkit::store::{
    FOLLOWER, ManualTicks, STATES, commit, contents, delivery, entry, failure, followed, moment, new_letter,
    opened, owner, project, request, ship,
};
use proptest::prelude::*;

/// One thing to ask of a store. Small numbers everywhere, so that things meet.
#[derive(Clone, Debug)]
enum Ask {
    ReserveDeployment,
    ReserveRelease { project: bool, above: u64 },
    Append { deployment: u64, seq: Option<u64>, record: Record, power: bool, lease: Option<Lease> },
    Pin { project: bool, release: u64, pinned: bool },
    Acquire { name: bool, ttl: u64, dead: Option<u64>, above: u64 },
    Renew { lease: Lease, ttl: u64 },
    Release { lease: Lease },
    Pass { ms: u64 },
    Reboot,
    Quarantine { project: bool, commit: u64, at: u64 },
    Lift { project: bool, commit: u64 },
    Cancel { deployment: u64, reason: Option<String> },
    List { project: Option<bool>, open: bool, limit: u64 },
    Vacuum,
    Follow { after: u64, limit: u32 },
    Post { follower: bool, upto: u64, letters: Vec<NewLetter> },
    AddLetters { follower: bool, letters: Vec<NewLetter> },
    Letters { filter: LetterFilter },
    Replace { letter: u64, by: Vec<NewLetter> },
    BeginSending { letter: u64 },
    Settle { letter: u64, end: LetterEnd },
    Revive { letter: u64, now: u64 },
    Forget { letter: u64 },
    PurgeDead { before: u64 },
    SetAutomatic { project: bool, off: Option<u64> },
    ForgetProject { project: bool },
    SaveStates { states: Vec<(String, Option<String>)>, power: bool },
    TakeDelivery { delivery: Delivery, states: Vec<(String, Option<String>)> },
    Deliveries { project: bool, limit: u32 },
}

fn shop_or_blog(shop: bool) -> &'static str {
    if shop { "shop" } else { "blog" }
}

fn leases() -> impl Strategy<Value = Lease> {
    (any::<bool>(), 0..4_u64)
        .prop_map(|(name, fence)| Lease { name: shop_or_blog(name).into(), fence: Fence(fence) })
}

fn records() -> impl Strategy<Value = Record> {
    let commits = || prop::collection::vec((0..5_u64).prop_map(commit), 0..3);
    let quarantines =
        (commits(), any::<bool>(), commits()).prop_map(|(on_success, own_when_reverted, lift_on_success)| {
            Quarantining { on_success, own_when_reverted, lift_on_success }
        });
    let opens = (any::<bool>(), 1..5_u64, any::<bool>(), any::<Option<String>>(), quarantines).prop_map(
        |(name, number, back, reason, quarantine)| {
            let kind = if back { Kind::Rollback } else { Kind::Deploy };
            opened(Request { kind, reason, quarantine, ..request(&project(shop_or_blog(name)), number) })
        },
    );
    let failures = || any::<Option<String>>().prop_map(|message| message.map(|message| failure(&message)));
    let (step, by) = (ship(), Actor::Engine);
    prop_oneof![
        3 => opens,
        1 => Just(Record::Started { step: step.clone(), attempt: 1 }),
        1 => Just(Record::Unparked { by: by.clone(), reason: None }),
        1 => Just(Record::Cancelled { by, reason: None }),
        2 => failures().prop_map(move |failure| Record::Parked { step: step.clone(), failure }),
        2 => Just(Record::Closed { outcome: Outcome::Succeeded }),
        1 => (failures(), any::<bool>())
            .prop_map(|(failure, served)| Record::Closed { outcome: Outcome::Reverted { failure, served } }),
        1 => Just(Record::Closed { outcome: Outcome::Refused { failure: failure("no") } }),
    ]
}

fn followers(first: bool) -> String {
    if first { FOLLOWER } else { "audit" }.to_owned()
}

fn new_letters() -> impl Strategy<Value = Vec<NewLetter>> {
    let letter = (0..9_u64, any::<bool>(), any::<bool>(), 0..3_u8, any::<String>(), 0..9_u64).prop_map(
        |(position, name, channel, key, body, due)| NewLetter {
            channel: shop_or_blog(channel).into(),
            key: key.to_string(),
            body,
            ..new_letter(&project(shop_or_blog(name)), position, due)
        },
    );
    prop::collection::vec(letter, 0..4)
}

fn letter_filters() -> impl Strategy<Value = LetterFilter> {
    let states = prop::sample::select(vec![LetterState::Waiting, LetterState::Sending, LetterState::Dead]);
    let states = prop::option::of(states);
    (
        any::<bool>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        states,
        prop::option::of(0..9_u64),
        0..4_u32,
    )
        .prop_map(|(follower, name, channel, state, due_by, limit)| LetterFilter {
            follower: followers(follower),
            project: name.map(|name| project(shop_or_blog(name))),
            channel: channel.map(|channel| shop_or_blog(channel).to_owned()),
            state,
            due_by: due_by.map(moment),
            limit,
        })
}

fn states() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let keys = prop::sample::select(STATES.map(str::to_owned).to_vec());
    prop::collection::vec((keys, any::<Option<String>>()), 0..4)
}

fn deliveries() -> impl Strategy<Value = Delivery> {
    (any::<bool>(), any::<bool>(), 0..4_u8, 0..9_u64, any::<bool>(), any::<Option<String>>()).prop_map(
        |(name, provider, id, at, accepted, ask)| Delivery {
            provider: shop_or_blog(provider).into(),
            received_at: moment(at),
            accepted,
            ask,
            ..delivery(shop_or_blog(name), &id.to_string())
        },
    )
}

/// What is asked about followers, letters, switches, states and deliveries.
fn outbox_asks() -> impl Strategy<Value = Ask> {
    let (yes_or_no, letter) = (any::<bool>, || 0..9_u64);
    let ends = prop_oneof![
        Just(LetterEnd::Delivered),
        (0..9_u64, any::<String>()).prop_map(|(due, error)| LetterEnd::Later { due_at: moment(due), error }),
        any::<String>().prop_map(|error| LetterEnd::Dead { error }),
        any::<String>().prop_map(|error| LetterEnd::Unsent { error }),
    ];
    prop_oneof![
        1 => (0..9_u64, 0..9_u32).prop_map(|(after, limit)| Ask::Follow { after, limit }),
        5 => (yes_or_no(), 0..20_u64, new_letters())
            .prop_map(|(follower, upto, letters)| Ask::Post { follower, upto, letters }),
        2 => (yes_or_no(), new_letters())
            .prop_map(|(follower, letters)| Ask::AddLetters { follower, letters }),
        2 => letter_filters().prop_map(|filter| Ask::Letters { filter }),
        2 => (letter(), new_letters()).prop_map(|(letter, by)| Ask::Replace { letter, by }),
        4 => letter().prop_map(|letter| Ask::BeginSending { letter }),
        4 => (letter(), ends).prop_map(|(letter, end)| Ask::Settle { letter, end }),
        1 => (letter(), 0..9_u64).prop_map(|(letter, now)| Ask::Revive { letter, now }),
        1 => letter().prop_map(|letter| Ask::Forget { letter }),
        1 => (0..9_u64).prop_map(|before| Ask::PurgeDead { before }),
        1 => (yes_or_no(), prop::option::of(0..9_u64))
            .prop_map(|(project, off)| Ask::SetAutomatic { project, off }),
        1 => yes_or_no().prop_map(|project| Ask::ForgetProject { project }),
        2 => (states(), yes_or_no()).prop_map(|(states, power)| Ask::SaveStates { states, power }),
        4 => (deliveries(), states()).prop_map(|(delivery, states)| Ask::TakeDelivery { delivery, states }),
        1 => (yes_or_no(), 0..4_u32).prop_map(|(project, limit)| Ask::Deliveries { project, limit }),
    ]
}

fn asks() -> impl Strategy<Value = Ask> {
    let yes_or_no = any::<bool>;
    prop_oneof![
        1 => Just(Ask::ReserveDeployment),
        1 => (yes_or_no(), 0..9_u64).prop_map(|(project, above)| Ask::ReserveRelease { project, above }),
        // Mostly at the next position, which `run` finds out.
        12 => (1..4_u64, prop::option::weighted(0.2, 0..4_u64), records(), yes_or_no(), prop::option::weighted(0.3, leases()))
            .prop_map(|(deployment, seq, record, power, lease)| Ask::Append { deployment, seq, record, power, lease }),
        1 => (yes_or_no(), 1..5_u64, yes_or_no())
            .prop_map(|(project, release, pinned)| Ask::Pin { project, release, pinned }),
        3 => (yes_or_no(), 0..100_u64, prop::option::weighted(0.3, 0..4_u64), 0..6_u64)
            .prop_map(|(name, ttl, dead, above)| Ask::Acquire { name, ttl, dead, above }),
        1 => (leases(), 0..100_u64).prop_map(|(lease, ttl)| Ask::Renew { lease, ttl }),
        1 => leases().prop_map(|lease| Ask::Release { lease }),
        1 => (0..100_u64).prop_map(|ms| Ask::Pass { ms }),
        1 => Just(Ask::Reboot),
        1 => (yes_or_no(), 0..5_u64, 0..5_u64)
            .prop_map(|(project, commit, at)| Ask::Quarantine { project, commit, at }),
        1 => (yes_or_no(), 0..5_u64).prop_map(|(project, commit)| Ask::Lift { project, commit }),
        1 => (0..4_u64, any::<Option<String>>()).prop_map(|(deployment, reason)| Ask::Cancel { deployment, reason }),
        1 => (any::<Option<bool>>(), yes_or_no(), 0..4_u64)
            .prop_map(|(project, open, limit)| Ask::List { project, open, limit }),
        1 => Just(Ask::Vacuum),
        14 => outbox_asks(),
    ]
}

/// Writes out an answer, errors as far as callers can tell them apart.
fn answer<T: Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(StoreError::Illegal { source, .. }) => source.to_string(),
        Err(error) => format!("{}: {error}", error.code()),
    }
}

/// A holder without the date of its lease, which is not the same in both.
fn undated(holder: Holder) -> (Owner, Fence, u64) {
    (holder.owner, holder.fence, holder.remaining_ms)
}

async fn run(store: &dyn Store, ask: &Ask) -> String {
    let named = |shop: &bool| project(shop_or_blog(*shop));
    match ask {
        Ask::ReserveDeployment => answer(store.reserve_deployment().await),
        Ask::ReserveRelease { project, above } => {
            answer(store.reserve_release(&named(project), ReleaseNumber(*above)).await)
        }
        Ask::Append { deployment, seq, record, power, lease } => {
            let id = DeploymentId(*deployment);
            let next = u64::try_from(store.read(id, eeveon_core::Seq(0)).await.unwrap().len()).unwrap();
            let durability = if *power { Durability::Power } else { Durability::Process };
            let entry = entry(id, seq.unwrap_or(next), record.clone());
            answer(store.append(&entry, durability, lease.as_ref()).await)
        }
        Ask::Pin { project, release, pinned } => {
            answer(store.pin(&named(project), ReleaseNumber(*release), *pinned).await)
        }
        Ask::Acquire { name, ttl, dead, above } => {
            let ttl = Duration::from_millis(*ttl);
            match store.acquire(shop_or_blog(*name), &owner("one"), ttl, dead.map(Fence), Fence(*above)).await
            {
                Ok(Acquired::Held(holder)) => format!("{:?}", undated(holder)),
                other => answer(other),
            }
        }
        Ask::Renew { lease, ttl } => answer(store.renew(lease, Duration::from_millis(*ttl)).await),
        Ask::Release { lease } => answer(store.release(lease).await),
        Ask::Pass { .. } | Ask::Reboot => String::new(),
        Ask::Quarantine { project, commit: number, at } => {
            let (by, reason) = (Actor::Engine, format!("at {at}").into());
            let what = Quarantined { commit: commit(*number), reason, deployment: None, by, at: moment(*at) };
            answer(store.quarantine(&named(project), &what).await)
        }
        Ask::Lift { project, commit: number } => answer(store.lift(&named(project), &commit(*number)).await),
        Ask::Cancel { deployment, reason } => {
            let id = DeploymentId(*deployment);
            answer(store.request_cancel(id, &Actor::Engine, reason.as_deref(), moment(1)).await)
        }
        Ask::List { project, open, limit } => {
            let filter =
                DeploymentFilter { project: project.as_ref().map(named), open: *open, limit: *limit };
            answer(store.deployments(&filter).await)
        }
        // How much it frees is each store's own business.
        Ask::Vacuum => answer(store.vacuum().await.map(drop)),
        outbox => run_outbox(store, outbox).await,
    }
}

async fn run_outbox(store: &dyn Store, ask: &Ask) -> String {
    let named = |shop: &bool| project(shop_or_blog(*shop));
    match ask {
        Ask::Follow { after, limit } => answer(followed(store, Position(*after), *limit).await),
        Ask::Post { follower, upto, letters } => {
            let follower = followers(*follower);
            let posted = answer(store.post(&follower, Position(*upto), letters).await);
            posted + &answer(store.cursor(&follower).await) + &answer(store.next_due(&follower).await)
        }
        Ask::AddLetters { follower, letters } => {
            answer(store.add_letters(&followers(*follower), letters).await)
        }
        Ask::Letters { filter } => answer(store.letters(filter).await),
        Ask::Replace { letter, by } => answer(store.replace(*letter, by).await),
        Ask::BeginSending { letter } => answer(store.begin_sending(*letter).await),
        Ask::Settle { letter, end } => answer(store.settle(*letter, end.clone()).await),
        Ask::Revive { letter, now } => answer(store.revive(*letter, moment(*now)).await),
        Ask::Forget { letter } => answer(store.forget(*letter).await),
        Ask::PurgeDead { before } => answer(store.purge_dead(moment(*before)).await),
        Ask::SetAutomatic { project, off } => {
            let off = off.map(|at| AutomaticOff { by: Actor::Engine, reason: None, at: moment(at) });
            answer(store.set_automatic(&named(project), off).await)
        }
        Ask::ForgetProject { project } => answer(store.forget_project(&named(project)).await),
        Ask::SaveStates { states, power } => {
            let durability = if *power { Durability::Power } else { Durability::Process };
            answer(store.save_states(states, durability).await)
        }
        Ask::TakeDelivery { delivery, states } => {
            let Delivery { project, provider, id, .. } = delivery;
            let taken = answer(store.take_delivery(delivery, states).await);
            taken + &answer(store.delivery(project, provider, id).await)
        }
        Ask::Deliveries { project, limit } => answer(store.deliveries(&named(project), *limit).await),
        other => unreachable!("{other:?} is not about the outbox"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_answer_the_same(asks in prop::collection::vec(asks(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let ticks = Arc::new(ManualTicks::default());
            let memory = MemoryStore::with_ticks(Arc::clone(&ticks) as _);
            let sqlite = SqliteStore::open_with(folder.path().join("db"), Arc::clone(&ticks) as _).await.unwrap();
            let projects = [project("shop"), project("blog")];
            for ask in &asks {
                match ask {
                    Ask::Pass { ms } => ticks.advance(Duration::from_millis(*ms)),
                    Ask::Reboot => ticks.reboot(),
                    _ => {}
                }
                prop_assert_eq!(run(&memory, ask).await, run(&sqlite, ask).await, "{:?}", ask);
            }
            let expected = contents(&memory, &projects).await.unwrap();
            prop_assert_eq!(&contents(&sqlite, &projects).await.unwrap(), &expected);
            for name in ["shop", "blog"] {
                let (one, other) = (memory.holder(name).await.unwrap(), sqlite.holder(name).await.unwrap());
                prop_assert_eq!(one.map(undated), other.map(undated));
            }
            Ok(())
        })?;
    }
}
