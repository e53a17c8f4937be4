//! `notify`: try a project's channels, and see to messages that did not arrive.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use eeveon_core::{Diagnose as _, ProjectName};
use eeveon_daemon::courier::{FOLLOWER, UNKNOWN};
use eeveon_notify::{Event, Message};
use eeveon_store::{Letter, LetterFilter, LetterState};
use futures::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    compose::Site,
    config,
    notifying::{self, Sender},
    render::{Line, Table, age, count},
    situation,
};

/// What is said of letters to a channel that was taken out of the project's file.
pub(crate) const GONE: &str = "channel no longer configured";

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
    /// Forget messages that were given up; with CHANNEL also those that still wait there
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
    /// Whether the channel is in the project's file; absent when that cannot be read.
    configured: Option<bool>,
    event: Option<String>,
    state: LetterState,
    since: Timestamp,
    due_at: Timestamp,
    attempts: u32,
    error: Option<String>,
}

impl Notify {
    /// Returns who is to deliver when it ends: whoever wants a retry wants it from here.
    pub(crate) fn sender(&self) -> Sender {
        match self.what {
            What::Retry(_) => Sender::Here,
            What::Test(_) | What::List(_) | What::Drop(_) => Sender::Anyone,
        }
    }

    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        match self.what {
            What::Test(which) => test(app, &which).await,
            What::List(which) => list(app, &Mail::of(app, &which).await?),
            What::Retry(which) => retry(app, &Mail::of(app, &which).await?).await,
            What::Drop(which) => forget(app, &Mail::of(app, &which).await?, which.channel.is_some()).await,
        }
    }
}

/// What has not arrived, of a project or of one of its channels.
struct Mail {
    project: ProjectName,
    letters: Vec<Letter>,
    /// The channels of the project's file; unknown when that cannot be read.
    configured: Option<Vec<String>>,
}

impl Mail {
    /// Finds what is asked for. A project or channel that is gone is known by what it left.
    ///
    /// # Errors
    ///
    /// There is no such project or channel, or the store failed.
    async fn of(app: &App, which: &Which) -> Result<Self, CliError> {
        let (project, is_gone) = match app.project(&which.name) {
            Ok(project) => (project, None),
            Err(CliError::UnknownProject { name, nearest }) => {
                (name.clone(), Some(CliError::UnknownProject { name, nearest }))
            }
            Err(error) => return Err(error),
        };
        let mut letters = letters_of(app, &project, None, None).await?;
        let configured = match is_gone {
            Some(error) if letters.is_empty() => return Err(error),
            Some(_) => Some(Vec::new()),
            None => config::load(&app.home.project_file(&project), &project)
                .ok()
                .map(|config| config.notify.iter().map(config::Notify::name).collect()),
        };
        if let Some(channel) = &which.channel {
            let mut known: Vec<&str> = configured.iter().flatten().map(String::as_str).collect();
            known.extend(letters.iter().map(|it| it.channel.as_str()));
            if !known.contains(&channel.as_str()) {
                return Err(no_channel(&project, channel, &known));
            }
            letters.retain(|it| it.channel == *channel);
        }
        Ok(Self { project, letters, configured })
    }

    fn dead(&self) -> impl Iterator<Item = &Letter> {
        self.letters.iter().filter(|it| it.state == LetterState::Dead)
    }

    /// Tells whether a channel is in the project's file; `None` when nobody knows.
    fn is_configured(&self, channel: &str) -> Option<bool> {
        self.configured.as_ref().map(|all| channel == UNKNOWN || all.iter().any(|it| it == channel))
    }
}

/// Says that a project has no such channel, and which it has.
fn no_channel(project: &ProjectName, channel: &str, known: &[&str]) -> CliError {
    let mut named: Vec<String> = Vec::new();
    for name in known.iter().map(|name| format!("`{name}`")) {
        if !named.contains(&name) {
            named.push(name);
        }
    }
    let hint = match named.as_slice() {
        [] => "add a [[notify]] section to the project file".to_owned(),
        _ => format!("its channels are {}", named.join(", ")),
    };
    CliError::usage(format!("{project} has no channel `{}`", channel.escape_debug()), hint)
}

