//! The contract about letters, and about what is kept of a project besides its history.

use eeveon_core::{Actor, DeploymentId};
use eeveon_store::{
    AutomaticOff, DEAD_LETTERS_KEPT, LETTERS_KEPT, Letter, LetterEnd, LetterFilter, LetterState, NewLetter,
    Position, Store,
};

use super::{FOLLOWER, Subject, contents, words::*};

/// Posts letters with these moments to be due at; returns their ids.
async fn posted(store: &dyn Store, due: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let cursor = store.cursor(FOLLOWER).await.unwrap().unwrap_or_default().0;
    let new: Vec<_> =
        (cursor + 1..).zip(due).map(|(at, due)| new_letter(&project("shop"), at, due)).collect();
    let upto = cursor + u64::try_from(new.len()).unwrap();
    let before = letters(store, &all_letters()).await.last().map_or(0, |letter| letter.id);
    assert!(store.post(FOLLOWER, Position(upto), &new).await.unwrap());
    letters(store, &all_letters()).await.iter().map(|letter| letter.id).filter(|id| *id > before).collect()
}

async fn find(store: &dyn Store, id: u64) -> Option<Letter> {
    letters(store, &all_letters()).await.into_iter().find(|letter| letter.id == id)
}

async fn ids(store: &dyn Store, filter: LetterFilter) -> Vec<u64> {
    letters(store, &filter).await.iter().map(|letter| letter.id).collect()
}

/// Begins to send a letter, and gives it up.
async fn kill(store: &dyn Store, id: u64) {
    assert!(store.begin_sending(id).await.unwrap().is_some());
    assert!(store.settle(id, LetterEnd::Dead { error: "gone".into() }).await.unwrap());
}

/// Letters that no entry is behind leave the cursor alone, are there once, and crowd out as others do.
pub async fn letters_are_added_beside_the_journal(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let added = |key: &str| NewLetter { key: key.to_owned(), ..new_letter(&shop, 1, 9) };
    store.add_letters(FOLLOWER, &[added("x"), added("y"), added("x")]).await.unwrap();
    store.add_letters(FOLLOWER, &[]).await.unwrap();
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), None);
    let keys = async || -> Vec<String> {
        letters(&*store, &all_letters()).await.into_iter().map(|it| it.key).collect()
    };
    assert_eq!(keys().await, ["x", "y"]);
    let first = letters(&*store, &all_letters()).await.remove(0);
    assert_eq!((first.state, first.attempts, first.due_at), (LetterState::Waiting, 0, moment(9)));
    // Those of entries come behind them; what is there already is not there twice, what was sent may be.
    posted(&*store, [1, 1]).await;
    store.add_letters(FOLLOWER, &[added("2"), added("y"), added("z")]).await.unwrap();
    assert_eq!(keys().await, ["x", "y", "1", "2", "z"]);
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), Some(Position(2)));
    store.begin_sending(first.id).await.unwrap().unwrap();
    store.settle(first.id, LetterEnd::Delivered).await.unwrap();
    store.add_letters(FOLLOWER, &[added("x")]).await.unwrap();
    assert_eq!(keys().await, ["y", "1", "2", "z", "x"]);
    let more: Vec<_> = (0..LETTERS_KEPT).map(|n| added(&format!("more-{n}"))).collect();
    store.add_letters(FOLLOWER, &more).await.unwrap();
    let dead = LetterFilter { state: Some(LetterState::Dead), ..all_letters() };
    assert_eq!(ids(&*store, dead).await.len(), 5);
}

