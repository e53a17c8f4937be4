//! Webhooks: the secrets of hooks, and what a delivery comes to.

use std::{fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use eeveon_core::{Actor, CommitId, ProjectName, Secret, Trigger, Untrusted};
use eeveon_daemon::{Answer, Ask, DaemonError, Follow, Handle, Refusal, Seen, Taken, Want};
use eeveon_server::{Bytes, HeadersView, HookAddress, Readiness, Reply, Webhooks};
use eeveon_source::{
    RepoUrl,
    forge::{self, Delivery, DeliveryId, Filter, Hook, Provider},
};
use eeveon_store::StoreError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    App, CliError, config,
    home::{Home, Replace, random, write_new},
};

/// The version of a key file's form.
const FORMAT: u32 = 1;

/// The secrets of one hook, as they are kept in `keys/`: a file only its owner may read.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    format: u32,
    current: String,
    /// Still valid while the forge changes to the new one.
    previous: Option<String>,
}

fn key_file(home: &Home, project: &ProjectName, provider: Provider) -> PathBuf {
    home.keys().join(format!("hook.{project}.{provider}"))
}

fn read(home: &Home, project: &ProjectName, provider: Provider) -> Result<Option<KeyFile>, CliError> {
    let path = key_file(home, project, provider);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::io("read", &path, error)),
    };
    let invalid = |error: String| CliError::io("read", &path, std::io::Error::other(error));
    let keys: KeyFile = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    match keys.format {
        FORMAT => Ok(Some(keys)),
        format => Err(invalid(format!("it has format {format}, and this version knows {FORMAT}"))),
    }
}

