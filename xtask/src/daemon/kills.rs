//! Kills a daemon at random moments while commits and deliveries keep coming, and judges what the
//! next one makes of it.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    dice::Dice,
    figures::Spread,
    hook::{self, Hook},
    oracle::{self, Expected, Found},
    place::{Daemon, LOOK, Place},
    repo::{Repo, Shape},
};

/// How soon after its start a daemon takes deliveries again.
const SERVES_WITHIN: Duration = Duration::from_secs(2);

/// How long nothing may have happened before things are taken to stay as they are.
const STILL: Duration = Duration::from_secs(15);

/// How long a delivery is not taken before that is dealt with.
const LIFTED_AFTER: Duration = Duration::from_secs(3);

/// Projects that hear of commits by deliveries only, and such that look, too.
const PROJECTS: [(&str, Looks); 4] = [
    ("hooked-1", Looks::Never),
    ("hooked-2", Looks::Never),
    ("both-1", Looks::Often),
    ("both-2", Looks::Often),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Looks {
    Never,
    Often,
}

/// What is broken on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Seed {
    /// What waited is forgotten.
    Queue,
    /// A delivery is forgotten.
    Delivery,
    /// A file of what is live has changed.
    Content,
    /// Something half-done is left.
    Leftover,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How often to kill.
    pub(crate) kills: usize,
    /// What chance follows from.
    pub(crate) seed: u64,
    /// What to break on purpose.
    pub(crate) broken: Option<Seed>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) found: Found,
    ready: Spread,
    serves: Spread,
    delivered: usize,
    refused: usize,
    lifted: usize,
}

/// One project, what is pushed to it, and what was promised about that.
struct Subject {
    name: &'static str,
    looks: Looks,
    repo: Repo,
    hook: Hook,
    /// The newest commit that was pushed, and the deliveries that were taken.
    state: Mutex<(usize, Vec<String>)>,
}

/// What those who push and deliver share with the one who kills.
struct Stage {
    address: Mutex<Option<SocketAddr>>,
    enough: AtomicBool,
    lifted: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    fn object(&self, words: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(words);
    }

    fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers until somebody promised to do what it asks for. Where that was set aside, because the
    /// daemon died under it three times, it is lifted, as a person would.
    fn deliver(&self, place: &Place, subject: &Subject, id: &str) {
        let mut asked = Instant::now();
        loop {
            if asked.elapsed() > LIFTED_AFTER {
                // The daemon may just have been killed; then again in a while.
                let is_lifted = place.run(&["queue", "lift", subject.name]).is_ok();
                self.lifted.fetch_add(usize::from(is_lifted), Ordering::Relaxed);
                asked = Instant::now();
            }
            let answer = self.address().map(|address| subject.hook.deliver(address, id));
            match answer {
                Some(Ok(answer)) if answer.status == 202 || answer.body.contains("came before") => {
                    let mut state = subject.state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.1.push(id.to_owned());
                    return;
                }
                Some(Ok(answer)) if answer.status < 500 => {
                    return self.object(format!("{id} was answered with {}: {}", answer.status, answer.body));
                }
                // Killed, or busy.
                _ => thread::sleep(LOOK),
            }
        }
    }

    /// Pushes, and delivers, until it is enough.
    fn push(&self, place: &Place, subject: &Subject, mut dice: Dice) -> Result<()> {
        for commit in 1..=subject.repo.commits() {
            subject.repo.push(commit)?;
            subject.state.lock().unwrap_or_else(PoisonError::into_inner).0 = commit;
            if subject.looks == Looks::Never || dice.roll().is_multiple_of(2) {
                self.deliver(place, subject, &format!("{}-{commit}", subject.name));
            }
            if self.is_over() {
                return Ok(());
            }
            thread::sleep(dice.millis(20, 400));
        }
        bail!("{} has no commits left to push", subject.name)
    }

    /// Delivers what is not signed by anybody who knows the secret; returns how often.
    fn annoy(&self, subject: &Subject) -> Result<usize> {
        let mut count = 0;
        while !self.is_over() {
            thread::sleep(Duration::from_millis(20));
            let Some(address) = self.address() else { continue };
            if let Ok(answer) = hook::ask(address, &subject.hook.push("mallory", "another")?) {
                count += 1;
                if answer.status != 401 {
                    self.object(format!("a wrong signature was answered with {}", answer.status));
                }
            }
        }
        Ok(count)
    }
}

