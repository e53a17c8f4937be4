//! Telling people, as long as no daemon does: whoever deployed delivers before the command ends, for
//! a bounded time; what is left the next command delivers.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use eeveon_core::{ProjectName, Secret, SystemClock};
use eeveon_daemon::{
    AddressBook, Addressees, Channel, Courier, Waiting, WaitsFor, control::Client, courier::COMMAND_DELIVERS,
};
use eeveon_notify::{Message, Notifier, NotifyError, Proxies};
use jiff::Timestamp;

use crate::{
    App, CliError,
    config::{self, Around, ProjectConfig},
    home::Home,
    render::{Line, count, duration},
};

/// The project files, as the courier asks them.
#[derive(Debug)]
struct ProjectFiles {
    home: Home,
    around: Around,
    /// What was made of a project's file, as long as that says the same: a channel remembers who has
    /// got a message that others could not take yet.
    made: Mutex<BTreeMap<ProjectName, Made>>,
}

/// A project's channels, and what they were made of.
#[derive(Debug)]
struct Made {
    of: Vec<Source>,
    channels: Vec<Channel>,
}

/// What a channel is made of: its section, and when the file of authorities that it names was changed.
type Source = (config::Notify, Option<SystemTime>);

#[async_trait]
impl AddressBook for ProjectFiles {
    async fn look_up(&self, project: &ProjectName) -> Result<Option<Addressees>, String> {
        if self.home.is_gone(project).map_err(|error| with_causes(&error))? {
            return Ok(None);
        }
        let config = config::load(&self.home.project_file(project), project);
        let config = config.map_err(|error| with_causes(&error))?;
        Ok(Some(Addressees {
            branch: config.source.branch.as_str().into(),
            link: Some(config.deploy.link.clone()).filter(|link| !link.is_empty()),
            channels: self.channels(project, &config),
        }))
    }
}

impl ProjectFiles {
    fn channels(&self, project: &ProjectName, config: &ProjectConfig) -> Vec<Channel> {
        let changed = |file: &str| fs::metadata(file).and_then(|file| file.modified()).ok();
        let sources: Vec<Source> =
            config.notify.iter().map(|it| (it.clone(), changed(&it.ca_file))).collect();
        let mut known = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(project) {
            Some(Made { of, channels }) if *of == sources => channels.clone(),
            _ => {
                let channels = made(config, &self.around);
                known.insert(project.clone(), Made { of: sources, channels: channels.clone() });
                channels
            }
        }
    }
}

fn made(config: &ProjectConfig, around: &Around) -> Vec<Channel> {
    let channel = |notify: &config::Notify| {
        let notifier = notify.notifier(around).unwrap_or_else(|(key, why)| {
            Arc::new(Unmade { name: notify.name(), why: format!("notify.{key}: {why}") })
        });
        Channel { route: notify.route(), notifier }
    };
    config.notify.iter().map(channel).collect()
}

/// A channel that lacks something, such as its file of certificates. The others do not wait for it.
#[derive(Debug)]
struct Unmade {
    name: String,
    why: String,
}

#[async_trait]
impl Notifier for Unmade {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, _: &Message) -> Result<(), NotifyError> {
        // It may be there the next time.
        Err(NotifyError::Unreachable { channel: self.name.clone(), why: self.why.clone() })
    }

    async fn check(&self) -> Result<String, NotifyError> {
        Err(NotifyError::Config { channel: self.name.clone(), why: self.why.clone() })
    }
}

/// Returns a project's channels.
pub(crate) fn channels(app: &App, config: &ProjectConfig) -> Vec<Channel> {
    made(config, &around(app))
}

fn around(app: &App) -> Around {
    let environment = &app.environment;
    let proxy = |url: &Option<String>| url.as_deref().and_then(Secret::new);
    Around {
        secrets: Arc::new(environment.clone()),
        proxies: Proxies {
            http: proxy(&environment.http_proxy),
            https: proxy(&environment.proxy),
            except: environment.no_proxy.clone().unwrap_or_default(),
        },
        home_id: app.home_id.clone(),
    }
}

/// Returns the courier of this home.
pub(crate) fn courier(app: &App) -> Courier {
    let book = ProjectFiles { home: app.home.clone(), around: around(app), made: Mutex::default() };
    Courier::new(Arc::clone(&app.store), Arc::new(book), Arc::new(SystemClock), app.me.clone())
}

/// Who delivers what there is to tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sender {
    /// A daemon, if one works in this home: it may have secrets that this process has not.
    Anyone,
    /// This process.
    Here,
}

/// Delivers what there is to tell, for at most [`COMMAND_DELIVERS`], where it falls to this process. What
/// does not arrive is told, and is no reason for a command to fail.
pub(crate) async fn deliver(app: &App, sender: Sender) {
    if let Err(error) = try_deliver(app, sender).await {
        app.ui.warn(format!("notifications could not be delivered: {error}"));
    }
}

async fn try_deliver(app: &App, sender: Sender) -> Result<(), CliError> {
    let courier = courier(app);
    courier.drop_gone().await?;
    if sender == Sender::Anyone && Client::connect(app.home.root()).await.is_some() {
        return Ok(());
    }
    if !courier.has_work().await? {
        return Ok(());
    }
    // Another process may have read the journal first.
    let is_news = courier.post().await? || app.opened.borrow().is_some();
    let round = courier.deliver_within(COMMAND_DELIVERS, &app.interrupted).await?;
    for (project, channel, why) in round.delayed {
        let text =
            format!("{project}: a message to {channel} has not arrived and is tried again later: {why}");
        app.ui.err(Line::default().warn("  late  ").plain(text));
    }
    // Whoever deployed is told, and not with every command afterwards.
    for waiting in round.waiting.iter().filter(|_| is_news) {
        app.ui.err(Line::default().warn("  late  ").plain(in_words(waiting, Timestamp::now())));
    }
    for (project, channel, why) in round.dead {
        app.ui.warn(format!("{project}: a message to {channel} was given up: {why}"));
    }
    Ok(())
}

