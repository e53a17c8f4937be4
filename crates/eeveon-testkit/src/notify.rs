//! The contract of every `Notifier`: what no channel may do otherwise.
//!
//! A channel's own test makes a [`Rig`], a notifier with a service it can spoil, and calls
//! [`run_all`]. Every property is also a function of its own, to be run alone while looking for a
//! fault.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a contract is broken by panicking")]

mod events;
mod service;

use std::{error::Error, fmt::Debug, sync::Arc, time::Duration};

use eeveon_core::{Diagnose, Retry};
use eeveon_notify::{EventKind, Message, Notifier, NotifyError};

pub use self::{
    events::{event, hostile, hostile_texts, naughty_texts},
    service::{Received, Reply, Service},
};

/// How a service behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    /// It takes what it is given, if that is within its limits.
    Accepting,
    /// It breaks down with every request.
    Broken,
    /// It does not know us any more, and says so in words that hold what we sent.
    Denying,
    /// It asks to wait for seven seconds.
    Throttling,
}

/// How long a [`Mood::Throttling`] service asks to wait.
pub const WAIT: Duration = Duration::from_secs(7);

/// A notifier under test and the service it talks to, which must refuse what its real counterpart
/// would refuse.
pub trait Rig: Sync {
    /// Returns the notifier.
    fn notifier(&self) -> Arc<dyn Notifier>;

    /// Makes the service behave like this from now on.
    fn set(&self, mood: Mood);

    /// Returns all messages the service has accepted so far, each as what people would read.
    fn accepted(&self) -> Vec<String>;

    /// Returns what nobody may ever see: addresses, tokens, passwords.
    fn secrets(&self) -> Vec<String>;

    /// Tells whether the service has a way to say that it wants to wait.
    fn throttles(&self) -> bool {
        true
    }

    /// Tells whether a check can find out that the service does not know us.
    fn check_proves_login(&self) -> bool {
        true
    }
}

/// Proves every property.
pub async fn run_all(rig: &dyn Rig) {
    every_kind_arrives_once(rig).await;
    hostile_texts_arrive(rig).await;
    a_breakdown_is_worth_another_attempt(rig).await;
    a_denial_is_final(rig).await;
    a_wish_to_wait_is_passed_on(rig).await;
    a_check_sends_nothing(rig).await;
    many_at_once_arrive(rig).await;
}

/// An event of every kind arrives, once, and says which project it is about.
pub async fn every_kind_arrives_once(rig: &dyn Rig) {
    rig.set(Mood::Accepting);
    let notifier = rig.notifier();
    assert!(!notifier.name().trim().is_empty(), "a channel has a name");
    shows_no_secret(rig, &notifier);
    for kind in EventKind::ALL {
        let before = rig.accepted().len();
        notifier.notify(&Message::of(event(kind))).await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        let accepted = rig.accepted();
        assert_eq!(accepted.len(), before + 1, "{kind} arrives once");
        assert!(accepted.last().unwrap().contains("shop"), "{kind}: {accepted:?}");
    }
}

/// Whatever stands in a commit, a message arrives.
pub async fn hostile_texts_arrive(rig: &dyn Rig) {
    rig.set(Mood::Accepting);
    let notifier = rig.notifier();
    for text in hostile_texts() {
        for event in hostile(&text) {
            let before = rig.accepted().len();
            let sent = notifier.notify(&Message::of(event)).await;
            sent.unwrap_or_else(|error| panic!("{:.80}: {error:?}", text.escape_debug().to_string()));
            assert_eq!(rig.accepted().len(), before + 1, "a message arrives once");
        }
    }
}

/// A service that broke down is tried again, and a later attempt arrives.
pub async fn a_breakdown_is_worth_another_attempt(rig: &dyn Rig) {
    let notifier = rig.notifier();
    let before = rig.accepted().len();
    rig.set(Mood::Broken);
    let message = Message::of(event(EventKind::Failed));
    let error = notifier.notify(&message).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "{error:?}");
    tells_nothing(rig, &error);
    assert_eq!(rig.accepted().len(), before);
    rig.set(Mood::Accepting);
    notifier.notify(&message).await.unwrap();
    assert_eq!(rig.accepted().len(), before + 1);
}

/// A service that does not know us is not tried again, and what it says gives nothing away.
pub async fn a_denial_is_final(rig: &dyn Rig) {
    let notifier = rig.notifier();
    rig.set(Mood::Denying);
    let error = notifier.notify(&Message::of(event(EventKind::Succeeded))).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never, "{error:?}");
    assert!(error.hint().is_some() && error.code().starts_with("notify/"), "{error:?}");
    tells_nothing(rig, &error);
    rig.set(Mood::Accepting);
}

/// How long a service wants to wait is told to who delivers.
pub async fn a_wish_to_wait_is_passed_on(rig: &dyn Rig) {
    if !rig.throttles() {
        return;
    }
    let notifier = rig.notifier();
    rig.set(Mood::Throttling);
    let error = notifier.notify(&Message::of(event(EventKind::Succeeded))).await.unwrap_err();
    assert!(matches!(error, NotifyError::Throttled { .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(WAIT), "{error:?}");
    assert_eq!(error.retry(), Retry::Later);
    tells_nothing(rig, &error);
    rig.set(Mood::Accepting);
}

/// A check says in one line what it proved, and sends nothing.
pub async fn a_check_sends_nothing(rig: &dyn Rig) {
    let notifier = rig.notifier();
    rig.set(Mood::Accepting);
    let before = rig.accepted().len();
    let proven = notifier.check().await.unwrap();
    assert!(!proven.trim().is_empty() && proven.lines().count() == 1, "{proven:?}");
    shows_no_secret(rig, &proven);
    if rig.check_proves_login() {
        rig.set(Mood::Denying);
        let error = notifier.check().await.unwrap_err();
        tells_nothing(rig, &error);
        rig.set(Mood::Accepting);
    }
    assert_eq!(rig.accepted().len(), before, "a check sends nothing");
}

/// A channel can be used by several at once.
pub async fn many_at_once_arrive(rig: &dyn Rig) {
    rig.set(Mood::Accepting);
    let notifier = rig.notifier();
    let before = rig.accepted().len();
    let sent = (0..10).map(|_| {
        let notifier = Arc::clone(&notifier);
        async move { notifier.notify(&Message::of(event(EventKind::Succeeded))).await }
    });
    for result in futures::future::join_all(sent).await {
        result.unwrap();
    }
    assert_eq!(rig.accepted().len(), before + 10);
}

/// Proves that an error gives no secret away, in any of its forms.
pub fn tells_nothing(rig: &dyn Rig, error: &NotifyError) {
    shows_no_secret(rig, error);
    let mut causes = vec![error.to_string()];
    let mut source = Error::source(error);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    causes.extend(error.hint().map(Into::into));
    causes.extend(error.details().map(|details| details.to_string()));
    shows_no_secret(rig, &causes);
}

fn shows_no_secret(rig: &dyn Rig, shown: &dyn Debug) {
    let text = format!("{shown:?}");
    for secret in rig.secrets() {
        assert!(!text.contains(&secret), "a secret can be seen in {text}");
    }
}
