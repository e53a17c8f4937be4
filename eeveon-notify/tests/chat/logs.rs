//! What is logged while a message is sent and refused.

use std::{
    io,
    sync::{Arc, Mutex},
};

use eeveon_notify::{Discord, DiscordConfig, EventKind, Markup, Message, Notifier, Templates};
use eeveon_testkit::notify::{Reply, Service, event};
use tracing_subscriber::fmt::MakeWriter;

use crate::rig::{credential, own_words, setup};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_log_of_everything_has_no_secret_and_says_when_a_template_failed() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let service = Service::start(|request| Reply::new(403, request.path.clone())).await;
    // It works on every sample, and not with more commits than one.
    let source = "{{ title }}{% if quarantined | length > 1 %}{{ quarantined[99] }}{% endif %}";
    for templates in [Templates::default(), own_words(Markup::DiscordMarkdown, source)] {
        let setup = setup("discord", &[("HOOK", &service.url("/hush-hush"))], templates);
        let config = DiscordConfig { url: credential("env:HOOK"), thread: None };
        let notifier = Discord::new(setup, config).unwrap();
        let mut event = event(EventKind::Quarantined);
        event.quarantined.push(event.revision.commit.clone());
        notifier.notify(&Message::of(event)).await.unwrap_err();
        notifier.check().await.unwrap_err();
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("the template failed"), "{logged}");
    assert!(!logged.contains("hush-hush"), "{logged}");
    // The default words went out instead.
    assert!(service.received()[2].json()["embeds"][0]["title"].is_string());
}
