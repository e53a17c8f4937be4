//! Words an event, once for every channel: a title and facts in a fixed order. Markup is the
//! channels' business.

use std::time::Duration;

use eeveon_core::{Failure, Kind};

use crate::{
    Event, EventKind, Level, Serving,
    text::{line, lines, link, shorten, units},
};

/// How long a fact on one line may be, in UTF-16 code units.
const LINE: usize = 300;

/// How long a fact on several lines may be.
const LINES: usize = 1500;

/// How many causes and commits are listed.
const LISTED: usize = 5;

/// An event in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wording {
    /// What happened, in one line of at most 250 characters, made of names and numbers that are
    /// free of markup.
    pub title: String,
    /// How much it matters.
    pub level: Level,
    /// The facts, most telling last.
    pub facts: Vec<Fact>,
    /// Where to read more: a web address without characters that are markup anywhere.
    pub link: Option<String>,
}

/// One fact of a [`Wording`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fact {
    /// What it is about. Trusted.
    pub name: &'static str,
    /// The fact. Bounded and without control characters, but anyone may have written it: escape it.
    pub value: String,
    /// Whether it wants the full width, and may have several lines.
    pub wide: bool,
}

impl Wording {
    /// Words an event. A failure says what failed, why, what serves now and what to do next.
    pub fn of(event: &Event) -> Self {
        let mut facts = Facts(Vec::new());
        let revision = &event.revision;
        facts.short("Project", event.project.as_str());
        if event.kind != EventKind::NotStarted {
            facts.short("Release", &event.release.to_string());
        }
        if event.kind != EventKind::NotStarted || event.has_commit() {
            let subject = line(revision.subject.as_raw(), LINE);
            facts.short("Commit", &format!("{} {subject}", revision.commit.short()));
        }
        facts.short("Author", revision.author.as_raw());
        facts.short("Branch", event.branch.as_raw());
        facts.short("By", &format!("{} ({})", line(event.actor.as_raw(), LINE), event.trigger.as_str()));
        if !matches!(event.kind, EventKind::Started | EventKind::NotStarted | EventKind::Test) {
            facts.short("Duration", &duration(event.duration_ms));
        }
        if let Some(step) = &event.step {
            let name = if event.kind == EventKind::CheckFlapping { "Check" } else { "Step" };
            facts.short(name, &step.to_string());
        }
        if let Some(reason) = &event.reason {
            facts.wide("Reason", reason.as_raw());
        }
        if !event.quarantined.is_empty() {
            facts.wide("Put aside", &commits(event));
        }
        if let Some(failure) = &event.failure {
            facts.wide("Failed", &format!("{} [{}]", failure.stage.as_str(), failure.code));
            facts.wide("Why", &why(failure));
        }
        facts.wide("Now", &serving(&event.serving));
        facts.wide("Next", &next(event));
        if event.more > 0 {
            facts.wide("More", &format!("and {} more like it", event.more));
        }
        let link = event.link.as_deref().and_then(link);
        Self { title: title(event), level: event.level(), facts: facts.0, link }
    }

    /// Returns the sign that stands for the level.
    pub fn sign(&self) -> &'static str {
        match self.level {
            Level::Success => "✅",
            Level::Failure => "❌",
            Level::Warning => "⚠️",
            Level::Info => "ℹ️",
        }
    }

    /// Returns the facts as plain text, one a line.
    pub fn plain(&self) -> String {
        let facts = self.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value));
        facts.collect::<Vec<_>>().join("\n")
    }

    /// Shortens the longest facts until `size` says that the whole is within `limit`. As it is
    /// facts that are cut, before they are escaped, nothing else is ever cut.
    #[must_use]
    pub fn within(mut self, limit: usize, size: impl Fn(&Self) -> usize) -> Self {
        while size(&self) > limit {
            let Some(longest) = self.facts.iter_mut().max_by_key(|fact| units(&fact.value)) else { break };
            match units(&longest.value) {
                0..=20 => {
                    self.facts.pop();
                }
                long => longest.value = shorten(&longest.value, long.saturating_mul(3) / 4),
            }
        }
        self
    }
}

struct Facts(Vec<Fact>);

impl Facts {
    fn push(&mut self, name: &'static str, value: String, wide: bool) {
        // Several services refuse empty values.
        if !value.trim().is_empty() {
            self.0.push(Fact { name, value, wide });
        }
    }

    fn short(&mut self, name: &'static str, raw: &str) {
        self.push(name, line(raw, LINE), false);
    }

    fn wide(&mut self, name: &'static str, raw: &str) {
        self.push(name, lines(raw, LINES), true);
    }
}

