//! Following a deployment as it happens: live lines on a terminal, plain lines elsewhere, journal
//! entries as JSON. A reader of the feed like any other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eeveon_core::{Entry, Feed, Progress, Record, StepKey, StepSpec};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tokio::{sync::broadcast::error::RecvError, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Line, Ui, describe_step, does_something, duration, label, leaves_something, size};

/// Follows `feed` until the returned follower is finished.
pub(crate) fn watch(ui: Ui, feed: &Feed) -> Follower {
    let (mut entries, mut progress) = (feed.subscribe(), feed.progress());
    let done = CancellationToken::new();
    let finished = done.clone();
    let task = tokio::spawn(async move {
        let mut view = View::new(ui);
        loop {
            tokio::select! {
                biased;
                entry = entries.recv() => match entry {
                    Ok(entry) => view.entry(&entry),
                    // The journal has what was missed; a person watching does not miss it.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
                Ok(step) = progress.recv() => view.progress(&step.step, step.progress),
                () = finished.cancelled() => break,
            }
        }
        while let Ok(entry) = entries.try_recv() {
            view.entry(&entry);
        }
    });
    Follower { task, done }
}

/// Something that follows a feed.
#[must_use = "a follower that is dropped goes on"]
pub(crate) struct Follower {
    task: JoinHandle<()>,
    done: CancellationToken,
}

impl Follower {
    /// Shows what is still to be shown and ends.
    pub(crate) async fn finish(self) {
        self.done.cancel();
        // A follower that panicked has nothing left to show.
        let _shown = self.task.await;
    }
}

struct View {
    ui: Ui,
    bars: MultiProgress,
    steps: BTreeMap<StepKey, StepSpec>,
    running: BTreeMap<StepKey, (Timestamp, Option<ProgressBar>)>,
}

impl View {
    fn new(ui: Ui) -> Self {
        let target = match ui.is_live() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Self {
            ui,
            bars: MultiProgress::with_draw_target(target),
            steps: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    fn entry(&mut self, entry: &Arc<Entry>) {
        if self.ui.json {
            // Standard output closed under us is noticed by the command's last line.
            let _noticed_later = self.ui.json(&**entry);
            return;
        }
        match &entry.record {
            Record::Opened { plan, .. } => {
                self.steps = plan.steps().map(|step| (step.key.clone(), step.clone())).collect();
            }
            Record::Started { step, .. } if self.is_shown(step) => self.begin(step, entry.at, ""),
            Record::UndoStarted { step, .. } if self.is_shown_taken_back(step) => {
                self.begin(step, entry.at, self.taking_back(step));
            }
            Record::Finished { step, output } if self.is_shown(step) => {
                let detail = self.steps.get(step).map(|spec| describe_step(spec, output)).unwrap_or_default();
                self.end(step, entry.at, Line::default().good("  ok    "), "", &detail);
            }
            Record::UndoFinished { step } if self.is_shown_taken_back(step) => {
                let prefix = self.taking_back(step);
                self.end(step, entry.at, Line::default().dim("  back  "), prefix, "");
            }
            Record::Failed { step, failure } => {
                self.end(step, entry.at, Line::default().bad("  FAIL  "), "", &failure.message);
            }
            Record::Parked { step, failure } => {
                let why = failure.as_ref().map(|it| it.message.clone()).unwrap_or_default();
                self.end(step, entry.at, Line::default().bad("  WAIT  "), "", &why);
            }
            Record::Cancelled { by, reason } => {
                let reason = reason.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
                let text = format!("cancelled by {}{reason}; taking back", by.label().for_terminal());
                self.say(Line::default().warn("  stop  ").plain(text));
            }
            Record::Started { .. }
            | Record::Finished { .. }
            | Record::UndoStarted { .. }
            | Record::UndoFinished { .. }
            | Record::Unparked { .. }
            | Record::Closed { .. } => {}
        }
    }

    fn is_shown(&self, step: &StepKey) -> bool {
        self.steps.get(step).is_none_or(does_something)
    }

    fn is_shown_taken_back(&self, step: &StepKey) -> bool {
        self.steps.get(step).is_none_or(leaves_something)
    }

    /// How taking a step back is called: for a proof it is what it is there for.
    fn taking_back(&self, step: &StepKey) -> &'static str {
        match self.steps.get(step).is_some_and(|it| it.action == "health.verify") {
            true => "",
            false => "take back ",
        }
    }

    fn name(&self, step: &StepKey) -> String {
        self.steps.get(step).map_or_else(|| step.to_string(), label)
    }

    fn begin(&mut self, step: &StepKey, at: Timestamp, prefix: &str) {
        let bar = self.ui.is_live().then(|| {
            let name = Line::new(format!("{prefix}{}", self.name(step))).render(false);
            spin(self.bars.add(ProgressBar::new_spinner()), name)
        });
        self.running.insert(step.clone(), (at, bar));
    }

    fn progress(&mut self, step: &StepKey, progress: Progress) {
        let Some((_, Some(bar))) = self.running.get(step) else { return };
        bar.set_message(how_far(progress));
    }

    fn end(&mut self, step: &StepKey, at: Timestamp, mark: Line, prefix: &str, detail: &str) {
        let began = match self.running.remove(step) {
            Some((began, bar)) => {
                bar.inspect(ProgressBar::finish_and_clear);
                began
            }
            None => at,
        };
        let took = Duration::try_from(at.duration_since(began)).unwrap_or_default();
        let name = format!("{prefix}{}", self.name(step));
        self.say(finished(mark, &name, took, detail));
    }

    fn say(&self, line: Line) {
        self.bars.suspend(|| self.ui.note(line));
    }
}

/// Something that takes a while outside a deployment, such as a fetch: a live line while it lasts,
/// a plain one when it is done.
pub(crate) struct Activity {
    ui: Ui,
    name: &'static str,
    began: std::time::Instant,
    bar: Option<ProgressBar>,
}

impl Activity {
    /// Begins.
    pub(crate) fn begin(ui: &Ui, name: &'static str) -> Self {
        let bar = ui.is_live().then(|| spin(ProgressBar::new_spinner(), name.to_owned()));
        Self { ui: *ui, name, began: std::time::Instant::now(), bar }
    }

    /// Returns what a permit reports to.
    pub(crate) fn reporter(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let bar = self.bar.clone();
        move |progress| {
            if let Some(bar) = &bar {
                bar.set_message(how_far(progress));
            }
        }
    }

    /// Ends well.
    pub(crate) fn end(self, detail: &str) {
        self.bar.as_ref().inspect(|bar| bar.finish_and_clear());
        if !self.ui.json {
            self.ui.note(finished(Line::default().good("  ok    "), self.name, self.began.elapsed(), detail));
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.bar.as_ref().inspect(|bar| bar.finish_and_clear());
    }
}

/// Sets a live line going: what it is, how far it has come, for how long it runs.
fn spin(bar: ProgressBar, name: String) -> ProgressBar {
    let style = ProgressStyle::with_template("  {spinner}     {prefix:16}  {msg}  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_prefix(name);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn how_far(progress: Progress) -> String {
    match progress {
        Progress::Files { done, total } => format!("{done} of {total} files"),
        Progress::Bytes { done, total: Some(total) } => format!("{} of {}", size(done), size(total)),
        Progress::Bytes { done, total: None } => size(done),
    }
}

fn finished(mark: Line, name: &str, took: Duration, detail: &str) -> Line {
    let line = mark.plain(format!("{name:<16}")).dim(format!("  {:>9}", duration(took)));
    match detail {
        "" => line,
        detail => line.plain("  ").plain(detail),
    }
}
