//! A service of the tests that judges what it is sent, for the contract of notifiers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use eeveon_core::{Secret, SecretError, SecretRef, Secrets};
use eeveon_notify::{Credential, HttpOptions, Markup, Notifier, Setup, Template, Templates};
use eeveon_testkit::notify::{Mood, Received, Reply, Rig, Service};

/// What a service says to a request: it took a message that reads like this, or something else.
pub(crate) enum Verdict {
    Accepted(String, Reply),
    Other(Reply),
}

/// One service, with one notifier that talks to it.
pub(crate) struct Chat {
    notifier: Arc<dyn Notifier>,
    mood: Arc<Mutex<Mood>>,
    accepted: Arc<Mutex<Vec<String>>>,
    secrets: Vec<String>,
    check_proves_login: bool,
    pub(crate) service: Service,
}

impl Chat {
    /// Starts a service. `make` makes its notifier from the address.
    pub(crate) async fn start(
        judge: impl Fn(&Received, Mood) -> Verdict + Send + Sync + 'static,
        secrets: &[&str],
        make: impl FnOnce(&Service) -> Arc<dyn Notifier>,
    ) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Accepting));
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let (now, took) = (Arc::clone(&mood), Arc::clone(&accepted));
        let service = Service::start(move |request| {
            let mood = *now.lock().unwrap();
            match judge(request, mood) {
                Verdict::Accepted(text, reply) => {
                    took.lock().unwrap().push(text);
                    reply
                }
                Verdict::Other(reply) => reply,
            }
        })
        .await;
        Self {
            notifier: make(&service),
            mood,
            accepted,
            secrets: secrets.iter().map(ToString::to_string).collect(),
            check_proves_login: true,
            service,
        }
    }

    /// Says that a check cannot find out whether the service knows us.
    pub(crate) fn without_proof(mut self) -> Self {
        self.check_proves_login = false;
        self
    }
}

impl Rig for Chat {
    fn notifier(&self) -> Arc<dyn Notifier> {
        Arc::clone(&self.notifier)
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().unwrap().clone()
    }

    fn secrets(&self) -> Vec<String> {
        self.secrets.clone()
    }

    fn check_proves_login(&self) -> bool {
        self.check_proves_login
    }
}

/// Secrets of a test, by the name of a variable. Its `Debug` shows them, as a careless one would.
#[derive(Debug, Default)]
pub(crate) struct Known(pub(crate) HashMap<String, String>);

impl Secrets for Known {
    fn reveal(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let missing = || SecretError::Missing { at: at.to_string(), why: "is not set".to_owned() };
        let SecretRef::Env(name) = at else { return Err(missing()) };
        self.0.get(name).and_then(Secret::new).ok_or_else(missing)
    }
}

/// Returns what a channel called `name` is made with; `secrets` are variables it may ask for.
pub(crate) fn setup(name: &str, secrets: &[(&str, &str)], templates: Templates) -> Setup {
    let known = secrets.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Setup { name: name.to_owned(), secrets: Arc::new(Known(known)), templates, http: HttpOptions::default() }
}

/// Returns a template for every level.
pub(crate) fn own_words(markup: Markup, source: &str) -> Templates {
    let template = Template::parse("a test", markup, source).unwrap();
    Templates { every: Some(template), ..Templates::default() }
}

pub(crate) fn credential(text: &str) -> Credential {
    Credential::parse(text).unwrap()
}

/// Returns a file of the fixtures. Says so and returns nothing if it is not there.
pub(crate) fn fixture(path: &str) -> Option<serde_json::Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let folder = std::env::var("EEVEON_FIXTURES").unwrap_or_else(|_| beside.to_owned());
    let text = std::fs::read_to_string(format!("{folder}/{path}"));
    if text.is_err() {
        eprintln!("SKIPPED: the fixture {path} is not there; set EEVEON_FIXTURES");
    }
    Some(serde_json::from_str(&text.ok()?).unwrap())
}

/// Counts as the services do that count UTF-16.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Makes the answers most services give to a request they do not like, with what they were sent
/// in it.
pub(crate) fn refusal(request: &Received, mood: Mood) -> Option<Reply> {
    let echo = format!("{} {:?}", request.path, request.headers);
    match mood {
        Mood::Accepting => None,
        Mood::Broken => Some(Reply::new(500, echo)),
        Mood::Denying => Some(Reply::new(403, echo)),
        Mood::Throttling => Some(Reply::new(429, echo).with("Retry-After", "7")),
    }
}