pub(crate) fn title(event: &Event) -> String {
    let release = event.release;
    let still = match &event.serving {
        Serving::Release { release, .. } => format!("release {release} still serves"),
        Serving::Nothing => "nothing serves".to_owned(),
        Serving::Either { .. } => "look at what serves".to_owned(),
    };
    let what = match (event.kind, event.operation) {
        (EventKind::Started, Kind::Deploy) => format!("deploying release {release}"),
        (EventKind::Started, Kind::Rollback) => format!("going back to release {release}"),
        (EventKind::Succeeded, Kind::Deploy) => format!("release {release} is live"),
        (EventKind::Succeeded, Kind::Rollback) => format!("back to release {release}, which is live again"),
        (EventKind::NotStarted, _) => format!("no deployment could begin, {still}"),
        (EventKind::Failed, _) => format!("release {release} failed, {still}"),
        (EventKind::RolledBack, _) => match &event.serving {
            Serving::Release { release: old, .. } => {
                format!("release {release} failed after the switch and was rolled back, release {old} serves")
            }
            _ => format!("release {release} failed after the switch and was taken back, {still}"),
        },
        (EventKind::Refused, _) => format!("release {release} was refused, {still}"),
        (EventKind::Cancelled, _) => format!("release {release} was stopped, {still}"),
        (EventKind::WaitingForApproval, _) => format!("release {release} waits for approval"),
        (EventKind::Parked, _) => format!("release {release} waits for a person"),
        (EventKind::Quarantined, _) => match event.quarantined.as_slice() {
            [one] => format!("commit {} is quarantined", one.short()),
            many => format!("{} commits are quarantined", many.len()),
        },
        (EventKind::CheckFlapping, _) => format!("a check of release {release} did not pass at once"),
        (EventKind::Test, _) => "a test message, nothing happened".to_owned(),
    };
    format!("{}: {what}", event.project)
}

/// Says what went wrong and what led to it.
pub(crate) fn why(failure: &Failure) -> String {
    let mut said = vec![lines(&failure.message, 600)];
    said.extend(failure.causes.iter().take(LISTED).map(|cause| lines(cause, 400)));
    let left = failure.causes.len().saturating_sub(LISTED);
    if left > 0 {
        said.push(format!("and {left} causes more"));
    }
    said.join("\n")
}

/// Says what serves.
pub(crate) fn serving(serving: &Serving) -> String {
    match serving {
        Serving::Release { release, revision: Some(commit) } => {
            format!("release {release} serves, commit {}", commit.short())
        }
        Serving::Release { release, revision: None } => format!("release {release} serves"),
        Serving::Nothing => "nothing serves: there was no release before".to_owned(),
        Serving::Either { new, old: Some(old) } => {
            format!("release {new} or release {old} serves: the switch may or may not have happened")
        }
        Serving::Either { new, old: None } => {
            format!("release {new} may serve: the switch may or may not have happened")
        }
    }
}

/// Says what to do, as commands where there are some.
fn next(event: &Event) -> String {
    let (project, deployment) = (&event.project, event.deployment);
    let hint = event.failure.as_ref().and_then(|failure| failure.hint.as_deref()).unwrap_or_default();
    let commands = match event.kind {
        EventKind::Failed | EventKind::RolledBack | EventKind::Refused => {
            format!("ee-deploy why {deployment}")
        }
        EventKind::NotStarted => format!("ee-deploy check {project}\nee-deploy why {project}"),
        EventKind::WaitingForApproval => {
            format!("ee-deploy approve {project}\nee-deploy reject {project} --reason WHY")
        }
        EventKind::Parked => {
            format!(
                "ee-deploy why {deployment}\n\
                 ee-deploy resume {deployment} (tries again)\n\
                 ee-deploy resume {deployment} --skip (goes on without this step)\n\
                 ee-deploy cancel {deployment} (goes back, where there is a way back)"
            )
        }
        EventKind::Quarantined => match event.quarantined.first() {
            Some(commit) => format!("ee-deploy quarantine {project} {} --lift", commit.short()),
            None => String::new(),
        },
        EventKind::CheckFlapping => format!("ee-deploy logs {deployment}"),
        EventKind::Started | EventKind::Succeeded | EventKind::Cancelled | EventKind::Test => String::new(),
    };
    format!("{}\n{commands}", lines(hint, 600))
}

fn commits(event: &Event) -> String {
    let mut listed: Vec<&str> = event.quarantined.iter().take(LISTED).map(|commit| commit.short()).collect();
    let left = format!("and {} more", event.quarantined.len().saturating_sub(LISTED));
    if event.quarantined.len() > LISTED {
        listed.push(&left);
    }
    listed.join(" ")
}

/// Returns a duration for people, such as `1 min 23 s`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{ms} ms"),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_exact_enough() {
        let said: Vec<String> = [0, 850, 1_000, 83_000, 11_000_000].map(duration).into();
        assert_eq!(said, ["0 ms", "850 ms", "1 s", "1 min 23 s", "3 h 3 min"]);
    }
}
