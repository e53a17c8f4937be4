//! `check`: the doctor. Looks at everything a deploy needs; each finding says what to do.

use std::collections::BTreeSet;

use clap::Args;
use eeveon_core::{Class, Deployer as _, Diagnose, Failure, ProjectName, Release, ReleaseNumber, Stage};
use eeveon_daemon::{DaemonError, Edge, Graph, courier::FOLLOWER};
use eeveon_store::{Letter, LetterFilter, LetterState};
use futures::future::join_all;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    commands::notify,
    compose::Site,
    config, deploying, notifying,
    render::{Line, count},
    situation, view, windows,
};

/// Look for anything that is not as it should be.
///
/// Looks at the home, the store, the clock, the tools, and for each project at its file, source and
/// target, and whether what is live was changed by hand. Changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy check shop")]
pub struct Check {
    /// The project [default: all]
    #[arg(value_name = "PROJECT")]
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct Finding {
    /// The project, unless it is about the machine.
    project: Option<ProjectName>,
    what: &'static str,
    ok: bool,
    /// What was found.
    message: String,
    code: Option<String>,
    hint: Option<String>,
    #[serde(skip)]
    class: Class,
}

impl Finding {
    fn fine(what: &'static str, message: impl Into<String>) -> Self {
        Self {
            project: None,
            what,
            ok: true,
            message: message.into(),
            code: None,
            hint: None,
            class: Class::Fault,
        }
    }

    fn bad(what: &'static str, class: Class, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { ok: false, class, hint: Some(hint.into()), ..Self::fine(what, message) }
    }

    fn failed(what: &'static str, error: &dyn Diagnose) -> Self {
        let Failure { code, class, message, causes, hint, .. } = Failure::of(error, Stage::Admit);
        let message = std::iter::once(message).chain(causes).collect::<Vec<_>>().join(": ");
        Self { ok: false, class, code: Some(code), hint, ..Self::fine(what, message) }
    }

    fn of(self, project: &ProjectName) -> Self {
        Self { project: Some(project.clone()), ..self }
    }
}

impl Check {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let projects = match &self.name {
            Some(name) => vec![app.project(name)?],
            None => app.home.project_names()?,
        };
        let mut findings =
            vec![home(app), tool(app, "git"), tool(app, "ssh"), store(app).await, clock(app).await?];
        for project in &projects {
            let found = check_project(app, project).await;
            findings.extend(found.into_iter().map(|finding| finding.of(project)));
        }
        if self.name.is_none() {
            findings.extend(left_behind(app, &projects).await?);
        }
        if app.ui.json {
            app.ui.json(&findings)?;
        } else {
            for finding in &findings {
                show(app, finding)?;
            }
        }
        let bad: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
        match bad.first() {
            None => {
                app.ui.note(Line::default().good(format!("{} fine", count(findings.len() as u64, "check"))));
                Ok(Exit::Done)
            }
            Some(first) => Err(CliError::Findings(bad.len(), first.class.into())),
        }
    }
}

fn show(app: &App, finding: &Finding) -> Result<(), CliError> {
    let mark = match finding.ok {
        true => Line::default().good("  ok    "),
        false => Line::default().bad("  BAD   "),
    };
    let about = match &finding.project {
        Some(project) => format!("{project} {}", finding.what),
        None => finding.what.to_owned(),
    };
    let code = finding.code.as_ref().map(|code| format!(" [{code}]")).unwrap_or_default();
    app.ui.out(mark.plain(format!("{about:<20}")).plain("  ").plain(&finding.message).dim(code))?;
    match &finding.hint {
        Some(hint) => app.ui.out(Line::default().dim("          next  ").plain(hint)),
        None => Ok(()),
    }
}

fn home(app: &App) -> Finding {
    let path = app.home.root().display();
    match app.home.exposed() {
        None => Finding::fine("home", format!("{path} is readable by its owner only")),
        Some(mode) => Finding::bad(
            "home",
            Class::Config,
            format!("{path} is open to others (mode {mode:o})"),
            format!("chmod 700 {path}"),
        ),
    }
}

fn tool(app: &App, name: &'static str) -> Finding {
    match app.environment.find(name) {
        Some(path) => Finding::fine(name, path.display().to_string()),
        None => Finding::bad(
            name,
            Class::Unreachable,
            format!("{name} is not installed; repositories reached by it cannot be fetched"),
            format!(
                "install it, for instance with `apt-get install {}`",
                if name == "ssh" { "openssh-client" } else { name }
            ),
        ),
    }
}