/// Carries out `plan` in `folder`.
///
/// # Errors
///
/// Something fails that is no subject of this.
pub(crate) fn run(folder: &Path, program: &Path, plan: Plan) -> Result<Outcome> {
    let place = Place::make(folder, program)?;
    let shape = Shape { files: 8, bytes: 400, commits: 60 + plan.kills * 12 };
    // Long enough to be killed in the middle; longer where what waits is to be forgotten.
    let build = if plan.broken == Some(Seed::Queue) { "sleep 2" } else { "sleep 0.2" };
    let subjects: Vec<Subject> = PROJECTS
        .into_iter()
        .map(|(name, looks)| {
            let repo = Repo::make(&place.repo(name), shape)?;
            let how = if looks == Looks::Never { "poll = false" } else { "interval = \"1s\"" };
            let sections = format!("[build]\ncommands = [\"{build}\", \"cp number built\"]\n");
            place.add(name, &repo.folder().to_string_lossy(), how, &sections)?;
            Ok(Subject { name, looks, hook: place.hook(name)?, repo, state: Mutex::default() })
        })
        .collect::<Result<_>>()?;
    let stage = Stage {
        address: Mutex::new(None),
        enough: AtomicBool::new(false),
        lifted: AtomicUsize::new(0),
        wrong: Mutex::default(),
    };
    let mut dice = Dice::new(plan.seed);
    let (mut ready, mut serves) = (Spread::default(), Spread::default());
    let refused = thread::scope(|scope| {
        let pushers: Vec<_> = subjects
            .iter()
            .map(|subject| {
                let dice = Dice::new(dice.roll());
                scope.spawn(|| stage.push(&place, subject, dice))
            })
            .collect();
        let first = subjects.first().context("there are no projects")?;
        let annoyer = scope.spawn(|| stage.annoy(first));
        // Whatever happens, the others must come to an end.
        let killed = (1..=plan.kills).try_for_each(|kill| {
            let daemon = Daemon::start(&place)?;
            ready.add(daemon.ready()?);
            let probe = format!("probe-{kill}");
            let answer = first.hook.deliver(daemon.address, &probe)?;
            let took = daemon.began.elapsed();
            serves.add(took);
            if answer.status != 202 || took > SERVES_WITHIN {
                let took = took.as_secs_f64();
                stage.object(format!("start {kill}: {} after {took:.2} s: {}", answer.status, answer.body));
            } else {
                first.state.lock().unwrap_or_else(PoisonError::into_inner).1.push(probe);
            }
            *stage.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(daemon.address);
            thread::sleep(dice.millis(20, 1500));
            if kill == plan.kills {
                // The last thing that is promised has to be kept by the next one alone.
                stage.enough.store(true, Ordering::Relaxed);
                while !pushers.iter().all(|pusher| pusher.is_finished()) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            daemon.kill()
        });
        stage.enough.store(true, Ordering::Relaxed);
        killed?;
        for pusher in pushers {
            pusher.join().map_err(|_| anyhow::anyhow!("one who pushes panicked"))??;
        }
        annoyer.join().map_err(|_| anyhow::anyhow!("the annoyer panicked"))?
    })?;
    if let Some(seed @ (Seed::Queue | Seed::Delivery)) = plan.broken {
        oracle::forget(&place, seed)?;
    }
    let expected: Vec<Expected<'_>> = subjects
        .iter()
        .map(|subject| {
            let (commit, deliveries) = subject.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Expected { project: subject.name, repo: &subject.repo, commit, deliveries }
        })
        .collect();
    let daemon = Daemon::start(&place)?;
    daemon.ready()?;
    settle(&place, &expected)?;
    daemon.stop()?;
    if let Some(seed @ (Seed::Content | Seed::Leftover)) = plan.broken {
        oracle::spoil(&place, expected.first().context("there are no projects")?, seed)?;
    }
    let mut found = oracle::judge(&place, &expected)?;
    let lifted = stage.lifted.load(Ordering::Relaxed);
    found.wrong.extend(stage.wrong.into_inner().unwrap_or_else(PoisonError::into_inner));
    let delivered = expected.iter().map(|it| it.deliveries.len()).sum();
    Ok(Outcome { found, ready, serves, delivered, refused, lifted })
}

/// Waits until what is live is what was pushed last, or nothing changes any more.
fn settle(place: &Place, expected: &[Expected<'_>]) -> Result<()> {
    let mut seen = Vec::new();
    let mut since = Instant::now();
    while since.elapsed() < STILL {
        let now: Vec<Option<usize>> = expected.iter().map(|it| oracle::live(place, it.project)).collect();
        if expected.iter().zip(&now).all(|(it, live)| *live == Some(it.commit)) {
            return oracle::at_rest(place, expected);
        }
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl Outcome {
    /// Prints it.
    pub(crate) fn print(&self) {
        let Self { found, ready, serves, delivered, refused, lifted } = self;
        println!("ready after a start     {ready}");
        println!("a delivery taken after  {serves}");
        println!(
            "deliveries taken {delivered}, refused {refused}, lifted {lifted}; deployments {:?}",
            found.outcomes
        );
        found.wrong.iter().for_each(|wrong| println!("  WRONG: {wrong}"));
    }
}

/// Sees that what is broken on purpose is found.
///
/// # Errors
///
/// Something is not.
pub(crate) fn control(folder: &Path, program: &Path) -> Result<()> {
    for (broken, word) in [
        (Seed::Queue, "stays behind"),
        (Seed::Delivery, "is not in the store"),
        (Seed::Content, "not as pushed"),
        (Seed::Leftover, "was left"),
    ] {
        let outcome = run(folder, program, Plan { kills: 2, seed: 1, broken: Some(broken) })?;
        let is_found = outcome.found.wrong.iter().any(|wrong| wrong.contains(word));
        ensure!(is_found, "{broken:?} was broken on purpose and not found: {:?}", outcome.found.wrong);
        println!("broken on purpose and found: {broken:?}");
    }
    Ok(())
}
