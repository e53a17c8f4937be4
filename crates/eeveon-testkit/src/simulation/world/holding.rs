//! What keeps deployments from starting: windows, freezes, projects that are switched off or worked on.

#![expect(
    clippy::indexing_slicing,
    reason = "lists have one place per project, and a wrong one is a bug to stop at"
)]

use eeveon_daemon::{Event, Held, RequestId, State};

use super::{super::Flaw, World};

impl World<'_> {
    pub(super) fn is_stopped(&self, project: usize) -> bool {
        self.now < self.places[project].stopped
    }

    pub(super) fn is_gone(&self, project: usize) -> bool {
        self.now < self.places[project].gone
    }

    /// Somebody removes a project. Whether a daemon works or not, nothing of it waits any longer.
    pub(super) fn remove(&mut self, project: usize, seconds: i64) {
        // What may begin by now has begun.
        self.hold();
        self.places[project].gone = self.now + seconds;
        self.places[project].removed = self.newest;
        if self.daemon.is_some() {
            return self.forget(project);
        }
        let forgotten = match &mut self.disk {
            Some(disk) if self.flaw != Some(Flaw::KeepGone) => disk.forget(&self.settings.names[project]),
            _ => return,
        };
        match forgotten {
            Ok(decisions) => self.tell(&decisions),
            Err(error) => self.oracle.broke(|| error.to_string()),
        }
    }

    /// Lets the daemon drop what waits for a project.
    pub(super) fn forget(&mut self, project: usize) {
        if self.flaw != Some(Flaw::KeepGone) {
            self.feed(Event::Gone(self.settings.names[project].clone()));
        }
    }

    /// What could not begin waits in line again, and a while.
    pub(super) fn deferred(&mut self, request: RequestId) {
        let Some(daemon) = &self.daemon else { return };
        if let Some(ask) = daemon.queue.find(request) {
            let project = self.project(&ask.project.clone());
            self.places[project].paused = self.now + 60;
        }
        self.feed(match self.flaw {
            Some(Flaw::LoseDeferred) => Event::Ended(request),
            _ => Event::Deferred(request),
        });
    }

    /// Tells the queue what may not be deployed now.
    pub(super) fn hold(&mut self) {
        let (now, second) = (self.clock(), self.now);
        let Some(daemon) = &mut self.daemon else { return };
        if let Some(windows) = &self.settings.windows
            && (daemon.window_change.is_none_or(|change| change <= now) || now < daemon.read)
        {
            daemon.window_change = windows.next_change(now);
            daemon.is_shut = windows.state(now) != State::Open && self.flaw != Some(Flaw::IgnoreWindows);
        }
        let projects = self.scenario.projects.iter().zip(&self.places).zip(&self.settings.names);
        for ((setup, place), name) in projects {
            let held = Held {
                shut: setup.window && daemon.is_shut || second < place.frozen,
                stopped: second < place.stopped && self.flaw != Some(Flaw::IgnoreStop),
                paused: second < place.paused,
            };
            if daemon.queue.held(name) != held {
                let started = daemon.queue.handle(Event::Hold { project: name.clone(), held });
                daemon.pending.extend(started);
            }
        }
        let pending = std::mem::take(&mut daemon.pending);
        if !pending.is_empty() {
            match daemon.save() {
                Ok(disk) => self.disk = Some(disk),
                Err(error) => self.oracle.broke(|| error.to_string()),
            }
            self.act_on(pending);
        }
    }
}
