//! `webhook`: what a forge is to be told, and what it told us.

use clap::{Args, Subcommand};
use eeveon_source::{
    RepoUrl,
    forge::{self, Provider},
};
use jiff::Timestamp;

use crate::{
    App, CliError, Exit, config,
    hooks::{self, Shown},
    render::{Line, Table, age},
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

impl Webhook {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        match self.what {
            What::Show(show) => show.run(app),
            What::Deliveries(deliveries) => deliveries.run(app).await,
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
        let shown = hooks::secret(&app.home, &name, provider, self.rotate)?;
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
        let deliveries = app.store.deliveries(&name, self.number).await?;
        if app.ui.json {
            app.ui.json(&deliveries)?;
            return Ok(Exit::Done);
        }
        if deliveries.is_empty() {
            app.ui.note(Line::new("nothing was delivered yet"));
            return Ok(Exit::Done);
        }
        let now = Timestamp::now();
        let mut table = Table::new(&["WHEN", "FORGE", "ID", "TAKEN", "WHY"]);
        for it in deliveries {
            table.row(vec![
                Line::new(age(it.received_at, now)),
                Line::new(it.provider),
                Line::new(it.id),
                Line::new(if it.accepted { "yes" } else { "no" }),
                Line::new(it.why),
            ]);
        }
        table.print(&app.ui)?;
        Ok(Exit::Done)
    }
}
