//! `webhook`: what a forge is to be told, and what it told us.

use clap::{Args, Subcommand};
use eeveon_core::{
    DeploymentId, Failure, Outcome, ProjectName, SecretRef, Secrets as _, StepError, Untrusted,
};
use eeveon_daemon::{Ask, Fate, RequestId, Want, end_of};
use eeveon_source::{
    RepoUrl,
    forge::{self, Provider},
};
use eeveon_store::DELIVERIES_KEPT;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    commands::queue,
    compose::Site,
    config,
    deploying::Wish,
    following,
    hooks::{self, Shown},
    render::{Line, Table, age},
    reporting, view,
};

/// Set up a forge's webhook, and see what it delivered.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy webhook show shop --url https://deploy.example.org")]
pub struct Webhook {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Show the hook's address and, once, its secret, and what to do at the forge
    Show(Show),
    /// List what came, and what became of it
    Deliveries(Deliveries),
    /// Ask again for what a delivery asked for
    Replay(Replay),
}

#[derive(Clone, Debug, Args)]
struct Show {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// github, gitlab, bitbucket, bitbucket-dc, gitea, forgejo, azure or generic [default: as the
    /// repository's host suggests]
    #[arg(long)]
    provider: Option<String>,
    /// How the forge reaches this machine
    #[arg(long, default_value = "http://127.0.0.1:8787")]
    url: String,
    /// Make a new secret; the one before stays valid until the next time
    #[arg(long)]
    rotate: bool,
    /// Take the secret that the forge made, from env:NAME or file:/PATH; the one before stays valid
    #[arg(long, value_name = "REFERENCE", conflicts_with = "rotate")]
    secret: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct Deliveries {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// How many
    #[arg(short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
}

#[derive(Clone, Debug, Args)]
struct Replay {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// The delivery's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// Deploy although windows are shut or somebody froze deployments
    #[arg(long)]
    outside_window: bool,
}

impl Webhook {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        match self.what {
            What::Show(show) => show.run(app),
            What::Deliveries(deliveries) => deliveries.run(app).await,
            What::Replay(replay) => replay.run(app).await,
        }
    }
}

impl Show {
    fn run(&self, app: &App) -> Result<Exit, CliError> {
        let name = app.project(&self.name)?;
        let config = config::load(&app.home.project_file(&name), &name)?;
        let provider = match &self.provider {
            Some(text) => Provider::parse(text).ok_or_else(|| {
                let all: Vec<&str> = Provider::ALL.iter().map(|it| it.as_str()).collect();
                CliError::usage(
                    format!("no forge `{}`", text.escape_debug()),
                    format!("one of {}", all.join(", ")),
                )
            })?,
            None => guess(&config.source.repo),
        };
        let url = format!("{}/hooks/{name}/{provider}", self.url.trim_end_matches('/'));
        let given = match self.secret.as_deref().map(SecretRef::parse).transpose()? {
            Some(Some(reference)) => Some(app.environment.reveal(&reference)?),
            Some(None) => {
                return Err(CliError::usage(
                    "a secret is not written down here",
                    "write env:NAME or file:/PATH",
                ));
            }
            None => None,
        };
        let shown = hooks::secret(&app.home, &name, provider, self.rotate, given.as_ref())?;
        let secret = match &shown {
            Shown::New(secret) => Some(secret.expose()),
            Shown::Before => None,
        };
        let steps = forge::steps(provider, &url);
        if app.ui.json {
            app.ui.json(&serde_json::json!({
                "project": name, "provider": provider.as_str(), "url": url, "secret": secret, "steps": steps,
            }))?;
            return Ok(Exit::Done);
        }
        app.ui.out(Line::default().dim("url     ").plain(&url))?;
        match secret {
            Some(secret) => app.ui.out(Line::default().dim("secret  ").plain(secret))?,
            None if given.is_some() => app.ui.note(Line::new("deliveries with the given secret are taken")),
            None => app.ui.note(Line::new("the secret was shown when it was made; --rotate makes a new one")),
        }
        for step in steps {
            app.ui.out(Line::new(format!("- {step}")))?;
        }
        Ok(Exit::Done)
    }
}

