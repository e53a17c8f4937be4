//! `ee-deploy`: the command line of EEveon. The only crate that knows all others by name, prints,
//! reads the environment and decides how the process ends.
//!
//! The story of a deploy is in `deploying.rs`; the parts are put together in `compose.rs`.

mod app;
mod args;
mod commands;
mod compose;
mod config;
mod deploying;
pub mod docs;
mod environment;
mod error;
mod exit;
mod following;
mod gates;
mod home;
mod hooks;
mod lease;
mod notifying;
mod probing;
mod render;
mod reporting;
mod settings;
mod settling;
mod signals;
mod situation;
mod steps;
#[cfg(test)]
mod store_failures;
mod troubles;
mod view;
mod watching;
mod windows;

use std::{ffi::OsString, io::Write as _};

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

pub use args::Cli;
pub use error::CliError;
pub use exit::Exit;

use eeveon_core::DeploymentId;

use crate::{
    app::App,
    args::Command,
    deploying::Ending,
    environment::Environment,
    home::Home,
    notifying::Sender,
    render::{Line, Serving, Ui},
};

/// Runs one command, given the arguments of the process, and tells how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for, everything else is wrong usage.
            if !error.use_stderr() {
                let _nowhere_to_tell = error.print();
                return Exit::Done;
            }
            // What was typed, or pasted, is repeated in it.
            let text = error.render().to_string();
            let harmless = text.lines().map(eeveon_core::untrusted::printable).collect::<Vec<_>>().join("\n");
            let _nowhere_to_tell = writeln!(std::io::stderr(), "{harmless}");
            return Exit::Usage;
        }
    };
    let environment = Environment::read();
    let ui = Ui::new(cli.global.json, cli.global.quiet, cli.global.color, environment.no_color);
    listen_to_libraries(cli.global.verbose);
    // The command itself has the first thread; beside it little is done, except by what goes on working.
    let threads = if matches!(cli.command, Command::Serve(_) | Command::Up(_)) { 2 } else { 1 };
    let result =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
            Ok(runtime) => {
                let result = runtime.block_on(run_with_room(ui, cli, environment));
                // What a blocked thread still does is as if the process had been killed: harmless.
                runtime.shutdown_background();
                result
            }
            Err(source) => {
                Err(Unable::early(CliError::io("start threads for", "ee-deploy".as_ref(), source)))
            }
        };
    result.unwrap_or_else(|unable| {
        // Deployments tell of their own failures; this is a command that could not do its work.
        ui.failure("", &unable.error.failure(), &unable.serving, &[]);
        unable.error.exit()
    })
}

/// Why a command could not do its work, and what serves all the same.
#[derive(Debug)]
struct Unable {
    error: CliError,
    serving: Serving,
}

impl Unable {
    fn early(error: CliError) -> Self {
        Self { error, serving: Serving::NotConcerned }
    }
}

/// Runs a command; on a full disk once more, with the space that was kept in hand for this.
async fn run_with_room(ui: Ui, cli: Cli, environment: Environment) -> Result<Exit, Unable> {
    // Pages need no home.
    match cli.command.clone() {
        Command::Completions(completions) => return completions.run(&ui).map_err(Unable::early),
        Command::Man(man) => return man.run(&ui).map_err(Unable::early),
        _ => {}
    }
    let home = Home::find(cli.global.home.clone(), environment.home.as_ref()).map_err(Unable::early)?;
    let command = name(&cli.command);
    let open =
        || async { App::open(ui, home.clone(), environment.clone(), command).await.map_err(Unable::early) };
    let note = || ui.note(Line::new("the disk is full; going on with the space kept in hand"));
    let app = match open().await {
        Err(unable) if unable.error.is_full_disk() && home.drop_ballast() => {
            note();
            open().await?
        }
        app => app?,
    };
    match act(&app, cli.command.clone()).await {
        Err(unable) if unable.error.is_full_disk() && home.drop_ballast() => {
            note();
            let again = open().await?;
            let opened = *app.opened.borrow();
            match opened {
                // It is settled and told; doing it once more would be another deployment.
                Some(deployment) if is_recorded(&again, deployment).await? => {
                    finish(&again, deployment, unable).await
                }
                _ => act(&again, cli.command).await,
            }
        }
        result => result,
    }
}

/// Tells whether a deployment came as far as into the journal.
async fn is_recorded(app: &App, id: DeploymentId) -> Result<bool, Unable> {
    match app.store.deployment(id).await {
        Ok(deployment) => Ok(deployment.is_some()),
        Err(error) => Err(Unable::early(error.into())),
    }
}

