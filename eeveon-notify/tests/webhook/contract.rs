//! The contract every channel keeps, with a receiver that verifies each signature.

use std::sync::{Arc, Mutex};

use eeveon_core::SystemClock;
use eeveon_notify::{Credential, Notifier, Webhook, WebhookConfig};
use eeveon_testkit::notify::{Mood, Received, Reply, Rig, Service, run_all};

use crate::{
    PATH, SECRET,
    sending::{Known, setup},
};

struct Receiver {
    channel: Arc<Webhook>,
    mood: Arc<Mutex<Mood>>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start() -> (Self, Service) {
        let mood = Arc::new(Mutex::new(Mood::Accepting));
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let (now, took) = (Arc::clone(&mood), Arc::clone(&accepted));
        let service = Service::start(move |request| {
            let echo = format!("{} {:?} {SECRET}", request.path, request.headers);
            match *now.lock().unwrap() {
                Mood::Broken => Reply::new(500, echo),
                Mood::Denying => Reply::new(401, echo),
                Mood::Throttling => Reply::new(429, echo).with("Retry-After", "7"),
                Mood::Accepting if request.method == "OPTIONS" => Reply::new(204, ""),
                Mood::Accepting if !is_genuine(request) => Reply::new(400, "not genuine"),
                Mood::Accepting => {
                    took.lock().unwrap().push(request.json().get("project").unwrap().to_string());
                    Reply::new(202, "")
                }
            }
        })
        .await;
        let mut config = WebhookConfig::new(Credential::parse("env:URL").unwrap());
        config.headers = vec![("Authorization".into(), Credential::parse("env:TOKEN").unwrap())];
        config.secrets = vec![Credential::parse("env:KEY").unwrap()];
        let secrets =
            Known::of(&[("URL", &service.url(PATH)), ("TOKEN", "t0ken-in-a-header"), ("KEY", SECRET)]);
        let channel = Webhook::new(setup("hook", secrets), config, Arc::new(SystemClock)).unwrap();
        (Self { channel: Arc::new(channel), mood, accepted }, service)
    }
}

fn is_genuine(request: &Received) -> bool {
    let headers = request
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("webhook-"))
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&request.body, &headers).is_ok()
}

impl Rig for Receiver {
    fn notifier(&self) -> Arc<dyn Notifier> {
        self.channel.clone()
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().unwrap().clone()
    }

    fn secrets(&self) -> Vec<String> {
        ["path-tok3n", "qu3ry-tok3n", "t0ken-in-a-header", SECRET].map(str::to_owned).into()
    }

    fn check_proves_login(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_webhook_keeps_the_contract_of_channels() {
    let (receiver, _service) = Receiver::start().await;
    run_all(&receiver).await;
}
