//! A channel of one's own: tells a pager that speaks a small line protocol, and proves with the
//! contract suite that it is as good as those that come with EEveon.
//!
//! `cargo run -p eeveon-examples --bin notify -- 127.0.0.1:7000` sends a test message, with the
//! password in `PAGER_PASSWORD`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, error::Error, time::Duration};

use async_trait::async_trait;
use eeveon_core::{
    CommitId, DeploymentId, Kind, ProjectName, ReleaseNumber, Revision, Secret, Seq, Trigger, Untrusted,
};
use eeveon_notify::{Event, EventKind, FORMAT, Message, Notifier, NotifyError, Serving, Wording};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long the pager may take for everything.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of its answer is read, in bytes.
const ANSWER: u64 = 512;

/// The pager: `PASS password`, then `PAGE text` or `NOOP`; it answers `ok`, `denied` or
/// `wait SECONDS`.
#[derive(Debug)]
struct Pager {
    address: String,
    /// It never shows itself, not even in `Debug`.
    password: Secret,
}

impl Pager {
    async fn say(&self, line: &str) -> Result<(), NotifyError> {
        let channel = self.name().to_owned();
        let talk = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            let request = format!("PASS {}\n{line}\n", self.password.expose());
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.take(ANSWER).read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        // Worth another attempt, unless the pager itself says otherwise.
        let unreachable = |why: String| NotifyError::Unreachable { channel: channel.clone(), why };
        let answer = timeout(PATIENCE, talk)
            .await
            .map_err(|_| unreachable("no answer in time".to_owned()))?
            .map_err(|error| unreachable(error.kind().to_string()))?;
        match answer.trim().split_once(' ').unwrap_or((answer.trim(), "")) {
            ("ok", _) => Ok(()),
            // What it says further could hold the password.
            ("denied", _) => Err(NotifyError::Login { channel, answer: Untrusted::from("denied") }),
            ("wait", seconds) => {
                let after = seconds.parse().ok().map(Duration::from_secs);
                Err(NotifyError::Throttled { channel, after, answer: Untrusted::from("wait") })
            }
            _ => Err(unreachable("no answer it is known for".to_owned())),
        }
    }
}

#[async_trait]
impl Notifier for Pager {
    fn name(&self) -> &str {
        "pager"
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        // A title is one line without controls; facts would need escaping for whatever shows them.
        self.say(&format!("PAGE {}", Wording::of(&message.event).title)).await
    }

    async fn check(&self) -> Result<String, NotifyError> {
        self.say("NOOP").await?;
        Ok("the pager knows the password".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).ok_or("usage: notify ADDRESS")?;
    let password = Secret::new(env::var("PAGER_PASSWORD")?).ok_or("PAGER_PASSWORD is empty")?;
    let pager = Pager { address, password };
    println!("{}", pager.check().await?);
    pager.notify(&Message::of(test_event()?)).await?;
    println!("sent");
    Ok(())
}

/// Makes an event that says it is a test. Real ones come from `eeveon_notify::tell`, which reads
/// the journal.
fn test_event() -> Result<Event, Box<dyn Error>> {
    let now = "2026-01-01T00:00:00Z".parse()?;
    Ok(Event {
        format: FORMAT,
        kind: EventKind::Test,
        project: ProjectName::new("example")?,
        deployment: DeploymentId(1),
        seq: Seq(0),
        at: now,
        operation: Kind::Deploy,
        release: ReleaseNumber(1),
        revision: Revision {
            commit: CommitId::new("0".repeat(40))?,
            subject: "".into(),
            author: "".into(),
            committed_at: now,
        },
        branch: "main".into(),
        actor: "user:example".into(),
        trigger: Trigger::Manual,
        reason: None,
        duration_ms: 0,
        failure: None,
        step: None,
        serving: Serving::Nothing,
        quarantined: Vec::new(),
        link: None,
        more: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use eeveon_testkit::notify::{self, Mood, Rig};
    use tokio::{
        io::{AsyncBufReadExt as _, BufReader},
        net::TcpListener,
    };

    use super::*;

    const PASSWORD: &str = "hush-hush";

    #[derive(Debug)]
    struct Desk {
        address: String,
        mood: Arc<Mutex<Mood>>,
        pages: Arc<Mutex<Vec<String>>>,
    }

    impl Desk {
        async fn open() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let (mood, pages) = (Arc::new(Mutex::new(Mood::Accepting)), Arc::default());
            let desk = Self { address, mood: Arc::clone(&mood), pages: Arc::clone(&pages) };
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let mut lines = BufReader::new(stream).lines();
                    let password = lines.next_line().await.unwrap().unwrap();
                    let line = lines.next_line().await.unwrap().unwrap();
                    let mood = *mood.lock().unwrap();
                    let answer = match mood {
                        Mood::Broken => continue,
                        Mood::Denying => format!("denied {password}"),
                        Mood::Throttling => "wait 7".to_owned(),
                        Mood::Accepting if password != format!("PASS {PASSWORD}") => "denied".to_owned(),
                        Mood::Accepting => {
                            pages.lock().unwrap().extend(line.strip_prefix("PAGE ").map(str::to_owned));
                            "ok".to_owned()
                        }
                    };
                    lines.into_inner().write_all(answer.as_bytes()).await.unwrap();
                }
            });
            desk
        }
    }

    impl Rig for Desk {
        fn notifier(&self) -> Arc<dyn Notifier> {
            let password = Secret::new(PASSWORD).unwrap();
            Arc::new(Pager { address: self.address.clone(), password })
        }

        fn set(&self, mood: Mood) {
            *self.mood.lock().unwrap() = mood;
        }

        fn accepted(&self) -> Vec<String> {
            self.pages.lock().unwrap().clone()
        }

        fn secrets(&self) -> Vec<String> {
            vec![PASSWORD.to_owned()]
        }
    }

    #[tokio::test]
    async fn the_pager_keeps_the_contract() {
        notify::run_all(&Desk::open().await).await;
    }

    #[test]
    fn the_test_event_can_be_told() {
        assert_eq!(Wording::of(&test_event().unwrap()).title, "example: a test message, nothing happened");
    }
}