async fn store(app: &App) -> Finding {
    match app.store.verify().await {
        Ok(defects) if defects.is_empty() => Finding::fine("store", "whole"),
        Ok(defects) => Finding::bad(
            "store",
            Class::Fault,
            defects.join("; "),
            "restore eeveon.db from a backup; what is live is not affected",
        ),
        Err(error) => Finding::failed("store", &error),
    }
}

async fn clock(app: &App) -> Result<Finding, CliError> {
    Ok(match situation::clock_behind(app).await? {
        None => Finding::fine("clock", "not behind anything recorded"),
        Some(seconds) => Finding {
            code: Some("cli/clock-behind".to_owned()),
            ..Finding::bad(
                "clock",
                Class::Fault,
                format!("{seconds} s behind the newest deployment recorded"),
                "set the clock, for instance with `timedatectl set-ntp true`; until then no release is removed for its age",
            )
        },
    })
}

async fn check_project(app: &App, name: &ProjectName) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known: Option<Vec<String>> = None;
    match Site::open(app, name).await {
        Ok(site) => {
            findings.push(Finding::fine("configuration", "valid"));
            findings.push(source(app, &site).await);
            findings.push(target(app, &site).await);
            findings.push(live(&site).await);
            findings.extend(daemon(app, &site));
            findings.extend(channels(app, &site).await);
            known = Some(site.config.notify.iter().map(config::Notify::name).collect());
        }
        Err(error) => findings.push(Finding::failed("configuration", &error)),
    }
    findings.extend(messages(app, name, known.as_deref()).await);
    if let Ok(open) = view::open_deployments(app, name).await {
        for parked in open.iter().filter(|it| it.parked.is_some()) {
            let (message, hint) = (
                format!("deployment {} waits for a person", parked.id),
                format!("ee-deploy why {}", parked.id),
            );
            findings.push(Finding::bad("deployments", Class::Failed, message, hint));
        }
    }
    findings
}

/// Looks at what only the daemon goes by.
fn daemon(app: &App, site: &Site) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = windows::of_config(&site.config) {
        findings.push(Finding::failed("windows", &error));
    }
    if site.config.after.is_empty() {
        return findings;
    }
    let names = app.home.project_names().unwrap_or_default();
    for after in site.config.after.iter().filter(|it| !names.contains(&it.project)) {
        let message = format!("it waits for `{}`, and there is no such project", after.project);
        let hint = format!("`ee-deploy config {}` shows the [[after]] to change", site.name);
        findings.push(Finding::bad("dependencies", Class::Config, message, hint));
    }
    let edges = names.iter().flat_map(|name| {
        let config = config::load(&app.home.project_file(name), name).ok();
        let after = config.map(|it| it.after).unwrap_or_default();
        after.into_iter().map(|it| Edge { project: name.clone(), after: it.project, follow: it.on })
    });
    match Graph::new(edges) {
        Ok(_) if findings.is_empty() => {
            let after: Vec<&str> = site.config.after.iter().map(|it| it.project.as_str()).collect();
            findings.push(Finding::fine("dependencies", format!("after {}", after.join(", "))));
        }
        Ok(_) => {}
        Err(cycle) => findings.push(Finding::failed("dependencies", &DaemonError::Cycle(cycle))),
    }
    findings
}

/// Asks every channel whether a message would arrive, all at once.
async fn channels(app: &App, site: &Site) -> Vec<Finding> {
    let channels = notifying::channels(app, &site.config);
    let asked = channels.iter().map(|channel| async {
        let name = channel.notifier.name();
        match channel.notifier.check().await {
            Ok(proven) => Finding::fine("channel", format!("{name}: {proven}")),
            Err(error) => Finding::failed("channel", &error),
        }
    });
    join_all(asked).await
}

