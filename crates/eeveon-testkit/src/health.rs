//! What every [`HealthCheck`] must keep.
//!
//! [`check_health`] puts a check before worlds of each temper, each made anew, and looks at what it
//! says and at what it leaves behind.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "only ever part of a test, where a panic is a finding"
)]

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf, time::Duration};

use eeveon_core::{CommitId, ProjectName, ReleaseNumber, untrusted::is_hazard};
use eeveon_health::{HealthCheck, MAX_REASON_BYTES, ProbeError, Reading, Subject};
use tokio::{sync::watch, time::timeout};

/// What the world of a check is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum World {
    /// A healthy answer.
    Healthy,
    /// An answer of something that is not healthy.
    Unhealthy,
    /// Something that takes the question and never answers. The check should have a short limit.
    Silent,
    /// Nobody to ask.
    Absent,
}

impl World {
    const ALL: [Self; 4] = [Self::Healthy, Self::Unhealthy, Self::Silent, Self::Absent];

    fn expects(self, seen: &Result<Reading, ProbeError>) -> bool {
        match self {
            Self::Healthy => *seen == Ok(Reading::Healthy),
            Self::Unhealthy => matches!(seen, Ok(Reading::Unhealthy { .. })),
            Self::Silent => matches!(seen, Err(ProbeError::TimedOut { .. })),
            Self::Absent => seen.is_err(),
        }
    }
}

/// A world, and a check that looks at it.
pub trait Scene: Send + Sync {
    /// Returns the check.
    fn check(&self) -> &dyn HealthCheck;

    /// Returns what it is to look at.
    fn subject(&self) -> Subject {
        subject()
    }

    /// Returns how the looks at this world are counted, if they can be.
    fn looks(&self) -> Option<&Looks> {
        None
    }
}

/// Counts looks as the world sees them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Looks {
    begun: watch::Sender<u32>,
    going_on: watch::Sender<u32>,
}

/// A look that goes on until this is dropped.
#[derive(Debug)]
pub struct Look(watch::Sender<u32>);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Default for Looks {
    fn default() -> Self {
        Self { begun: watch::Sender::new(0), going_on: watch::Sender::new(0) }
    }
}

impl Looks {
    /// Notes that a look has arrived.
    pub fn begin(&self) -> Look {
        self.going_on.send_modify(|count| *count = count.saturating_add(1));
        self.begun.send_modify(|count| *count = count.saturating_add(1));
        Look(self.going_on.clone())
    }

    /// Waits until so many looks have arrived.
    async fn arrived(&self, looks: u32) {
        drop(self.begun.subscribe().wait_for(|count| *count >= looks).await);
    }

    /// Waits until nothing of any look goes on.
    async fn over(&self) {
        drop(self.going_on.subscribe().wait_for(|count| *count == 0).await);
    }
}

/// Returns some release.
pub fn subject() -> Subject {
    Subject {
        project: ProjectName::new("shop").expect("a good name"),
        release: ReleaseNumber(7),
        commit: CommitId::new("c".repeat(40)).expect("a good id"),
        folder: PathBuf::from("/"),
    }
}

/// Subjects as odd as they can be.
fn odd() -> Vec<Subject> {
    let folders = [
        PathBuf::new(),
        PathBuf::from("../.."),
        PathBuf::from("/no\u{1b}[2J/such\n/folder $(touch x) ' \""),
        PathBuf::from(OsString::from_vec(b"/\xff\xfe".to_vec())),
        PathBuf::from("x/".repeat(5000)),
    ];
    let with = |folder| Subject { folder, release: ReleaseNumber(u64::MAX), ..subject() };
    folders.into_iter().map(with).collect()
}

/// No look, and nothing that a look leaves, may take longer.
const WATCHDOG: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, deed: impl Future<Output = T>) -> T {
    timeout(WATCHDOG, deed).await.unwrap_or_else(|_| panic!("{what}: it goes on and on"))
}

