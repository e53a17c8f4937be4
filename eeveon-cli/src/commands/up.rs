//! `up`: from nothing to live in one line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use eeveon_core::ProjectName;
use eeveon_daemon::control::Client;
use eeveon_source::RepoUrl;

use crate::{
    App, CliError, Exit,
    commands::init::{Access, NewProject, absolute_repo, taken},
    compose::Site,
    config,
    deploying::{Ending, Wish},
    following,
    render::Line,
    reporting, view,
};

/// Deploy a repository from nothing, in one line.
///
/// Adds the project if it is not there yet (its name comes from the repository and the folder) and
/// deploys its newest commit. Uncommitted changes are not deployed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy up https://github.com/acme/site.git --dir public --once")]
pub struct Up {
    /// The repository: https, ssh, git@host:path, or a local path [default: the one you stand in]
    repo: Option<String>,
    /// The branch to deploy [default: the one the repository's HEAD names]
    #[arg(long)]
    branch: Option<String>,
    /// Deploy only this folder of the repository
    #[arg(long, default_value = "")]
    dir: String,
    /// What to call the project
    #[arg(long)]
    name: Option<String>,
    /// Where to deploy it [default: a folder in the home]
    #[arg(long)]
    path: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
    /// Deploy although windows are shut or somebody froze deployments
    #[arg(long)]
    outside_window: bool,
    /// Deploy and exit, rather than keep watching
    #[arg(long)]
    once: bool,
    /// Where webhooks come in while it watches [default: nowhere]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "once")]
    listen: Option<SocketAddr>,
}

/// How long a running deployment may go on after a request to stop.
const GRACE: std::time::Duration = std::time::Duration::from_secs(60);

impl Up {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let repo = self.repository(app).await?;
        let dir = self.dir.trim_matches('/').to_owned();
        let name = match &self.name {
            Some(name) => ProjectName::new(name.as_str())?,
            None => name_for(&repo, &dir)?,
        };
        let file = app.home.project_file(&name);
        let is_new = !file.exists();
        if is_new {
            let new = NewProject {
                repo,
                branch: self.branch,
                dir,
                path: self.path,
                strategy: "symlink".to_owned(),
                interval: None,
                health_url: None,
                access: self.access,
            };
            new.write(app, &name).await?;
            app.ui.note(Line::default().dim("  new   ").plain(format!("project {name}: {}", file.display())));
        } else {
            let config = config::load(&file, &name)?;
            let same = RepoUrl::parse(&config.source.repo)?.same_place(&RepoUrl::parse(&repo)?)
                && config.source.dir.trim_matches('/') == dir
                && self.branch.as_ref().is_none_or(|branch| *branch == config.source.branch)
                && self.path.as_ref().is_none_or(|path| path == Path::new(&config.deploy.path));
            if !same {
                return Err(taken(app, &name));
            }
        }
        let site = Site::concerned(app, &name).await?;
        let wish = Wish { outside_window: self.outside_window, ..Wish::by_hand(app) };
        let ending = following::deploy(app, &site, &wish).await;
        // Nothing was deployed: the next try begins anew, perhaps with other arguments. A deployment
        // that is still open needs its project, to be finished or taken back.
        let is_open = !view::open_deployments(app, &name).await.is_ok_and(|open| open.is_empty());
        if is_new
            && !is_open
            && !ending.as_ref().is_ok_and(is_live)
            && let Err(error) = super::remove::forget(app, &name)
        {
            app.ui.warn(format!("project {name} stays: {error}"));
        }
        let ending = ending?;
        let succeeded = ending.exit() == Exit::Done && !matches!(ending, Ending::Unchanged(_));
        let exit = reporting::report(app, &site, ending).await?;
        if succeeded {
            suggest(app, &name);
        }
        match (self.once, exit) {
            // From now on what is pushed is deployed, until somebody stops it.
            (false, Exit::Done) => watch(app, name, self.listen).await,
            _ => Ok(exit),
        }
    }

    /// Returns the repository, and tells of changes in it that are not deployed.
    async fn repository(&self, app: &App) -> Result<String, CliError> {
        let here = Path::new(self.repo.as_deref().unwrap_or("."));
        let is_local = self
            .repo
            .as_deref()
            .is_none_or(|repo| absolute_repo(repo).is_ok_and(|path| path.starts_with('/')));
        if !is_local {
            return Ok(self.repo.clone().unwrap_or_default());
        }
        let Some(found) = eeveon_source::discover(here)? else {
            return match &self.repo {
                Some(repo) => absolute_repo(repo),
                None => Err(CliError::usage(
                    "this folder is in no git repository",
                    "name one: `ee-deploy up REPO --once`",
                )),
            };
        };
        if found.dirty {
            app.ui.note(
                Line::default().warn("  note  ").plain(format!(
                    "{} has uncommitted changes; they are not deployed",
                    found.root.display()
                )),
            );
        }
        absolute_repo(&found.root.to_string_lossy())
    }
}

async fn watch(app: &App, name: ProjectName, listen: Option<SocketAddr>) -> Result<Exit, CliError> {
    if Client::connect(app.home.root()).await.is_some() {
        app.ui.note(Line::default().dim("  watch ").plain("the daemon of this home watches it from now on"));
        return Ok(Exit::Done);
    }
    super::serve::watch(app, Some(name), None, GRACE, listen).await
}

fn is_live(ending: &Ending) -> bool {
    ending.exit() == Exit::Done
}

fn suggest(app: &App, name: &ProjectName) {
    let flag = format!("--home {}", app.home.root().display());
    let default = app.environment.home.as_ref().map(|home| home.join(".eeveon"));
    let home = if default.as_deref() == Some(app.home.root()) { String::new() } else { format!(" {flag}") };
    app.ui.note(Line::default().dim("next, try:"));
    for (command, about) in [
        (format!("status {name}"), "what is live"),
        (format!("plan {name}"), "what a deploy would do"),
        (format!("rollback {name}"), "once there are two releases: back to the one before"),
        (format!("history {name}"), "who deployed what, when and how it went"),
    ] {
        app.ui.note(Line::new(format!("  ee-deploy{home} {command:<24}")).dim(about));
    }
}

/// Makes a project name from a repository and a folder, such as `shop-site` for `acme/shop.git` and
/// `site`.
fn name_for(repo: &str, dir: &str) -> Result<ProjectName, CliError> {
    let last =
        |path: &str| path.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default().to_owned();
    let repo = last(repo);
    let words = [repo.strip_suffix(".git").unwrap_or(&repo).to_owned(), last(dir)].join("-").to_lowercase();
    let plain: String = words.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name: String = plain.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    ProjectName::new(name.chars().take(63).collect::<String>()).map_err(|_| {
        CliError::usage("no project name can be made from the repository", "choose one with --name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_repository_and_folder() {
        let name = |repo, dir| name_for(repo, dir).unwrap().to_string();
        assert_eq!(name("https://github.com/acme/Shop.git", ""), "shop");
        assert_eq!(name("git@example.org:shop.git", "sites/www/"), "shop-www");
        assert_eq!(name("/srv/My Repo/", "a_b"), "my-repo-a-b");
        assert!(name_for("/", "").is_err());
    }
}
