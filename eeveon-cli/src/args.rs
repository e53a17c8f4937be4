//! The command line: one enum, each command's arguments in its own file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{commands, render::ColorChoice};

/// Continuous deployment for your own servers: notices a commit, builds it, makes it live in one
/// rename, and takes it back when it is bad.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ee-deploy",
    version,
    after_help = "Example: ee-deploy up https://github.com/acme/site.git --once"
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where EEveon keeps its projects and its store [default: ~/.eeveon]
    #[arg(long, global = true, value_name = "DIR", env = "EEVEON_HOME")]
    pub home: Option<PathBuf>,
    /// Print JSON: one document for a query, one object per line for a stream
    #[arg(long, global = true)]
    pub json: bool,
    /// Say only what was asked for, warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more about what happens inside; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Deploy a repository from nothing, in one line
    Up(commands::up::Up),
    /// Add a project
    Init(commands::init::Init),
    /// List the projects
    List(commands::list::List),
    /// Show a project
    Show(commands::show::Show),
    /// Show or change a project's configuration
    Config(commands::config::Config),
    /// Remove a project
    Remove(commands::remove::Remove),
    /// Deploy the newest commit, or a given one
    Deploy(commands::deploy::Deploy),
    /// Show what a deploy would do, and change nothing
    Plan(commands::plan::Plan),
    /// Go back to an earlier release
    Rollback(commands::rollback::Rollback),
    /// List deployments, newest first
    History(commands::history::History),
    /// List the releases that are kept
    Releases(commands::releases::Releases),
    /// Show what is live, what runs and what waits
    Status(commands::status::Status),
    /// Tell why a project does not deploy, or why a deployment failed
    Why(commands::why::Why),
    /// Show the output of steps
    Logs(commands::logs::Logs),
    /// Stop a deployment and take it back
    Cancel(commands::cancel::Cancel),
    /// Go on with a deployment that waits for a person
    Resume(commands::resume::Resume),
    /// Put a commit aside, or lift that
    Quarantine(commands::quarantine::Quarantine),
    /// Watch all projects and deploy what is new
    Serve(commands::serve::Serve),
    /// Let a project deploy by itself again
    Start(commands::start::Start),
    /// Keep a project from deploying by itself
    Stop(commands::start::Stop),
    /// Freeze deployments, of a project or of all, or lift that
    Freeze(commands::freeze::Freeze),
    /// Show the requests for deployments that wait, run, or were set aside
    Queue(commands::queue::Queue),
    /// Set up a forge's webhook, and see what it delivered
    Webhook(commands::webhook::Webhook),
    /// Try a project's channels, and see to messages that did not arrive
    Notify(commands::notify::Notify),
    /// Look for anything that is not as it should be
    Check(commands::check::Check),
    /// Give back disk space that is no longer needed
    Vacuum(commands::vacuum::Vacuum),
    /// Print a script that completes commands in a shell
    Completions(commands::completions::Completions),
    /// Print the manual page
    Man(commands::man::Man),
}
