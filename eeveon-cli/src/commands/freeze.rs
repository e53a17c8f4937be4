//! `freeze`: nothing is deployed now, because somebody said so.

use clap::Args;
use eeveon_core::{Actor, ProjectName, StepError, Untrusted};
use eeveon_daemon::{Freezes, Frozen};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use serde::Serialize;

use crate::{
    App, CliError, Exit, following,
    render::{Line, Table, age},
};

/// Freeze deployments, of a project or of all, or lift that.
///
/// With --reason nothing is deployed from now on: what triggers ask for waits, and commands are
/// refused. What runs goes on to its end, and going back works. Without --reason and --lift, lists the
/// freezes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy freeze shop --reason 'sale' --until 2h")]
pub struct Freeze {
    /// The project [default: all]
    #[arg(value_name = "PROJECT")]
    name: Option<String>,
    /// Why, for whoever has to wait
    #[arg(long)]
    reason: Option<String>,
    /// When it ends by itself: after a time such as `2h`, or at one such as `2026-12-27T08:00`
    #[arg(long, value_name = "TIME", requires = "reason")]
    until: Option<String>,
    /// Let it be deployed again
    #[arg(long, conflicts_with = "reason")]
    lift: bool,
}

#[derive(Serialize)]
struct Row {
    /// None: all.
    project: Option<ProjectName>,
    reason: Untrusted,
    until: Option<Timestamp>,
    by: Actor,
    at: Timestamp,
}

impl Freeze {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let project = self.name.as_deref().map(|name| app.project(name)).transpose()?;
        let frozen = match (&self.reason, self.lift) {
            (None, false) => return list(app, project.as_ref()).await,
            (None, true) => None,
            (Some(reason), _) => {
                let at = Timestamp::now();
                let until = self.until.as_deref().map(|text| moment(text, at)).transpose()?;
                Some(Frozen { reason: Untrusted::from(reason.as_str()), until, by: app.actor(), at })
            }
        };
        let freezes = frozen.is_some();
        let before = Freezes::change(&*app.store, &app.me, project.as_ref(), frozen).await;
        // One that has ended by itself held nothing any more.
        let before = before.map_err(StepError::from)?.filter(|it| !it.is_over(Timestamp::now()));
        following::wake_daemon(app).await;
        if app.ui.json {
            let changed =
                serde_json::json!({ "project": project, "frozen": freezes, "was_frozen": before.is_some() });
            app.ui.json(&changed)?;
            return Ok(Exit::Done);
        }
        let what = project.as_ref().map_or("everything", ProjectName::as_str);
        app.ui.note(Line::new(match (freezes, before) {
            (true, None) => {
                let name = project.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
                format!("{what} is frozen; `ee-deploy freeze {name}--lift` ends that")
            }
            (true, Some(_)) => format!("{what} was frozen and still is, for this reason now"),
            (false, Some(_)) => format!("{what} may be deployed again"),
            (false, None) => format!("{what} was not frozen"),
        }));
        if let (false, Some(project)) = (freezes, &project) {
            let freezes = Freezes::load(&*app.store).await.map_err(StepError::from)?;
            if freezes.all.is_some_and(|it| !it.is_over(Timestamp::now())) {
                app.ui.warn(format!("everything is frozen, and so is {project}"));
            }
        }
        Ok(Exit::Done)
    }
}

async fn list(app: &App, project: Option<&ProjectName>) -> Result<Exit, CliError> {
    let freezes = Freezes::load(&*app.store).await.map_err(StepError::from)?;
    let single = freezes.projects.into_iter().map(|(project, frozen)| (Some(project), frozen));
    let all = freezes.all.into_iter().map(|frozen| (None, frozen)).chain(single);
    let rows = all.filter(|(of, _)| project.is_none() || of.is_none() || of.as_ref() == project);
    let rows: Vec<Row> = rows
        .map(|(project, Frozen { reason, until, by, at })| Row { project, reason, until, by, at })
        .collect();
    if app.ui.json {
        app.ui.json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        app.ui.note(Line::new("nothing is frozen"));
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["WHAT", "SINCE", "UNTIL", "BY", "WHY"]);
    for it in rows {
        let is_over = it.until.is_some_and(|until| until <= now);
        table.row(vec![
            Line::new(it.project.as_ref().map_or("everything", ProjectName::as_str)),
            Line::new(age(it.at, now)),
            Line::new(match it.until {
                Some(_) if is_over => "over".to_owned(),
                Some(until) => until.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
                None => "lifted".to_owned(),
            }),
            Line::new(it.by.label().for_terminal()),
            Line::new(it.reason.for_terminal()),
        ]);
    }
    table.print(&app.ui)?;
    Ok(Exit::Done)
}

/// Reads when a freeze ends: a time from now, a moment, or a date and time as the clock here shows it.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    // Nobody means less than a second.
    let whole = |at: Timestamp| Timestamp::from_second(at.as_second()).ok();
    let span = || text.parse::<SignedDuration>().ok().and_then(|span| whole(now.checked_add(span).ok()?));
    let here = || {
        let date_time = text.parse::<DateTime>().ok()?;
        Some(date_time.to_zoned(TimeZone::system()).ok()?.timestamp())
    };
    let moment = text.parse().ok().or_else(span).or_else(here);
    let hint = "write how long, such as `90m` or `2h`, or when, such as `2026-12-27T08:00`";
    let shown = text.escape_debug();
    match moment {
        Some(moment) if moment > now => Ok(moment),
        Some(_) => Err(CliError::usage(format!("`{shown}` is over already"), hint)),
        None => Err(CliError::usage(format!("`{shown}` is no time"), hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_from_now_or_a_moment() {
        let now: Timestamp = "2026-12-24T10:00:00Z".parse().unwrap();
        let read = |text| moment(text, now).map(|it| it.to_string()).map_err(|error| error.to_string());
        assert_eq!(read("90m").unwrap(), "2026-12-24T11:30:00Z");
        assert_eq!(read("2026-12-27T08:00:00+01:00").unwrap(), "2026-12-27T07:00:00Z");
        assert!(read("2030-01-01T08:00").is_ok());
        assert!(read("2026-12-24T09:59:59Z").unwrap_err().contains("over"));
        for nonsense in ["", "soon", "-2h", "25:00", "\u{1b}[2J"] {
            assert!(read(nonsense).is_err(), "{nonsense:?}");
        }
        assert!(!read("\u{1b}[2J").unwrap_err().contains('\u{1b}'));
    }
}