/// Guesses the forge from the host's name.
fn guess(repo: &str) -> Provider {
    let host = RepoUrl::parse(repo).ok().and_then(|url| url.host().map(str::to_ascii_lowercase));
    let host = host.unwrap_or_default();
    let known = [
        ("github", Provider::GitHub),
        ("gitlab", Provider::GitLab),
        ("bitbucket.org", Provider::BitbucketCloud),
        ("bitbucket", Provider::BitbucketDataCenter),
        ("codeberg", Provider::Forgejo),
        ("forgejo", Provider::Forgejo),
        ("gitea", Provider::Gitea),
        ("dev.azure.com", Provider::AzureDevOps),
    ];
    known
        .into_iter()
        .find(|(name, _)| host.contains(name))
        .map_or(Provider::Generic, |(_, provider)| provider)
}

impl Deliveries {
    async fn run(&self, app: &App) -> Result<Exit, CliError> {
        let name = app.project(&self.name)?;
        let found = app.store.deliveries(&name, self.number).await?;
        // After them: a request that is not in line any more by then has come to its end.
        let requests = queue::rows(app, Some(&name)).await?;
        let mut deliveries = Vec::new();
        for delivery in found {
            let came_to = came_to(app, &requests, &delivery).await?;
            deliveries.push(Delivered::new(delivery, came_to));
        }
        if app.ui.json {
            app.ui.json(&deliveries)?;
            return Ok(Exit::Done);
        }
        if deliveries.is_empty() {
            app.ui.note(Line::new("nothing was delivered yet"));
            return Ok(Exit::Done);
        }
        let now = Timestamp::now();
        let mut table = Table::new(&["WHEN", "FORGE", "ID", "TAKEN", "WHY", "CAME TO"]);
        for it in deliveries {
            table.row(vec![
                Line::new(age(it.received_at, now)),
                Line::new(it.provider),
                Line::new(it.id),
                Line::new(if it.accepted { "yes" } else { "no" }),
                Line::new(it.why),
                Line::new(it.came_to.map(|it| it.words()).unwrap_or_default()),
            ]);
        }
        table.print(&app.ui)?;
        Ok(Exit::Done)
    }
}

/// A delivery, and what came of it, as `webhook deliveries --json` shows it.
#[derive(Serialize)]
struct Delivered {
    project: ProjectName,
    provider: String,
    id: String,
    received_at: Timestamp,
    accepted: bool,
    why: String,
    /// What it asked for; none also when another version wrote that down.
    ask: Option<Ask>,
    /// The request that does what it asks for.
    request: Option<u64>,
    /// None: it asked for nothing.
    came_to: Option<CameTo>,
}

impl Delivered {
    fn new(delivery: eeveon_store::Delivery, came_to: Option<CameTo>) -> Self {
        let eeveon_store::Delivery { project, provider, id, received_at, accepted, why, ask, request } =
            delivery;
        let ask = ask.and_then(|it| serde_json::from_str(&it).ok());
        Self { project, provider, id, received_at, accepted, why, ask, request, came_to }
    }
}

/// What came of a request.
#[derive(Serialize)]
struct CameTo {
    /// Its number, or that of the one that did it in its place.
    request: RequestId,
    /// `waiting`, `running`, `interrupted`, `set_aside` or `cancelled`; without a deployment `nothing`; `unknown`
    /// when that is not remembered any more; else how the deployment ended, such as `succeeded`, or `open`.
    state: &'static str,
    deployment: Option<DeploymentId>,
    /// What kept it from coming to a deployment.
    failure: Option<Failure>,
}

