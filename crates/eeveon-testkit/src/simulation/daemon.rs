//! The daemon that is simulated: the real parts, put together the way a daemon does.

use std::time::Duration;

use eeveon_core::ProjectName;
use eeveon_daemon::{
    DaemonError, Decision, Edge, Event, Graph, Limits, Missed, Polling, PollingConfig, Progress, Queue,
    Schedule, SpanConfig, Watch, WindowConfig, Windows,
};
use jiff::Timestamp;

use super::{Flaw, scenario::Scenario};

/// What survives the daemon's process.
#[derive(Clone)]
pub(super) struct Disk {
    queue: String,
    progress: String,
    handled: Vec<Timestamp>,
    /// Successes of the journal that were taken into account.
    cursor: usize,
}

impl Disk {
    /// Drops what waits for a project, as the command does that removes it while no daemon works.
    pub(super) fn forget(&mut self, project: &ProjectName) -> Result<Vec<Decision>, DaemonError> {
        let mut queue = Queue::load(&self.queue, Limits::default())?;
        let told = queue.handle(Event::Gone(project.clone()));
        self.queue = queue.save()?;
        Ok(told)
    }
}

/// Settings, which never change.
pub(super) struct Settings {
    pub(super) names: Vec<ProjectName>,
    pub(super) graph: Graph,
    pub(super) windows: Option<Windows>,
    pub(super) schedules: Vec<Option<Schedule>>,
    limits: Limits,
    watches: Vec<Option<Watch>>,
}

impl Settings {
    pub(super) fn new(scenario: &Scenario) -> Result<Self, DaemonError> {
        let names: Vec<_> = (0..scenario.projects.len())
            .filter_map(|number| ProjectName::new(format!("p{number}")).ok())
            .collect();
        let setups = || scenario.projects.iter().zip(&names);
        let edges = setups().filter_map(|(setup, name)| {
            let (after, follow) = setup.after?;
            Some(Edge { project: name.clone(), after: names.get(after)?.clone(), follow })
        });
        let graph = Graph::new(edges)?;
        let schedule = |minute: u64| Schedule::parse(&format!("{minute} * * * *"), "UTC");
        let schedules = setups().map(|(setup, _)| setup.schedule.map(schedule).transpose());
        let deny = SpanConfig { from: "01:00".parse()?, to: "02:00".parse()?, ..SpanConfig::default() };
        let windows = match scenario.projects.iter().any(|setup| setup.window) {
            true => Some(Windows::new(&WindowConfig { deny: vec![deny], ..WindowConfig::default() })?),
            false => None,
        };
        let watches = setups().map(|(setup, _)| {
            let interval = Duration::from_secs(300);
            setup.after.is_none().then(|| Watch { interval, host: format!("host{}", setup.host) })
        });
        Ok(Self {
            schedules: schedules.collect::<Result<_, _>>()?,
            watches: watches.collect(),
            limits: Limits {
                running: scenario.running,
                waiting: scenario.waiting,
                waiting_per_project: scenario.waiting,
            },
            graph,
            windows,
            names,
        })
    }
}

/// One process of the daemon.
pub(super) struct Daemon {
    pub(super) queue: Queue,
    pub(super) progress: Progress,
    pub(super) polling: Polling,
    pub(super) handled: Vec<Timestamp>,
    pub(super) cursor: usize,
    /// When windows have something else to say.
    pub(super) window_change: Option<Timestamp>,
    pub(super) is_shut: bool,
    /// When a schedule has to be looked at again.
    pub(super) schedule_next: Vec<Option<Timestamp>>,
    /// The clock as it was last read.
    pub(super) read: Timestamp,
    pub(super) draining: bool,
    /// Decisions that are to be acted on when the queue is saved.
    pub(super) pending: Vec<Decision>,
}

impl Daemon {
    /// Begins with what an earlier process left.
    pub(super) fn boot(
        settings: &Settings,
        disk: Option<&Disk>,
        now: Timestamp,
        seed: u64,
        flaw: Option<Flaw>,
    ) -> Result<Self, DaemonError> {
        let queue = match disk {
            Some(disk) if flaw != Some(Flaw::ForgetQueue) => Queue::load(&disk.queue, settings.limits)?,
            _ => Queue::new(settings.limits),
        };
        let progress = disk.map_or_else(|| Ok(Progress::default()), |disk| Progress::load(&disk.progress))?;
        let yesterday = now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now);
        let handled = match disk {
            Some(disk) if flaw != Some(Flaw::ForgetSchedule) => disk.handled.clone(),
            Some(_) => vec![yesterday; settings.names.len()],
            None => vec![now; settings.names.len()],
        };
        let mut polling = Polling::new(PollingConfig::default(), seed);
        for (name, watch) in settings.names.iter().zip(&settings.watches) {
            if let Some(watch) = watch {
                polling.watch(name.clone(), watch.clone(), now);
            }
        }
        Ok(Self {
            queue,
            progress,
            polling,
            schedule_next: vec![Some(now); handled.len()],
            handled,
            cursor: disk.map_or(0, |disk| disk.cursor),
            window_change: Some(now),
            is_shut: false,
            read: now,
            draining: false,
            pending: Vec::new(),
        })
    }

    pub(super) fn save(&self) -> Result<Disk, DaemonError> {
        Ok(Disk {
            queue: self.queue.save()?,
            progress: self.progress.save()?,
            handled: self.handled.clone(),
            cursor: self.cursor,
        })
    }

    /// Says whether a project has something that waits or runs.
    pub(super) fn is_busy(&self, name: &ProjectName) -> bool {
        self.queue.waiting().any(|waiting| waiting.ask.project == *name)
            || self.queue.running().any(|running| running.ask.project == *name)
    }

    /// Returns the schedule's time that has come, if there is one, and notes that it was dealt with.
    pub(super) fn scheduled(
        &mut self,
        schedule: &Schedule,
        project: usize,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let next = self.schedule_next.get_mut(project)?;
        let handled = self.handled.get_mut(project)?;
        if next.is_none_or(|next| now < next) && now >= self.read {
            return None;
        }
        let due = schedule.due(*handled, now, Missed::Once);
        (*next, *handled) = (due.next, due.handled);
        due.run
    }
}