/// Lets what was given up wait again. It is delivered as this command ends, as everything that is due.
async fn retry(app: &App, mail: &Mail) -> Result<Exit, CliError> {
    let project = &mail.project;
    let (mut revived, mut gone, mut channels) = (0, 0, BTreeSet::new());
    for letter in mail.dead() {
        if mail.is_configured(&letter.channel) == Some(false) {
            gone += 1;
        } else if app.store.revive(letter.id, Timestamp::now()).await? {
            revived += 1;
            channels.insert(&letter.channel);
        }
    }
    let courier = notifying::courier(app);
    app.ui.note(Line::new(format!("{} to try again", count(revived, "message"))));
    for channel in channels {
        if let Some(until) = courier.wake(project, channel).await? {
            let seconds = until.as_second().saturating_sub(Timestamp::now().as_second()).max(1);
            app.ui.note(
                Line::default().dim(format!("{channel} asked to be left alone for another {seconds} s")),
            );
        }
    }
    if gone > 0 {
        let text = format!("{} to a {GONE}: `ee-deploy notify drop {project}`", count(gone, "message"));
        app.ui.note(Line::default().dim(text));
    }
    Ok(Exit::Done)
}

/// Forgets what was given up, and what waits where nobody sends it. What else waits is on its way: it is
/// forgotten when its channel was `named`.
async fn forget(app: &App, mail: &Mail, named: bool) -> Result<Exit, CliError> {
    let (mut forgotten, mut kept) = (0, 0);
    for letter in &mail.letters {
        let is_gone = mail.is_configured(&letter.channel) == Some(false);
        match named || is_gone || letter.state == LetterState::Dead {
            true => forgotten += u64::from(app.store.forget(letter.id).await?),
            false => kept += 1,
        }
    }
    app.ui.note(Line::new(format!("{} forgotten", count(forgotten, "message"))));
    if kept > 0 {
        let text = format!("{} on the way: name a channel to drop what waits there", count(kept, "message"));
        app.ui.note(Line::default().dim(text));
    }
    Ok(Exit::Done)
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
    if channels.is_empty() {
        let message = format!("{} tells nobody", site.name);
        return Err(CliError::usage(message, "add a [[notify]] section to the project file"));
    }
    let wants = |name: &str| which.channel.as_ref().is_none_or(|wanted| wanted == name);
    let wanted: Vec<_> = channels.iter().filter(|it| wants(it.notifier.name())).collect();
    if let (true, Some(channel)) = (wanted.is_empty(), &which.channel) {
        let known: Vec<&str> = channels.iter().map(|it| it.notifier.name()).collect();
        return Err(no_channel(&site.name, channel, &known));
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
                message: notifying::with_causes(&error),
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

fn list(app: &App, mail: &Mail) -> Result<Exit, CliError> {
    let rows: Vec<Undelivered> = mail
        .letters
        .iter()
        .cloned()
        .map(|letter| Undelivered {
            configured: mail.is_configured(&letter.channel),
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
        app.ui.note(Line::new("nothing is on its way"));
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["CHANNEL", "EVENT", "STATE", "SINCE", "TRIED", "WHY"]);
    for row in rows {
        let gone = (row.configured == Some(false)).then(|| GONE.to_owned());
        let why: Vec<String> = gone.into_iter().chain(row.error).collect();
        table.row(vec![
            Line::default().strong(row.channel),
            Line::new(row.event.unwrap_or_default()),
            Line::new(row.state.as_str()),
            Line::new(age(row.since, now)),
            Line::new(row.attempts.to_string()),
            Line::new(why.join(": ")),
        ]);
    }
    table.print(&app.ui)?;
    Ok(Exit::Done)
}