impl CameTo {
    fn words(&self) -> String {
        let Self { request, state, deployment, failure } = self;
        match (deployment, failure) {
            (Some(deployment), _) => format!("deployment {deployment}: {state}"),
            (None, Some(failure)) => format!("{} [{}]", shown(&failure.message), failure.code),
            (None, None) if *state == "nothing" => "nothing new".to_owned(),
            (None, None) if *state == UNKNOWN => {
                format!("request {request}: not remembered any more")
            }
            (None, None) => format!("request {request}: {state}"),
        }
    }
}

/// What came of a request after which a thousand others have ended, or that was cleared away.
const UNKNOWN: &str = "unknown";

/// Finds out what came of a delivery: the request that does it may have been replaced by others.
async fn came_to(
    app: &App,
    requests: &[queue::Row],
    delivery: &eeveon_store::Delivery,
) -> Result<Option<CameTo>, CliError> {
    /// More than wait in line at any time.
    const STEPS: usize = 1000;
    let Some(mut request) = delivery.request.map(RequestId) else { return Ok(None) };
    let what = |request, state| CameTo { request, state, deployment: None, failure: None };
    for _ in 0..STEPS {
        let came_to = |state| what(request, state);
        if let Some(row) = requests.iter().find(|it| it.request == request) {
            return Ok(Some(came_to(row.state)));
        }
        let Some(end) = end_of(&*app.store, request).await.map_err(StepError::from)? else { break };
        let done = match end.fate {
            Fate::Replaced { by } => {
                request = by;
                continue;
            }
            Fate::Cancelled => return Ok(Some(came_to("cancelled"))),
            Fate::SetAside { .. } => return Ok(Some(came_to("set_aside"))),
            Fate::Ended => end.done,
        };
        let (deployment, failure) = done.map(|it| (it.deployment, it.failure)).unwrap_or_default();
        let state = match deployment {
            Some(id) => view::deployment(app, id).await?.outcome.as_ref().map_or("open", Outcome::as_str),
            None => "nothing",
        };
        return Ok(Some(CameTo { deployment, failure, ..came_to(state) }));
    }
    Ok(Some(what(request, UNKNOWN)))
}

impl Replay {
    async fn run(&self, app: &App) -> Result<Exit, CliError> {
        let name = app.project(&self.name)?;
        let hint = format!("`ee-deploy webhook deliveries {name}` lists them");
        let all = app.store.deliveries(&name, u32::try_from(DELIVERIES_KEPT).unwrap_or(u32::MAX)).await?;
        let mut found = all.into_iter().filter(|it| !self.id.is_empty() && it.id.starts_with(&self.id));
        let delivery = match (found.next(), found.next()) {
            (Some(one), None) => one,
            (Some(_), Some(_)) => {
                return Err(CliError::usage(
                    format!("several deliveries begin with `{}`", shown(&self.id)),
                    hint,
                ));
            }
            (None, _) => return Err(CliError::usage(format!("no delivery `{}`", shown(&self.id)), hint)),
        };
        let Some(ask) = &delivery.ask else {
            let message =
                format!("delivery {} asked for nothing: {}", shown(&delivery.id), shown(&delivery.why));
            return Err(CliError::usage(message, hint));
        };
        let ask: Ask = serde_json::from_str(ask).map_err(|_| {
            CliError::usage("another version of ee-deploy took this delivery", "push, or deploy by hand")
        })?;
        let site = Site::concerned(app, &name).await?;
        let rev = match ask.want {
            Want::Newest { branch, .. } => Some(branch).filter(|it| *it != site.config.source.branch),
            Want::Commit { commit, .. } => Some(commit.to_string()),
            Want::Rollback { .. } => None,
        };
        let reason = Some(format!("delivery {} again", delivery.id));
        let wish = Wish { rev, reason, outside_window: self.outside_window, ..Wish::by_hand(app) };
        let ending = following::deploy(app, &site, &wish).await?;
        reporting::report(app, &site, ending).await
    }
}

/// Makes what came from outside harmless.
fn shown(text: &str) -> String {
    Untrusted::from(text).for_terminal()
}
