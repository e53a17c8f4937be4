//! `releases`: those that are kept, which one is live, which are quarantined.

use clap::Args;
use eeveon_core::{CommitId, ReleaseNumber, Untrusted};
use eeveon_store::ReleaseStatus;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    compose::Site,
    render::{Line, Table, age, size},
    situation, view,
};

/// List the releases that are kept.
///
/// What is listed was found on the target; the store adds what it knows of each.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy releases shop --pin 12")]
pub struct Releases {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// Keep this release whatever its age
    #[arg(long, value_name = "RELEASE", conflicts_with = "unpin")]
    pin: Option<u64>,
    /// Let a pinned release go again
    #[arg(long, value_name = "RELEASE")]
    unpin: Option<u64>,
}

#[derive(Serialize)]
struct Row {
    release: ReleaseNumber,
    revision: Option<CommitId>,
    subject: Option<Untrusted>,
    status: Option<ReleaseStatus>,
    live: bool,
    usable: bool,
    quarantined: bool,
    pinned: bool,
    /// Whether going back past it asks a person.
    irreversible: bool,
    size_bytes: u64,
    created_at: Option<Timestamp>,
}

impl Releases {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let site = Site::open(app, &app.project(&self.name)?).await?;
        for (number, pinned) in [(self.pin, true), (self.unpin, false)] {
            let Some(number) = number else { continue };
            if !app.store.pin(&site.name, ReleaseNumber(number), pinned).await? {
                let message = format!("there is no release {number} of {}", site.name);
                return Err(CliError::usage(
                    message,
                    format!("`ee-deploy releases {}` lists them", site.name),
                ));
            }
        }
        let situation = situation::survey(app, &site).await?;
        let live = situation.live.as_ref().map(|live| live.release);
        let rows: Vec<Row> = situation
            .present
            .iter()
            .rev()
            .map(|present| {
                let known = view::known(&situation.known, present.release);
                let commit = known.map(|it| it.release.revision.commit.clone());
                Row {
                    release: present.release,
                    quarantined: situation
                        .put_aside
                        .iter()
                        .any(|aside| Some(&aside.commit) == commit.as_ref()),
                    revision: commit,
                    subject: known.map(|it| it.release.revision.subject.clone()),
                    status: known.map(|it| it.status),
                    live: live == Some(present.release),
                    usable: present.usable,
                    pinned: known.is_some_and(|it| it.pinned),
                    irreversible: known.is_some_and(|it| it.irreversible),
                    size_bytes: present.bytes,
                    created_at: known.map(|it| it.created_at),
                }
            })
            .collect();
        if app.ui.json {
            app.ui.json(&rows)?;
            return Ok(Exit::Done);
        }
        if rows.is_empty() {
            app.ui.note(Line::new("no releases yet"));
            return Ok(Exit::Done);
        }
        let now = Timestamp::now();
        let mut table = Table::new(&["RELEASE", "COMMIT", "WHEN", "SIZE", "STATE", "SUBJECT"]);
        for row in rows {
            let mut state = Line::default();
            for (is, piece) in [
                (row.live, Line::default().good("live ")),
                (!row.usable, Line::default().bad("failed ")),
                (row.quarantined, Line::default().warn("quarantined ")),
                (row.pinned, Line::new("pinned ")),
                (row.irreversible, Line::new("irreversible ")),
            ] {
                state = if is { state.append(&piece) } else { state };
            }
            table.row(vec![
                Line::new(row.release.to_string()),
                Line::new(row.revision.as_ref().map(CommitId::short).unwrap_or("unknown")),
                Line::new(row.created_at.map(|at| age(at, now)).unwrap_or_default()),
                Line::new(size(row.size_bytes)),
                state,
                Line::new(row.subject.map(|it| it.for_terminal()).unwrap_or_default()),
            ]);
        }
        table.print(&app.ui)?;
        Ok(Exit::Done)
    }
}