/// Letters come by their ids, and only those asked for; the first that is due is known.
pub async fn letters_are_listed_oldest_first(it: &dyn Subject) {
    let store = it.store();
    assert_eq!(store.next_due(FOLLOWER).await.unwrap(), None);
    let all = posted(&*store, [7, 5, 9, 5]).await;
    let [a, b, c, d] = all[..] else { unreachable!("four were posted") };
    let mine = all_letters;
    assert_eq!(ids(&*store, mine()).await, [a, b, c, d]);
    assert!(all.is_sorted_by(|one, other| one < other));
    let letter = find(&*store, a).await.unwrap();
    let expected = Letter::clone(&letter);
    let sent = new_letter(&project("shop"), 1, 7);
    assert_eq!((letter.body, letter.created_at, letter.due_at), (sent.body, moment(7), moment(7)));
    assert_eq!((letter.attempts, letter.state, letter.error), (0, LetterState::Waiting, None));
    assert_eq!(store.next_due(FOLLOWER).await.unwrap(), Some(moment(5)));
    assert_eq!(store.next_due("audit").await.unwrap(), None);

    // That moment included, and not a nanosecond more; also at the full second.
    let due_by = |due_by| LetterFilter { due_by: Some(due_by), ..all_letters() };
    assert_eq!(ids(&*store, due_by(moment(5))).await, [b, d]);
    assert_eq!(ids(&*store, due_by(moment(5) - jiff::SignedDuration::from_nanos(1))).await, [0; 0]);
    assert_eq!(ids(&*store, due_by(moment(8))).await, [a, b, d]);
    let round = |n: i64| jiff::Timestamp::from_second(1_700_000_000 + n).unwrap();
    let at = Position(store.cursor(FOLLOWER).await.unwrap().unwrap().0 + 1);
    let full = NewLetter {
        due_at: round(3),
        position: at,
        key: "full".into(),
        ..new_letter(&project("blog"), 1, 1)
    };
    assert!(store.post(FOLLOWER, at, &[full]).await.unwrap());
    assert_eq!(store.next_due(FOLLOWER).await.unwrap(), Some(round(3)));
    assert_eq!(ids(&*store, due_by(round(3))).await.len(), 1);
    assert_eq!(ids(&*store, due_by(moment(2))).await, [0; 0]);
    assert_eq!(ids(&*store, due_by(moment(3))).await.len(), 1);

    assert_eq!(ids(&*store, LetterFilter { limit: 2, ..mine() }).await, [a, b]);
    assert_eq!(ids(&*store, LetterFilter { limit: 1, ..due_by(moment(5)) }).await, [b]);
    let shop = LetterFilter { project: Some(project("shop")), ..mine() };
    assert_eq!(ids(&*store, shop.clone()).await, [a, b, c, d]);
    assert_eq!(ids(&*store, LetterFilter { channel: Some("mail".into()), ..mine() }).await, [0; 0]);
    assert_eq!(ids(&*store, LetterFilter { channel: Some("chat".into()), ..shop.clone() }).await.len(), 4);
    store.begin_sending(b).await.unwrap().unwrap();
    let in_state = |state| LetterFilter { state: Some(state), ..shop.clone() };
    assert_eq!(ids(&*store, in_state(LetterState::Sending)).await, [b]);
    assert_eq!(ids(&*store, in_state(LetterState::Waiting)).await, [a, c, d]);
    assert_eq!(ids(&*store, in_state(LetterState::Dead)).await, [0; 0]);
    assert_eq!(find(&*store, a).await, Some(expected), "the others are as they were");
    // What is being sent is not due.
    store.begin_sending(d).await.unwrap().unwrap();
    let rest = LetterFilter { due_by: Some(moment(99)), ..in_state(LetterState::Waiting) };
    assert_eq!(ids(&*store, rest).await, [a, c]);
}

/// Of many who begin to send a letter exactly one gets it, each time it waits.
pub async fn of_many_who_send_a_letter_one_gets_it(it: &dyn Subject) {
    let (handles, store) = (handles(it).await, it.store());
    let id = *posted(&*store, [1]).await.first().unwrap();
    assert_eq!(store.begin_sending(id + 1).await.unwrap(), None);
    for attempt in 1..8 {
        let won = at_once(&handles, 8, move |store, _| async move { store.begin_sending(id).await.unwrap() });
        let won: Vec<_> = won.await.into_iter().flatten().collect();
        let [letter] = &won[..] else { unreachable!("won by {won:?}") };
        assert_eq!((letter.state, letter.attempts), (LetterState::Sending, attempt));
        assert_eq!(find(&*store, id).await.as_ref(), Some(letter));
        let again = LetterEnd::Later { due_at: moment(2), error: "no".into() };
        assert!(store.settle(id, again).await.unwrap());
    }
}