/// Returns what an error and everything behind it say.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Says what was not even tried, what it waits for, and who sends it.
fn in_words(waiting: &Waiting, now: Timestamp) -> String {
    let Waiting { project, channel, count: several, what_for } = waiting;
    let messages = count(*several as u64, "message");
    let (wait, them) = if *several == 1 { ("waits", "it") } else { ("wait", "them") };
    let until = |until: Timestamp| Duration::try_from(until.duration_since(now)).ok();
    let why = match what_for {
        WaitsFor::Process(who) => {
            return format!(
                "{project}: {messages} to {channel} {wait} for {who}, which is sending there; what it leaves the \
                 next command or the daemon sends"
            );
        }
        WaitsFor::Another => "behind it".to_owned(),
        WaitsFor::Until(end) => match until(*end) {
            Some(rest) => format!("another {}, for it is left alone until then", duration(rest)),
            None => "behind it".to_owned(),
        },
    };
    format!("{project}: {messages} to {channel} {wait} {why}; the next command or the daemon sends {them}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use eeveon_core::Secrets;
    use eeveon_testkit::servers::{Validity, write_certificates};

    use super::*;
    use crate::environment::Environment;

    #[test]
    fn what_another_process_sends_is_said_with_its_name() {
        let mut waiting = Waiting {
            project: ProjectName::new("shop").unwrap(),
            channel: "ops".to_owned(),
            count: 1,
            what_for: WaitsFor::Process("ada: ee-deploy up (process 7)".to_owned()),
        };
        assert_eq!(
            in_words(&waiting, Timestamp::UNIX_EPOCH),
            "shop: 1 message to ops waits for ada: ee-deploy up (process 7), which is sending there; what it \
             leaves the next command or the daemon sends"
        );
        waiting.count = 2;
        assert!(in_words(&waiting, Timestamp::UNIX_EPOCH).contains("2 messages to ops wait for ada"));
    }

    #[tokio::test]
    async fn a_channel_is_made_anew_when_its_section_or_its_authorities_change_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::find(Some(folder.path().join("home")), None).unwrap();
        home.make().unwrap();
        let shop = ProjectName::new("shop").unwrap();
        let authorities = folder.path().join("ca.pem");
        write_certificates(folder.path(), Validity::Good).unwrap();
        let write = |name: &str, more: &str| {
            let text = format!(
                "[source]\nrepo = \"https://example.org/shop.git\"\nbranch = \"main\"\n\
                 [deploy]\npath = \"/srv/shop\"\n{more}\n\
                 [[notify]]\nchannel = \"webhook\"\nname = \"{name}\"\n\
                 url = \"https://example.org\"\nca_file = \"{}\"\n",
                authorities.display()
            );
            fs::write(home.project_file(&shop), text).unwrap();
        };
        let secrets: Arc<dyn Secrets> = Arc::new(Environment::default());
        let around = Around { secrets, proxies: Proxies::default(), home_id: home.id().unwrap() };
        let book = ProjectFiles { home: home.clone(), around, made: Mutex::default() };
        let channel = async || book.look_up(&shop).await.unwrap().unwrap().channels.remove(0).notifier;
        write("a", "");
        let first = channel().await;
        write("a", "keep = 7");
        assert!(Arc::ptr_eq(&first, &channel().await));
        write("b", "");
        let second = channel().await;
        assert_eq!(second.name(), "b");
        let later = SystemTime::now() + Duration::from_secs(60);
        fs::File::options().append(true).open(&authorities).unwrap().set_modified(later).unwrap();
        assert!(!Arc::ptr_eq(&second, &channel().await));
        fs::write(home.project_file(&shop), "[source").unwrap();
        assert!(book.look_up(&shop).await.is_err(), "what was made before is not used for it");
        fs::remove_file(home.project_file(&shop)).unwrap();
        assert!(book.look_up(&shop).await.unwrap().is_none());
    }

    /// What waits for a project that is gone is dropped: nothing but a file that is not there may say so.
    #[tokio::test]
    async fn a_project_whose_file_cannot_be_reached_is_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::find(Some(folder.path().join("home")), None).unwrap();
        home.make().unwrap();
        let shop = ProjectName::new("shop").unwrap();
        let secrets: Arc<dyn Secrets> = Arc::new(Environment::default());
        let around = Around { secrets, proxies: Proxies::default(), home_id: home.id().unwrap() };
        let book = ProjectFiles { home: home.clone(), around, made: Mutex::default() };
        let file = home.project_file(&shop);
        for leads_to in [folder.path().join("not-mounted/shop.toml"), file.clone()] {
            symlink(&leads_to, &file).unwrap();
            let why = book.look_up(&shop).await.unwrap_err();
            assert!(why.contains("shop.toml"), "{why}");
            fs::remove_file(&file).unwrap();
        }
        assert!(book.look_up(&shop).await.unwrap().is_none());
        // The folder itself is elsewhere, and not there now; or something else is in its place.
        fs::remove_dir(home.projects()).unwrap();
        symlink(folder.path().join("not-mounted"), home.projects()).unwrap();
        book.look_up(&shop).await.unwrap_err();
        fs::remove_file(home.projects()).unwrap();
        book.look_up(&shop).await.unwrap_err();
        fs::write(home.projects(), "").unwrap();
        book.look_up(&shop).await.unwrap_err();
    }
}
