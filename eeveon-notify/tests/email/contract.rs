//! The contract every channel keeps.

use std::sync::Arc;

use eeveon_notify::Notifier;
use eeveon_testkit::notify::{Mood, Rig, run_all};

use crate::{
    answers::{PASSWORD, channel, config, password},
    scripted::Scripted,
};

struct MailServer {
    server: Scripted,
    channel: Arc<dyn Notifier>,
}

impl Rig for MailServer {
    fn notifier(&self) -> Arc<dyn Notifier> {
        self.channel.clone()
    }

    fn set(&self, mood: Mood) {
        let denied = format!("535 5.7.8 not with {PASSWORD}");
        match mood {
            Mood::Broken => self.server.change(&[("greeting", "421 4.3.0 broken")]),
            Mood::Denying => self.server.change(&[("AUTH", &denied)]),
            Mood::Throttling => self.server.change(&[("MAIL", "450 4.7.1 slow down")]),
            Mood::Accepting => self.server.change(&[]),
        }
    }

    fn accepted(&self) -> Vec<String> {
        self.server.subjects()
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    /// It has, but not for how long.
    fn throttles(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn email_keeps_the_contract_of_channels() {
    let server = Scripted::with(&[]);
    let mut config = config(&server, &["ops@example.org"]);
    config.login = password();
    let rig = MailServer { channel: Arc::new(channel(config)), server };
    run_all(&rig).await;
}