/// Delivered ones go, the others wait again or are dead; whoever comes too late changes nothing.
pub async fn a_letter_ends_as_it_was_settled(it: &dyn Subject) {
    let store = it.store();
    let all = posted(&*store, [1, 1]).await;
    let [a, b] = all[..] else { unreachable!("two were posted") };
    let later = |second| LetterEnd::Later { due_at: moment(second), error: format!("try {second}") };
    let dead = || LetterEnd::Dead { error: "refused".into() };
    // Not begun.
    let unsent = || LetterEnd::Unsent { error: "no secret".into() };
    for end in [later(5), unsent(), dead()] {
        assert!(!store.settle(a, end).await.unwrap());
    }
    let before = find(&*store, a).await.unwrap();
    assert_eq!((before.state, before.due_at, before.error), (LetterState::Waiting, moment(1), None));

    store.begin_sending(a).await.unwrap().unwrap();
    assert!(store.settle(a, later(8)).await.unwrap());
    let waiting = find(&*store, a).await.unwrap();
    assert_eq!(
        (waiting.state, waiting.due_at, waiting.attempts, waiting.error.as_deref()),
        (LetterState::Waiting, moment(8), 1, Some("try 8"))
    );
    assert_eq!(waiting.created_at, moment(1));
    store.begin_sending(a).await.unwrap().unwrap();
    assert!(store.settle(a, unsent()).await.unwrap());
    let as_before = Letter { error: Some("no secret".into()), ..waiting };
    assert_eq!(find(&*store, a).await, Some(as_before), "no attempt is counted");
    store.begin_sending(a).await.unwrap().unwrap();
    assert!(store.settle(a, dead()).await.unwrap());
    let given_up = find(&*store, a).await.unwrap();
    assert_eq!(
        (given_up.state, given_up.attempts, given_up.error.as_deref()),
        (LetterState::Dead, 2, Some("refused"))
    );
    assert_eq!(store.begin_sending(a).await.unwrap(), None);
    assert!(!store.settle(a, later(9)).await.unwrap());
    assert_eq!(find(&*store, a).await, Some(given_up));

    store.begin_sending(b).await.unwrap().unwrap();
    assert!(store.settle(b, LetterEnd::Delivered).await.unwrap());
    assert_eq!(find(&*store, b).await, None);
    for end in [LetterEnd::Delivered, later(9), dead()] {
        assert!(!store.settle(b, end).await.unwrap());
    }
    // Its number is not given to another.
    assert!(posted(&*store, [1]).await.first().unwrap() > &b);
    // It arrived after all, though somebody thought the sender dead.
    store.settle(a, LetterEnd::Delivered).await.unwrap();
    assert_eq!(find(&*store, a).await, None);
}

/// A dead letter lives again as if never tried, or is removed by hand.
pub async fn a_dead_letter_can_be_revived_or_forgotten(it: &dyn Subject) {
    let store = it.store();
    let id = *posted(&*store, [50]).await.first().unwrap();
    assert!(!store.revive(id, moment(60)).await.unwrap(), "it lives");
    kill(&*store, id).await;
    assert_eq!(store.next_due(FOLLOWER).await.unwrap(), None);
    assert!(store.revive(id, moment(60)).await.unwrap());
    let letter = find(&*store, id).await.unwrap();
    assert_eq!((letter.state, letter.attempts, letter.due_at), (LetterState::Waiting, 0, moment(60)));
    assert_eq!((letter.error, letter.created_at), (None, moment(60)));
    assert!(!store.revive(id, moment(70)).await.unwrap());
    assert_eq!(store.begin_sending(id).await.unwrap().unwrap().attempts, 1);
    assert!(store.forget(id).await.unwrap());
    assert!(!store.forget(id).await.unwrap());
    assert!(!store.revive(id, moment(80)).await.unwrap());
    assert_eq!(find(&*store, id).await, None);
}

/// A project's letters are limited. The oldest that wait make room, and say so; what is being sent,
/// and other projects, are not touched.
pub async fn too_many_letters_crowd_out_the_oldest(it: &dyn Subject) {
    let (store, most) = (it.store(), u64::try_from(LETTERS_KEPT).unwrap());
    let blog = NewLetter { project: project("blog"), ..new_letter(&project("shop"), 1, 1) };
    assert!(store.post(FOLLOWER, Position(1), &[blog]).await.unwrap());
    let all = posted(&*store, (0..most).map(|_| 1)).await;
    assert_eq!(all.len(), LETTERS_KEPT);
    let first = *all.first().unwrap();
    store.begin_sending(first).await.unwrap().unwrap();
    let dead = LetterFilter { state: Some(LetterState::Dead), ..all_letters() };
    assert_eq!(ids(&*store, dead.clone()).await, [0; 0], "exactly as many as may be");

    posted(&*store, [1, 1]).await;
    let given_up = letters(&*store, &dead).await;
    assert_eq!(given_up.iter().map(|letter| letter.id).collect::<Vec<_>>(), [first + 1, first + 2]);
    for letter in given_up {
        assert!(letter.error.unwrap().contains("more than 10000 letters of shop"));
        assert_eq!(letter.attempts, 0);
    }
    let living = letters(&*store, &all_letters()).await;
    assert_eq!(living.iter().filter(|it| it.project == project("shop")).count(), LETTERS_KEPT + 2);
    assert_eq!(
        living.first().map(|it| (it.project.as_str(), it.state)),
        Some(("blog", LetterState::Waiting))
    );
    assert_eq!(living.get(1).map(|it| (it.id, it.state)), Some((first, LetterState::Sending)));
}

