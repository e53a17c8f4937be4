//! `init`: a new project.

use std::path::{Path, PathBuf};

use clap::Args;
use eeveon_core::ProjectName;
use eeveon_source::{Mirror, RepoUrl, Want};
use toml_edit::Value;

use crate::{
    App, CliError, Exit,
    compose::{resolve_token, source_config},
    config::{self, HumanDuration},
    deploying, following,
    home::{Replace, write_new},
    render::Line,
};

/// Add a project.
///
/// Writes its file, with every key explained; nothing is deployed yet.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example: ee-deploy init --repo git@example.org:acme/shop.git --name shop --path /var/www/shop"
)]
pub struct Init {
    /// The repository: https, ssh, git@host:path, or a local path
    #[arg(long)]
    repo: String,
    /// What to call the project
    #[arg(long)]
    name: String,
    /// Where to deploy it [default: a folder in the home]
    #[arg(long)]
    path: Option<PathBuf>,
    /// The branch to deploy [default: the one the repository's HEAD names]
    #[arg(long)]
    branch: Option<String>,
    /// Deploy only this folder of the repository
    #[arg(long, default_value = "")]
    dir: String,
    /// How a release goes live
    #[arg(long, default_value = "symlink")]
    strategy: String,
    /// How often the daemon looks for new commits [default: 2m]
    #[arg(long)]
    interval: Option<HumanDuration>,
    /// A URL that answers with success while the project is healthy; asked after every switch
    #[arg(long, value_name = "URL")]
    health_url: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// How to get at a repository that not everybody may read.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Access {
    /// The private key for ssh
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<String>,
    /// The file of known host keys for ssh
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<String>,
    /// The user name that goes with --token
    #[arg(long)]
    user: Option<String>,
    /// Where the access token for https is: env:NAME or file:PATH, never the token itself
    #[arg(long, value_name = "REFERENCE")]
    token: Option<String>,
    /// Certificates (PEM) trusted for https beside the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
}