/// Counts the messages that were given up. `known` are the project's channels, where its file can be read.
async fn messages(app: &App, name: &ProjectName, known: Option<&[String]>) -> Option<Finding> {
    let dead = notify::letters_of(app, name, None, Some(LetterState::Dead)).await.unwrap_or_default();
    let newest = dead.last()?;
    let is_gone = |letter: &Letter| known.is_some_and(|known| !known.contains(&letter.channel));
    let count = count(dead.len() as u64, "message");
    let gone = if is_gone(newest) { format!(" ({})", notify::GONE) } else { String::new() };
    let why = newest.error.clone().unwrap_or_default();
    let message = format!("{count} did not arrive; the newest to {}{gone}: {why}", newest.channel);
    let hint = match dead.iter().all(is_gone) {
        true => format!("`ee-deploy notify drop {name}`"),
        false => {
            format!("mend the cause, then `ee-deploy notify retry {name}`, or `ee-deploy notify drop {name}`")
        }
    };
    Some(Finding::bad("messages", Class::Failed, message, hint))
}

/// Counts the messages that were given up of what is none of the `projects` any more.
async fn left_behind(app: &App, projects: &[ProjectName]) -> Result<Vec<Finding>, CliError> {
    let state = Some(LetterState::Dead);
    let dead = LetterFilter { follower: FOLLOWER.to_owned(), state, ..LetterFilter::default() };
    let of = app.store.letters(&dead).await?.into_iter().map(|letter| letter.project);
    let removed: BTreeSet<ProjectName> = of.filter(|project| !projects.contains(project)).collect();
    let mut findings = Vec::new();
    for project in &removed {
        let found = messages(app, project, Some(&[])).await;
        findings.extend(found.map(|finding| finding.of(project)));
    }
    Ok(findings)
}

async fn source(app: &App, site: &Site) -> Finding {
    let source = match site.source() {
        Ok(source) => source,
        Err(error) => return Finding::failed("source", &error),
    };
    match source.resolve(&site.want(None), &deploying::looking(app)).await {
        Ok(commit) => {
            Finding::fine("source", format!("{} is at {}", site.config.source.branch, commit.short()))
        }
        Err(error) => Finding::failed("source", &error),
    }
}

async fn target(app: &App, site: &Site) -> Finding {
    // A release of nothing: everything but its space is looked at.
    let revision = app.store.releases(&site.name).await.ok().and_then(|known| known.into_iter().next());
    let Some(known) = revision else {
        return match site.present().await {
            Ok(_) => Finding::fine(
                "target",
                format!("{}: nothing was deployed there yet", site.config.deploy.path),
            ),
            Err(error) => Finding::failed("target", &error),
        };
    };
    let release = Release { number: ReleaseNumber(known.number().0.saturating_add(1)), ..known.release };
    match site.host.ready(&deploying::looking(app), &site.target, &release).await {
        Ok(()) => Finding::fine("target", format!("{} can be deployed to", site.config.deploy.path)),
        Err(error) => Finding::failed("target", error.diagnosis()),
    }
}

async fn live(site: &Site) -> Finding {
    let live = match site.live().await {
        Ok(Some(live)) => live,
        Ok(None) => return nothing_live(site).await,
        Err(error) => return Finding::failed("live", &error),
    };
    match site.host.compare(live.release).await {
        Ok(differences) if differences.is_empty() => {
            Finding::fine("live", format!("release {} is as it was deployed", live.release))
        }
        Ok(differences) => {
            let some: Vec<String> = differences
                .iter()
                .take(5)
                .map(|it| format!("{} ({})", String::from_utf8_lossy(&it.path), it.how))
                .collect();
            let more = match differences.len().saturating_sub(some.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Finding {
                code: Some("host/release-altered".to_owned()),
                ..Finding::bad(
                    "live",
                    Class::Failed,
                    format!("release {} was changed by hand: {}{more}", live.release, some.join(", ")),
                    format!(
                        "commit the change if it is wanted, then `ee-deploy deploy {} --again`; data belongs into shared folders",
                        site.name
                    ),
                )
            }
        }
        Err(error) => Finding::failed("live", error.diagnosis()),
    }
}

/// Nothing serves: because nothing was deployed yet, or because what served is gone.
async fn nothing_live(site: &Site) -> Finding {
    let link_is_there = site.host.current_path().symlink_metadata().is_ok();
    let releases = site.present().await.unwrap_or_default();
    match link_is_there || releases.iter().any(|it| it.usable) {
        false => Finding::fine("live", "nothing yet"),
        true => Finding {
            code: Some("host/release-missing".to_owned()),
            ..Finding::bad(
                "live",
                Class::Failed,
                format!("{} leads to no release, though there were some", site.host.current_path().display()),
                format!("`ee-deploy deploy {0} --again`, or `ee-deploy rollback {0} RELEASE`", site.name),
            )
        },
    }
}