/// Of a project's dead letters the newest are kept, and old ones can be purged.
pub async fn dead_letters_are_purged_and_limited(it: &dyn Subject) {
    let store = it.store();
    // Written at 1, 2 and so on; all but the newest are crowded out at once.
    let most = u64::try_from(LETTERS_KEPT + DEAD_LETTERS_KEPT + 2).unwrap();
    let all = posted(&*store, 1..=most).await;
    let dead = || LetterFilter { state: Some(LetterState::Dead), ..all_letters() };
    assert_eq!(all.len(), LETTERS_KEPT + DEAD_LETTERS_KEPT, "the two oldest went");
    let (dead_ones, living) = all.split_at(DEAD_LETTERS_KEPT);
    assert_eq!(ids(&*store, dead()).await, dead_ones);
    let last = *living.last().unwrap();
    kill(&*store, last).await;
    let (_, kept) = dead_ones.split_first().unwrap();
    let (revived, rest) = kept.split_first().unwrap();
    assert_eq!(ids(&*store, dead()).await, [kept, &[last]].concat());

    // The oldest that is left was written at 4.
    assert_eq!(store.purge_dead(moment(4)).await.unwrap(), 0);
    assert!(store.revive(*revived, moment(9)).await.unwrap());
    assert_eq!(store.purge_dead(moment(7)).await.unwrap(), 2, "one of the three lives");
    assert_eq!(ids(&*store, dead()).await, [rest.get(2..).unwrap(), &[last]].concat());
    let left = store.purge_dead(moment(most + 1)).await.unwrap();
    assert_eq!(usize::try_from(left).unwrap(), rest.len() - 2 + 1);
    assert_eq!(ids(&*store, dead()).await, [0; 0]);
    assert_eq!(ids(&*store, all_letters()).await.len(), LETTERS_KEPT);
}

/// A letter that waits makes room for those it is replaced by, which are new in everything; one that
/// does not wait stays.
pub async fn a_letter_is_replaced_as_a_whole(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let all = posted(&*store, [1, 1, 1, 1]).await;
    let [first, sending, dead, tried] = all[..] else { unreachable!("four were posted") };
    let to = |channel: &str, key: &str| NewLetter {
        channel: channel.to_owned(),
        key: key.to_owned(),
        // Of an entry the cursor has passed long ago.
        ..new_letter(&shop, 1, 9)
    };
    let there = async || -> Vec<(u64, String, String)> {
        let all = letters(&*store, &all_letters()).await.into_iter();
        all.map(|it| (it.id, it.channel, it.key)).collect()
    };
    let cursor = store.cursor(FOLLOWER).await.unwrap();
    // To itself as well: its own place is free then.
    assert!(store.replace(first, &[to("mail", "1"), to("chat", "1"), to("mail", "1")]).await.unwrap());
    let [_, _, _, mail, chat] = &there().await[..] else { unreachable!("three and two") };
    assert_eq!((mail.1.as_str(), chat.1.as_str()), ("mail", "chat"));
    assert!(mail.0 > tried && chat.0 > mail.0, "their numbers are new");
    let letter = find(&*store, mail.0).await.unwrap();
    assert_eq!((letter.follower.as_str(), letter.attempts, letter.error), (FOLLOWER, 0, None));
    assert_eq!(
        (letter.state, letter.created_at, letter.due_at),
        (LetterState::Waiting, moment(9), moment(9))
    );
    assert_eq!((letter.body, letter.key), (new_letter(&shop, 1, 9).body, "1".to_owned()));
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), cursor);

    // Neither one that may have left, nor one that was given up, nor one that is gone.
    store.begin_sending(sending).await.unwrap().unwrap();
    kill(&*store, dead).await;
    let before = contents(&*store, std::slice::from_ref(&shop)).await.unwrap();
    for id in [sending, dead, first, chat.0 + 1] {
        assert!(!store.replace(id, &[to("mail", "new")]).await.unwrap(), "{id}");
    }
    assert_eq!(contents(&*store, std::slice::from_ref(&shop)).await.unwrap(), before);

    // What is there already is not there twice; nobody is somebody, too.
    store.begin_sending(tried).await.unwrap().unwrap();
    let later = LetterEnd::Later { due_at: moment(50), error: "no".into() };
    assert!(store.settle(tried, later).await.unwrap());
    assert!(store.replace(tried, &[to("mail", "1"), to("mail", "4")]).await.unwrap());
    let keys: Vec<_> = there().await.into_iter().map(|(_, channel, key)| (channel, key)).collect();
    let expected = [("chat", "2"), ("chat", "3"), ("mail", "1"), ("chat", "1"), ("mail", "4")];
    assert_eq!(keys, expected.map(|(channel, key)| (channel.to_owned(), key.to_owned())));
    assert!(store.replace(chat.0, &[]).await.unwrap());
    assert_eq!(there().await.len(), 4);

    // Too many crowd out the oldest, as ever.
    let most = u64::try_from(LETTERS_KEPT).unwrap();
    let extra = *posted(&*store, (0..most).map(|_| 1)).await.last().unwrap();
    let waiting = LetterFilter { state: Some(LetterState::Waiting), ..all_letters() };
    let oldest = ids(&*store, LetterFilter { limit: 1, ..waiting.clone() }).await;
    assert!(store.replace(extra, &[to("a", "x"), to("b", "x")]).await.unwrap());
    assert_ne!(ids(&*store, LetterFilter { limit: 1, ..waiting }).await, oldest);
}