/// Puts a check to the test; `make` makes a fresh scene in a world, or nothing where there can be no
/// such world.
///
/// # Panics
///
/// When the check breaks what [`HealthCheck`] promises; the message tells the story.
pub async fn check_health<S: Scene>(make: impl AsyncFn(World) -> Option<S>) {
    let mut worlds = 0;
    for world in World::ALL {
        let Some(scene) = make(world).await else { continue };
        worlds += 1;
        tells_what_it_sees(&scene, world).await;
        looks_at_odd_subjects(&scene, world).await;
        let scene = make(world).await.expect("it was possible before");
        leaves_nothing_when_dropped(&scene, world).await;
    }
    assert!(worlds >= 2, "a check that says the same of every world proves nothing");
}

/// Looks once, once more, and twice at the same time.
async fn tells_what_it_sees(scene: &impl Scene, world: World) {
    let (check, subject) = (scene.check(), scene.subject());
    let name = check.name().to_owned();
    assert!(!name.trim().is_empty(), "a check has a name");
    let first = in_time("a look", check.probe(&subject)).await;
    counted(scene, world, 1).await;
    let second = in_time("a second look", check.probe(&subject)).await;
    counted(scene, world, 2).await;
    let both = async { tokio::join!(check.probe(&subject), check.probe(&subject)) };
    let (third, fourth) = in_time("two looks at once", both).await;
    counted(scene, world, 4).await;
    for seen in [&first, &second, &third, &fourth] {
        assert!(world.expects(seen), "{world:?}: it says {seen:?}");
        is_fit_for_people(seen);
    }
    assert_eq!(check.name(), name, "a check keeps its name");
}

/// Wants that the world was asked once for each look, and that all of them are over.
async fn counted(scene: &impl Scene, world: World, looks: u32) {
    let Some(counter) = scene.looks().filter(|_| world != World::Absent) else { return };
    in_time("a look that arrives", counter.arrived(looks)).await;
    in_time("what a look leaves behind", counter.over()).await;
    assert_eq!(*counter.begun.borrow(), looks, "{world:?}: one look asks once");
}

async fn looks_at_odd_subjects(scene: &impl Scene, world: World) {
    // One limit that runs out is enough.
    let subjects = odd().into_iter().take(if world == World::Silent { 1 } else { usize::MAX });
    for subject in subjects {
        let seen = in_time("a look at an odd subject", scene.check().probe(&subject)).await;
        is_fit_for_people(&seen);
    }
}

/// Gives a look up, at its begin and while it waits for an answer.
async fn leaves_nothing_when_dropped(scene: &impl Scene, world: World) {
    let (check, subject) = (scene.check(), scene.subject());
    let at_once = timeout(Duration::ZERO, check.probe(&subject)).await;
    drop(at_once);
    if let (World::Silent, Some(looks)) = (world, scene.looks()) {
        in_time("a dropped look", looks.over()).await;
        let so_far = *looks.begun.borrow();
        tokio::select! {
            biased;
            () = looks.arrived(so_far.saturating_add(1)) => (),
            seen = check.probe(&subject) => panic!("nobody answered, and it says {seen:?}"),
        }
        in_time("a look that was given up", looks.over()).await;
    }
    let seen = in_time("a look after one that was given up", check.probe(&subject)).await;
    assert!(world.expects(&seen), "{world:?}, after a look that was given up: it says {seen:?}");
}

/// Wants words that are short and can be printed.
fn is_fit_for_people(seen: &Result<Reading, ProbeError>) {
    match seen {
        Ok(Reading::Healthy) => (),
        Ok(Reading::Unhealthy { reason }) => {
            assert!(!reason.as_raw().trim().is_empty(), "there is a reason for being unhealthy");
            assert!(reason.as_raw().len() <= MAX_REASON_BYTES, "the reason is short: {reason:?}");
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() <= 8 * MAX_REASON_BYTES, "the error is short: {words}");
            assert!(!words.chars().any(is_hazard), "the error can be printed: {words:?}");
        }
    }
}