impl Access {
    fn keys(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let keys = [
            ("source.ssh_key", &self.ssh_key),
            ("source.known_hosts", &self.known_hosts),
            ("source.user", &self.user),
            ("source.token", &self.token),
            ("source.ca_file", &self.ca_file),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

impl Init {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let name = ProjectName::new(self.name)?;
        if app.home.project_file(&name).exists() {
            return Err(taken(app, &name));
        }
        let new = NewProject {
            repo: absolute_repo(&self.repo)?,
            branch: self.branch,
            dir: self.dir.trim_matches('/').to_owned(),
            path: self.path,
            strategy: self.strategy,
            interval: self.interval,
            health_url: self.health_url,
            access: self.access,
        };
        let file = new.write(app, &name).await?;
        following::wake_daemon(app).await;
        if app.ui.json {
            app.ui.json(&config::load(&file, &name)?)?;
        } else {
            app.ui.out(
                Line::default()
                    .plain("added ")
                    .strong(name.as_str())
                    .plain(": ")
                    .plain(file.display().to_string()),
            )?;
            app.ui.note(
                Line::default()
                    .dim("  next  ")
                    .plain(format!("`ee-deploy plan {name}`, then `ee-deploy deploy {name}`")),
            );
        }
        Ok(Exit::Done)
    }
}

/// Makes a local path absolute, so that it means the same wherever a later command is run.
///
/// # Errors
///
/// The current folder is gone.
pub(crate) fn absolute_repo(text: &str) -> Result<String, CliError> {
    let looks_local = text.starts_with('.') || text.starts_with('/') || Path::new(text).exists();
    if !looks_local {
        return Ok(text.to_owned());
    }
    // One that is not there is told by whoever looks into it.
    let path = Path::new(text).canonicalize().or_else(|_| std::path::absolute(text));
    let path = path.map_err(|source| CliError::io("find", Path::new(text), source))?;
    path.into_os_string().into_string().map_err(|path| {
        CliError::usage(
            format!("{} is not UTF-8", Path::new(&path).display()),
            "give the repository a plain path",
        )
    })
}

/// Returns the error that the name is in use.
pub(crate) fn taken(app: &App, name: &ProjectName) -> CliError {
    let what = config::load(&app.home.project_file(name), name).map_or_else(
        |_| "something this version cannot read".to_owned(),
        |config| {
            let folder = match config.source.dir.as_str() {
                "" => String::new(),
                dir => format!("folder {dir} of "),
            };
            let (source, path) = (config.source, config.deploy.path);
            format!("{folder}branch {} of {} to {path}", source.branch, source.repo)
        },
    );
    CliError::NameTaken { name: name.clone(), what }
}

/// A project that is to be added.
#[derive(Debug)]
pub(crate) struct NewProject {
    /// Where the code comes from.
    pub repo: String,
    /// The branch; asked of the repository when absent.
    pub branch: Option<String>,
    /// The folder of it.
    pub dir: String,
    /// Where it goes; in the home when absent.
    pub path: Option<PathBuf>,
    /// How a release goes live.
    pub strategy: String,
    /// A URL to be asked after every switch.
    pub health_url: Option<String>,
    /// How to get at the repository.
    pub access: Access,
    /// How often to look.
    pub interval: Option<HumanDuration>,
}

impl NewProject {
    /// Asks the repository what is missing, and writes the project's file. Returns its path.
    ///
    /// # Errors
    ///
    /// The repository cannot be reached or is empty, a value is invalid, or the name was taken in
    /// the meantime.
    pub(crate) async fn write(self, app: &App, name: &ProjectName) -> Result<PathBuf, CliError> {
        let file = app.home.project_file(name);
        let path = match self.path {
            Some(path) => path,
            None => app.home.default_site(name),
        };
        let path = path.into_os_string().into_string().map_err(|path| {
            CliError::usage(format!("{} is not UTF-8", Path::new(&path).display()), "choose a plain path")
        })?;
        let text = |branch: &str| {
            let mut given: Vec<(&str, Value)> = vec![
                ("source.repo", self.repo.as_str().into()),
                ("source.branch", branch.into()),
                ("deploy.path", path.as_str().into()),
            ];
            if !self.dir.is_empty() {
                given.push(("source.dir", self.dir.as_str().into()));
            }
            if self.strategy != "symlink" {
                given.push(("deploy.strategy", self.strategy.as_str().into()));
            }
            if let Some(interval) = self.interval {
                given.push(("source.interval", interval.to_string().into()));
            }
            given.extend(self.access.keys().map(|(key, value)| (key, value.as_str().into())));
            let text = config::new_file(&given);
            match &self.health_url {
                Some(url) => config::set(&text, &file, name, "health.1.url", url),
                None => Ok(text),
            }
        };
        // Everything else is checked before the repository is asked.
        let checked = config::parse(&text(self.branch.as_deref().unwrap_or("main"))?, &file, name)?;
        let token = resolve_token(&app.environment, &checked.source.token)?;
        let mut settings = source_config(app, &checked, token)?;
        settings.url = RepoUrl::parse(&self.repo)?;
        // A mirror of its own for this one question: whatever happens, nothing was added before the
        // project's file is there.
        let probe = app.home.probe();
        let branch = match Mirror::open(&probe, settings) {
            Ok(mirror) => branch_of(app, &mirror, self.branch.clone()).await,
            Err(error) => Err(error.into()),
        };
        // A leftover is swept by the next command.
        let _best_effort = std::fs::remove_dir_all(&probe);
        let branch = branch?;
        let text = text(&branch)?;
        config::parse(&text, &file, name)?;
        match write_new(&file, text.as_bytes(), Replace::Never) {
            Ok(()) => Ok(file),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(taken(app, name)),
            Err(error) => Err(CliError::io("write", &file, error)),
        }
    }
}

/// Makes sure that a branch is there, or asks which one the repository's HEAD names.
async fn branch_of(app: &App, mirror: &Mirror, branch: Option<String>) -> Result<String, CliError> {
    let permit = deploying::looking(app);
    match branch {
        Some(branch) => {
            mirror.resolve(&Want::Branch(branch.clone()), &permit).await?;
            Ok(branch)
        }
        None => Ok(mirror.default_branch(&permit).await?),
    }
}