/// Of many who replace a letter exactly one does.
pub async fn of_many_who_replace_a_letter_one_is_told_so(it: &dyn Subject) {
    let (handles, store) = (handles(it).await, it.store());
    for id in posted(&*store, [1, 1, 1]).await {
        let before = ids(&*store, all_letters()).await.len();
        let told = at_once(&handles, 8, move |store, n| async move {
            let to = |to: &str| NewLetter {
                channel: format!("{to}{n}"),
                key: id.to_string(),
                ..new_letter(&project("shop"), 1, 1)
            };
            store.replace(id, &[to("mail"), to("chat")]).await.unwrap()
        });
        assert_eq!(told.await.into_iter().filter(|told| *told).count(), 1);
        assert_eq!(ids(&*store, all_letters()).await.len(), before + 1);
    }
}

/// Each project's automatic deploys are switched by themselves; the last word counts.
pub async fn automatic_deploys_are_off_until_switched_on(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let off =
        |at| AutomaticOff { by: Actor::User("ada".into()), reason: Some("frozen".into()), at: moment(at) };
    assert_eq!(store.automatic(&shop).await.unwrap(), None);
    store.set_automatic(&shop, None).await.unwrap();
    for at in [1, 2] {
        store.set_automatic(&shop, Some(off(at))).await.unwrap();
        assert_eq!(store.automatic(&shop).await.unwrap(), Some(off(at)));
    }
    assert_eq!(store.automatic(&project("blog")).await.unwrap(), None);
    store.set_automatic(&shop, None).await.unwrap();
    assert_eq!(store.automatic(&shop).await.unwrap(), None);
}

/// Forgetting a project removes its letters, deliveries, quarantine and switch, and nothing of others.
pub async fn a_forgotten_project_keeps_its_history(it: &dyn Subject) {
    let store = it.store();
    let projects = [project("shop"), project("blog")];
    let [shop, blog] = &projects;
    fill(&*store).await;
    let off = AutomaticOff { by: Actor::Engine, reason: None, at: moment(1) };
    store.set_automatic(shop, Some(off)).await.unwrap();
    let before = contents(&*store, &projects).await.unwrap();
    assert!(before.deliveries.iter().all(|of| !of.is_empty()));
    assert!(!before.letters.is_empty() && before.quarantined.iter().all(|of| !of.is_empty()));
    store.forget_project(shop).await.unwrap();
    let mut expected = before.clone();
    expected.letters.clear();
    expected.deliveries.first_mut().unwrap().clear();
    *expected.quarantined.first_mut().unwrap() = Vec::new();
    *expected.automatic.first_mut().unwrap() = None;
    assert_eq!(contents(&*store, &projects).await.unwrap(), expected);
    store.forget_project(blog).await.unwrap();
    assert_eq!(store.quarantined(blog).await.unwrap(), []);
    assert_eq!(store.automatic(blog).await.unwrap(), None);
    assert_eq!(store.deliveries(blog, 9).await.unwrap(), []);
    assert!(store.take_delivery(&delivery("shop", "7"), &[]).await.unwrap(), "it is not remembered");
    assert!(store.deployment(DeploymentId(4)).await.unwrap().is_some());
    // Again, and of one that never was.
    store.forget_project(blog).await.unwrap();
    store.forget_project(&project("none")).await.unwrap();
}