/// Removes the secrets of all hooks of a project.
///
/// # Errors
///
/// One cannot be removed.
pub(crate) fn forget(home: &Home, project: &ProjectName) -> Result<(), CliError> {
    for provider in Provider::ALL {
        let path = key_file(home, project, provider);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CliError::io("remove", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What became of asking for a hook's secret.
pub(crate) enum Shown {
    /// It was made now, and can be shown this once.
    New(Secret),
    /// It was made and shown before.
    Before,
}

/// Makes the secret of a hook, unless there is one. With `rotate` a new one is made, and the one before
/// stays valid beside it; so it is with one that was `given`, because the forge made it.
///
/// # Errors
///
/// It cannot be read or written; what was given is no secret such a hook can have.
pub(crate) fn secret(
    home: &Home,
    project: &ProjectName,
    provider: Provider,
    rotate: bool,
    given: Option<&Secret>,
) -> Result<Shown, CliError> {
    let known = read(home, project, provider)?;
    if known.is_some() && !rotate && given.is_none() {
        return Ok(Shown::Before);
    }
    let path = key_file(home, project, provider);
    let io = |error: std::io::Error| CliError::io("write", &path, error);
    let current = match (given, provider) {
        (Some(given), _) => {
            Hook::new(provider, given, None).map_err(|error| {
                CliError::usage(
                    format!("this cannot be the secret: {error}"),
                    "take it as the forge shows it",
                )
            })?;
            given.expose().to_owned()
        }
        (None, Provider::Generic) => format!("whsec_{}", BASE64_STANDARD.encode(random::<32>()?)),
        (None, _) => random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if known.as_ref().is_some_and(|it| it.current == current) {
        return Ok(Shown::Before);
    }
    let keys = KeyFile { format: FORMAT, current, previous: known.map(|it| it.current) };
    let text = serde_json::to_string(&keys).map_err(|error| io(std::io::Error::other(error)))?;
    let replace = if keys.previous.is_some() { Replace::Always } else { Replace::Never };
    write_new(&path, text.as_bytes(), replace).map_err(io)?;
    let wrong = || io(std::io::Error::other("the secret is empty"));
    let made = Secret::new(keys.current).ok_or_else(wrong)?;
    Ok(if given.is_some() { Shown::Before } else { Shown::New(made) })
}

/// Takes deliveries for the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Hooks {
    /// The home, the store.
    pub app: App,
    /// The daemon.
    pub daemon: Handle,
}

/// A delivery whose sender knows the secret.
struct Proven {
    delivery: Delivery,
    config: config::ProjectConfig,
}

impl Hooks {
    /// Proves a delivery and reads it. Blocks.
    fn prove(&self, to: &HookAddress, headers: &HeadersView, body: &[u8]) -> Result<Proven, Reply> {
        let provider = Provider::parse(&to.provider);
        let keys = provider.map(|provider| read(&self.app.home, &to.project, provider));
        let keys = match keys.transpose() {
            Ok(keys) => keys.flatten(),
            Err(error) => {
                // Whoever knows no secret learns nothing of our troubles.
                tracing::error!(project = %to.project, provider = to.provider, %error, "a hook's secret cannot be read");
                None
            }
        };
        let is_there = keys.is_some();
        // The same work for a hook that does not exist.
        let keys = keys.unwrap_or_else(|| KeyFile {
            format: FORMAT,
            current: "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
            previous: None,
        });
        let secret = |text: &str| Secret::new(text).ok_or(Reply::Refused);
        let (current, previous) = (secret(&keys.current)?, keys.previous.as_deref().map(secret).transpose()?);
        let hook = Hook::new(provider.unwrap_or(Provider::Generic), &current, previous.as_ref());
        let hook = hook.map_err(|error| {
            tracing::error!(project = %to.project, provider = to.provider, %error, "a hook's secret cannot be used");
            Reply::Refused
        })?;
        let proof = hook.verify(headers.iter(), body, Timestamp::now());
        let proof = match (proof, is_there) {
            (Ok(proof), true) => proof,
            (Err(error), true) => {
                tracing::warn!(project = %to.project, provider = to.provider, %error, "a delivery was refused");
                return Err(Reply::Refused);
            }
            (_, false) => return Err(Reply::Unknown),
        };
        let delivery = proof.parse().map_err(|error| Reply::Malformed { why: error.to_string() })?;
        let file = self.app.home.project_file(&to.project);
        let config = config::load(&file, &to.project).map_err(|_| Reply::Failed)?;
        Ok(Proven { delivery, config })
    }

    /// Decides what a proven delivery asks for, if anything, and says why.
    ///
    /// # Errors
    ///
    /// The store failed.
    async fn judge(&self, to: &HookAddress, proven: &Proven) -> Result<(Option<Ask>, String), StoreError> {
        let Proven { delivery, config } = proven;
        let is_ours = match (&delivery.repository, RepoUrl::parse(&config.source.repo)) {
            // What a folder on this machine is called elsewhere, nobody can tell.
            (Some(names), Ok(url)) if url.host().is_some() => names.may_be(&url),
            _ => true,
        };
        if !is_ours {
            return Ok((None, "it is about another repository".to_owned()));
        }
        if self.app.store.automatic(&to.project).await?.is_some() {
            return Ok((None, "automatic deploys are switched off".to_owned()));
        }
        let filter = Filter {
            branch: config.source.branch.clone(),
            paths: config.webhook.paths.clone(),
            tags: Some(config.webhook.tags.clone()).filter(|it| !it.is_empty()),
            releases: config.webhook.releases,
        };
        let decision = forge::decide(&delivery.events, &filter);
        let branch = match decision.deploy {
            Some(eeveon_source::Want::Branch(name) | eeveon_source::Want::Tag(name)) => name,
            Some(eeveon_source::Want::Revision(name)) => name,
            Some(eeveon_source::Want::Default) => config.source.branch.clone(),
            None => return Ok((None, decision.why)),
        };
        if let Some(first) = config.after.iter().find(|it| it.on == Follow::SameCommit) {
            return Ok((None, format!("it is deployed after {}, and the same commit", first.project)));
        }
        let sender = delivery.sender.clone().unwrap_or_else(|| Untrusted::from(to.provider.clone()));
        let ask = Ask {
            project: to.project.clone(),
            want: Want::Newest { commit: named(&delivery.events, &branch), branch, seen: Seen::default() },
            actor: Actor::Webhook(sender),
            trigger: Trigger::Webhook,
            reason: None,
            outside_window: false,
            shared: false,
        };
        Ok((Some(ask), decision.why))
    }
}

/// Returns the commit that a delivery names as the newest of a branch. What is deployed the repository says;
/// this tells whether it knows already what the forge knows.
fn named(events: &[forge::Event], branch: &str) -> Option<CommitId> {
    events.iter().rev().find_map(|event| match event {
        forge::Event::Push { branch: pushed, after, .. } if pushed == branch => after.clone(),
        _ => None,
    })
}

#[async_trait]
impl Webhooks for Hooks {
    async fn deliver(&self, to: HookAddress, headers: HeadersView, body: Bytes) -> Reply {
        let now = Timestamp::now();
        let digest: String =
            Sha256::digest(&body).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let (hooks, address) = (self.clone(), to.clone());
        let proven = tokio::task::spawn_blocking(move || hooks.prove(&address, &headers, &body)).await;
        let proven = match proven {
            Ok(Ok(proven)) => proven,
            Ok(Err(reply)) => return reply,
            Err(_) => return Reply::Failed,
        };
        let (ask, why) = match self.judge(&to, &proven).await {
            Ok(judged) => judged,
            Err(error) => {
                tracing::error!(project = %to.project, %error, "a delivery could not be judged");
                return Reply::Failed;
            }
        };
        // A forge that names no delivery may well send the same body twice and mean it.
        let id = proven.delivery.id.as_ref().map(DeliveryId::as_str).map(str::to_owned);
        let record = eeveon_store::Delivery {
            project: to.project.clone(),
            provider: to.provider.clone(),
            id: id.unwrap_or_else(|| format!("{digest}-{}", now.as_millisecond())),
            received_at: now,
            accepted: ask.is_some(),
            why: why.clone(),
            ask: ask.as_ref().and_then(|ask| serde_json::to_string(ask).ok()),
            request: None,
        };
        let Some(ask) = ask else {
            return match self.app.store.take_delivery(&record, &[]).await {
                Ok(_) => Reply::Ignored { why },
                Err(_) => Reply::Failed,
            };
        };
        match self.daemon.ask(ask, Some(record.clone())).await {
            Ok(Taken::Repeated) => Reply::Ignored { why: "this delivery came before".to_owned() },
            Ok(Taken::Answered { answer, .. }) => Reply::Accepted { why: told(&why, &answer) },
            // Sent again it would be refused again: a person has to see to it.
            Err(DaemonError::Refused(refusal @ (Refusal::SetAside { .. } | Refusal::TooLong { .. }))) => {
                let why = format!("{why}; but {refusal}: see `ee-deploy queue` on the server");
                let record =
                    eeveon_store::Delivery { accepted: false, ask: None, why: why.clone(), ..record };
                match self.app.store.take_delivery(&record, &[]).await {
                    Ok(_) => Reply::Ignored { why },
                    Err(_) => Reply::Failed,
                }
            }
            Err(DaemonError::Refused(refusal)) => {
                tracing::warn!(project = %to.project, %refusal, "the queue took no delivery");
                Reply::Busy { retry_after: std::time::Duration::from_secs(30) }
            }
            Err(error @ DaemonError::Store { .. }) => {
                tracing::error!(project = %to.project, %error, "a delivery could not be taken");
                Reply::Busy { retry_after: std::time::Duration::from_secs(30) }
            }
            Err(_) => Reply::Failed,
        }
    }
}

fn told(why: &str, answer: &Answer) -> String {
    match answer {
        Answer::Queued { position } => format!("{why}; it is number {position} in line"),
        Answer::Coalesced { into, .. } => format!("{why}; request {into} does it"),
        Answer::Replaced { earlier, .. } => format!("{why}; it takes the place of request {earlier}"),
        Answer::Refused(refusal) => format!("{why}; {refusal}"),
    }
}

/// Whether deliveries can be taken: the daemon answers, and the store can be read.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// The store.
    pub app: App,
    /// The daemon.
    pub daemon: Handle,
}

#[async_trait]
impl Readiness for Ready {
    async fn ready(&self) -> Result<(), String> {
        self.app.store.newest_position().await.map_err(|error| error.to_string())?;
        let overview = self.daemon.overview().await.map_err(|error| error.to_string())?;
        overview.unsaved.map_or(Ok(()), Err)
    }
}

/// Returns the hooks for a daemon.
pub(crate) fn app(app: &App, daemon: Handle) -> eeveon_server::App {
    eeveon_server::App {
        webhooks: Arc::new(Hooks { app: app.clone(), daemon: daemon.clone() }),
        readiness: Arc::new(Ready { app: app.clone(), daemon }),
    }
}
