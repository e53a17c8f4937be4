//! `notify`: try a project's channels, and see to messages that did not arrive.

use clap::{Args, Subcommand};
use eeveon_core::{Diagnose as _, ProjectName};
use eeveon_daemon::courier::FOLLOWER;
use eeveon_notify::{Event, Message};
use eeveon_store::{Letter, LetterFilter, LetterState};
use futures::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    compose::Site,
    notifying,
    render::{Line, Table, age, count},
    situation,
};

/// Try a project's channels, and see to messages that did not arrive.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy notify test shop slack")]
pub struct Notify {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Send a test message and tell what each channel answers
    Test(Which),
    /// List messages that have not arrived
    List(Which),
    /// Try messages that were given up once more
    Retry(Which),
    /// Forget messages that were given up
    Drop(Which),
}

#[derive(Clone, Debug, Args)]
struct Which {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// The channel [default: all]
    channel: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    channel: String,
    ok: bool,
    message: String,
    code: Option<&'static str>,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Undelivered {
    channel: String,
    event: Option<String>,
    state: LetterState,
    since: Timestamp,
    due_at: Timestamp,
    attempts: u32,
    error: Option<String>,
}

impl Notify {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        match self.what {
            What::Test(which) => test(app, &which).await,
            What::List(which) => list(app, &which).await,
            What::Retry(which) => {
                let dead = undelivered(app, &which, Some(LetterState::Dead)).await?;
                for letter in &dead {
                    app.store.revive(letter.id, Timestamp::now()).await?;
                }
                // They are delivered as this command ends, as everything that is due.
                app.ui.note(Line::new(format!("{} to try again", count(dead.len() as u64, "message"))));
                Ok(Exit::Done)
            }
            What::Drop(which) => {
                let dead = undelivered(app, &which, Some(LetterState::Dead)).await?;
                for letter in &dead {
                    app.store.forget(letter.id).await?;
                }
                app.ui.note(Line::new(format!("{} forgotten", count(dead.len() as u64, "message"))));
                Ok(Exit::Done)
            }
        }
    }
}

/// Returns letters that have not arrived.
///
/// # Errors
///
/// There is no such project, or the store failed.
async fn undelivered(app: &App, which: &Which, state: Option<LetterState>) -> Result<Vec<Letter>, CliError> {
    letters_of(app, &app.project(&which.name)?, which.channel.clone(), state).await
}

/// Returns a project's letters that have not arrived.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn letters_of(
    app: &App,
    project: &ProjectName,
    channel: Option<String>,
    state: Option<LetterState>,
) -> Result<Vec<Letter>, CliError> {
    let filter = LetterFilter {
        follower: FOLLOWER.to_owned(),
        project: Some(project.clone()),
        channel,
        state,
        ..LetterFilter::default()
    };
    Ok(app.store.letters(&filter).await?)
}

async fn test(app: &App, which: &Which) -> Result<Exit, CliError> {
    let site = Site::concerned(app, &app.project(&which.name)?).await?;
    let channels = notifying::channels(app, &site.config);
    let wanted: Vec<_> = channels
        .into_iter()
        .filter(|it| which.channel.as_ref().is_none_or(|name| name == it.notifier.name()))
        .collect();
    if wanted.is_empty() {
        let message = match &which.channel {
            Some(channel) => format!("{} has no channel `{}`", site.name, channel.escape_debug()),
            None => format!("{} tells nobody", site.name),
        };
        return Err(CliError::usage(message, "add a [[notify]] section to the project file"));
    }
    let situation = situation::survey(app, &site).await?;
    let about = situation.live_release.as_ref().map(|it| &it.release);
    let (branch, me) = (site.config.source.branch.as_str().into(), app.actor().label());
    let Some(event) = Event::test(&site.name, about, branch, me, Timestamp::now()) else {
        return Err(CliError::usage("there is nothing to tell of", "deploy first"));
    };
    let message = Message::of(event);
    let answers = join_all(wanted.iter().map(|channel| async {
        let name = channel.notifier.name().to_owned();
        match channel.notifier.notify(&message).await {
            Ok(()) => Answer { channel: name, ok: true, message: "arrived".into(), code: None, hint: None },
            Err(error) => Answer {
                channel: name,
                ok: false,
                message: with_causes(&error),
                code: Some(error.code()),
                hint: error.hint().map(Into::into),
            },
        }
    }))
    .await;
    if app.ui.json {
        app.ui.json(&answers)?;
    } else {
        for answer in &answers {
            let mark = match answer.ok {
                true => Line::default().good("  ok    "),
                false => Line::default().bad("  FAIL  "),
            };
            let code = answer.code.map(|code| format!(" [{code}]")).unwrap_or_default();
            app.ui.out(mark.plain(format!("{:<12}", answer.channel)).plain(&answer.message).dim(code))?;
            if let Some(hint) = &answer.hint {
                app.ui.out(Line::default().dim("          next  ").plain(hint))?;
            }
        }
    }
    let bad = answers.iter().filter(|it| !it.ok).count();
    match bad {
        0 => Ok(Exit::Done),
        bad => Err(CliError::Findings(bad, Exit::Failed)),
    }
}

fn with_causes(error: &eeveon_notify::NotifyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn list(app: &App, which: &Which) -> Result<Exit, CliError> {
    let letters = undelivered(app, which, None).await?.into_iter();
    let rows: Vec<Undelivered> = letters
        .map(|letter| Undelivered {
            event: serde_json::from_str::<Event>(&letter.body).ok().map(|it| it.kind.to_string()),
            channel: letter.channel,
            state: letter.state,
            since: letter.created_at,
            due_at: letter.due_at,
            attempts: letter.attempts,
            error: letter.error,
        })
        .collect();
    if app.ui.json {
        app.ui.json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        app.ui.note(Line::new("every message has arrived"));
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["CHANNEL", "EVENT", "STATE", "SINCE", "TRIED", "WHY"]);
    for row in rows {
        table.row(vec![
            Line::default().strong(row.channel),
            Line::new(row.event.unwrap_or_default()),
            Line::new(row.state.as_str()),
            Line::new(age(row.since, now)),
            Line::new(row.attempts.to_string()),
            Line::new(row.error.unwrap_or_default()),
        ]);
    }
    table.print(&app.ui)?;
    Ok(Exit::Done)
}