/// Settles a deployment that had to stop, and tells how it ended.
async fn finish(app: &App, id: DeploymentId, stopped: Unable) -> Result<Exit, Unable> {
    settling::settle(app).await.map_err(Unable::early)?;
    let told = async {
        let deployment = view::deployment(app, id).await?;
        let site = compose::Site::concerned(app, &deployment.release.project).await?;
        let ending = match (&deployment.outcome, &deployment.parked) {
            (Some(_), _) => Ending::Closed(Box::new(deployment)),
            (None, Some(_)) => Ending::Parked(Box::new(deployment)),
            (None, None) => return Ok(None),
        };
        let exit = ending.exit();
        if exit == Exit::Done {
            return reporting::report(app, &site, ending).await.map(Some);
        }
        // What stopped it says more than that it was taken back.
        app.ui.failure("", &stopped.error.failure(), &view::serving(app, &site).await, &[]);
        Ok(Some(exit))
    };
    let told = told.await.map_err(Unable::early)?;
    notifying::deliver(app, Sender::Anyone).await;
    told.ok_or(stopped)
}

/// Returns the command line as clap knows it, for generated pages.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs a command in an opened home: what was left before it, and what there is to tell after it.
async fn act(app: &App, command: Command) -> Result<Exit, Unable> {
    notifying::courier(app).begin().await.map_err(|error| Unable::early(error.into()))?;
    settling::settle(app).await.map_err(Unable::early)?;
    let sender = match &command {
        Command::Notify(notify) => notify.sender(),
        _ => Sender::Anyone,
    };
    let result = carry_out(app, command).await;
    notifying::deliver(app, sender).await;
    match result {
        Ok(exit) => Ok(exit),
        Err(error) => {
            let serving = match app.concerned.get() {
                Some(site) => view::serving(app, site).await,
                None => Serving::NotConcerned,
            };
            Err(Unable { error, serving })
        }
    }
}

async fn carry_out(app: &App, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Up(it) => it.run(app).await,
        Command::Init(it) => it.run(app).await,
        Command::List(it) => it.run(app).await,
        Command::Show(it) => it.run(app).await,
        Command::Config(it) => it.run(app).await,
        Command::Remove(it) => it.run(app).await,
        Command::Deploy(it) => it.run(app).await,
        Command::Plan(it) => it.run(app).await,
        Command::Rollback(it) => it.run(app).await,
        Command::History(it) => it.run(app).await,
        Command::Releases(it) => it.run(app).await,
        Command::Status(it) => it.run(app).await,
        Command::Why(it) => it.run(app).await,
        Command::Logs(it) => it.run(app).await,
        Command::Cancel(it) => it.run(app).await,
        Command::Resume(it) => it.run(app).await,
        Command::Quarantine(it) => it.run(app).await,
        Command::Notify(it) => it.run(app).await,
        Command::Serve(it) => it.run(app).await,
        Command::Start(it) => it.run(app).await,
        Command::Stop(it) => it.run(app).await,
        Command::Freeze(it) => it.run(app).await,
        Command::Queue(it) => it.run(app).await,
        Command::Webhook(it) => it.run(app).await,
        Command::Check(it) => it.run(app).await,
        Command::Vacuum(it) => it.run(app).await,
        Command::Completions(it) => it.run(&app.ui),
        Command::Man(it) => it.run(&app.ui),
    }
}

/// Returns how a command is called in `status` and in what other processes are told.
fn name(command: &Command) -> &'static str {
    match command {
        Command::Up(_) => "up",
        Command::Init(_) => "init",
        Command::List(_) => "list",
        Command::Show(_) => "show",
        Command::Config(_) => "config",
        Command::Remove(_) => "remove",
        Command::Deploy(_) => "deploy",
        Command::Plan(_) => "plan",
        Command::Rollback(_) => "rollback",
        Command::History(_) => "history",
        Command::Releases(_) => "releases",
        Command::Status(_) => "status",
        Command::Why(_) => "why",
        Command::Logs(_) => "logs",
        Command::Cancel(_) => "cancel",
        Command::Resume(_) => "resume",
        Command::Quarantine(_) => "quarantine",
        Command::Notify(_) => "notify",
        Command::Serve(_) => "serve",
        Command::Start(_) => "start",
        Command::Stop(_) => "stop",
        Command::Freeze(_) => "freeze",
        Command::Queue(_) => "queue",
        Command::Webhook(_) => "webhook",
        Command::Check(_) => "check",
        Command::Vacuum(_) => "vacuum",
        Command::Completions(_) => "completions",
        Command::Man(_) => "man",
    }
}

/// Shows what libraries log: warnings always, more with `-v`.
fn listen_to_libraries(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "eeveon=info,warn",
        _ => "eeveon=debug,info",
    };
    let _already_listening = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .without_time()
        .try_init();
}
