//! How to speak to the daemon while it works.

use std::fmt;

use eeveon_core::{Actor, CommitId, DeploymentId, ProjectName};
use eeveon_store::Delivery;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{Answer, Ask, DaemonError, Done, Fate, RequestId, Seen, Sighting};

/// News of one request that may wait to be read. A request makes less of it.
const NEWS: usize = 64;

/// What came of asking.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taken {
    /// The queue's answer.
    Answered {
        /// The request's number.
        request: RequestId,
        /// What becomes of it.
        answer: Answer,
    },
    /// The same delivery came before.
    Repeated,
}

/// How a request ended, for whoever waits for it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub fate: Fate,
    /// What came of carrying it out, if it was.
    pub done: Option<Done>,
}

/// What happens to a request, for whoever follows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It is carried out from now on.
    Started,
    /// It came to this deployment.
    Opened(DeploymentId),
    /// Another request took its place, and is followed instead.
    Replaced {
        /// That request.
        by: RequestId,
    },
    /// It is over. Nothing follows.
    Ended(End),
}

/// A request that is not wanted any more.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Which.
    pub request: RequestId,
    /// By whom.
    pub by: Actor,
    /// Why, in their words.
    pub why: Option<String>,
    /// Whether it goes on when others want the same.
    pub unless_shared: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// It does not wait any more, or is taken back.
    Cancelled,
    /// It goes on, as others want the same.
    Shared,
    /// There is no such request, or it is over.
    Unknown,
}

/// How things stand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Overview {
    /// Projects that are watched.
    pub projects: usize,
    /// Requests that wait: project, and the request's number.
    pub waiting: Vec<(ProjectName, RequestId)>,
    /// Requests that are carried out.
    pub running: Vec<(ProjectName, RequestId)>,
    /// The request that runs alone because its process died twice, or is next and waits until it would be
    /// alone. Meanwhile nothing else begins, except what goes back.
    #[serde(default)]
    pub alone: Option<(ProjectName, RequestId)>,
    /// Requests that were set aside.
    pub aside: Vec<(ProjectName, RequestId)>,
    /// Projects that may not start now, and why.
    pub held: Vec<(ProjectName, String)>,
    /// Projects whose repository cannot be seen, and why.
    pub unseen: Vec<(ProjectName, String)>,
    /// Projects that wait before something is tried again, and why.
    #[serde(default)]
    pub paused: Vec<(ProjectName, String)>,
    /// Why the queue cannot be saved now, and nothing is taken on or begun.
    #[serde(default)]
    pub unsaved: Option<String>,
}

pub(crate) enum Message {
    Ask {
        ask: Ask,
        delivery: Option<Box<Delivery>>,
        news: Option<mpsc::Sender<News>>,
        answer: oneshot::Sender<Result<Taken, DaemonError>>,
    },
    Follow {
        request: RequestId,
        news: mpsc::Sender<News>,
    },
    Cancel {
        cancel: Cancel,
        answer: oneshot::Sender<Cancelled>,
    },
    Lift {
        project: ProjectName,
        lifted: oneshot::Sender<usize>,
    },
    Reload,
    Overview {
        answer: oneshot::Sender<Overview>,
    },
    Settled,
    Free {
        project: ProjectName,
    },
    Seen {
        project: ProjectName,
        known: Option<CommitId>,
        seen: Seen,
        result: Result<Sighting, String>,
    },
    Opened {
        request: RequestId,
        deployment: DeploymentId,
    },
    Done {
        request: RequestId,
        done: Option<Done>,
    },
}

/// Speaks to the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) mpsc::Sender<Message>);

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ask { .. } => "Ask",
            Self::Follow { .. } => "Follow",
            Self::Cancel { .. } => "Cancel",
            Self::Lift { .. } => "Lift",
            Self::Reload => "Reload",
            Self::Overview { .. } => "Overview",
            Self::Settled => "Settled",
            Self::Free { .. } => "Free",
            Self::Seen { .. } => "Seen",
            Self::Opened { .. } => "Opened",
            Self::Done { .. } => "Done",
        })
    }
}

impl Handle {
    /// Asks for a deployment. Once this returns, the request is durable. With a `delivery`, the
    /// delivery is recorded in the same moment, and one that came before changes nothing.
    /// Dropped while it waits for its turn, nothing is taken.
    ///
    /// # Errors
    ///
    /// `daemon/refused`; `daemon/ended` when the daemon is no more; `daemon/store`.
    pub async fn ask(&self, ask: Ask, delivery: Option<Delivery>) -> Result<Taken, DaemonError> {
        self.take(ask, delivery, None).await
    }

    /// Asks for a deployment, and follows what becomes of it.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn ask_and_follow(&self, ask: Ask) -> Result<(Taken, mpsc::Receiver<News>), DaemonError> {
        let (news, follow) = mpsc::channel(NEWS);
        Ok((self.take(ask, None, Some(news)).await?, follow))
    }

    async fn take(
        &self,
        ask: Ask,
        delivery: Option<Delivery>,
        news: Option<mpsc::Sender<News>>,
    ) -> Result<Taken, DaemonError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask { ask, delivery: delivery.map(Box::new), news, answer }).await?;
        answered.await.map_err(|_| DaemonError::Gone)?
    }

    /// Follows a request that was asked for earlier.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn follow(&self, request: RequestId) -> Result<mpsc::Receiver<News>, DaemonError> {
        let (news, follow) = mpsc::channel(NEWS);
        self.send(Message::Follow { request, news }).await?;
        Ok(follow)
    }

    /// Waits for the end of a request.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn wait(&self, request: RequestId) -> Result<End, DaemonError> {
        let mut news = self.follow(request).await?;
        while let Some(news) = news.recv().await {
            if let News::Ended(end) = news {
                return Ok(end);
            }
        }
        Err(DaemonError::Gone)
    }

    /// Does not want a request any more. One that runs is taken back.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn cancel(&self, cancel: Cancel) -> Result<Cancelled, DaemonError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Cancel { cancel, answer }).await?;
        answered.await.map_err(|_| DaemonError::Gone)
    }

    /// Lets a project's requests that were set aside be asked for again. Returns how many there were.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn lift(&self, project: ProjectName) -> Result<usize, DaemonError> {
        let (lifted, answered) = oneshot::channel();
        self.send(Message::Lift { project, lifted }).await?;
        answered.await.map_err(|_| DaemonError::Gone)
    }

    /// Lets the daemon look at once for what changed in its projects, and not in a few seconds.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn reload(&self) -> Result<(), DaemonError> {
        self.send(Message::Reload).await
    }

    /// Tells how things stand.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn overview(&self) -> Result<Overview, DaemonError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Overview { answer }).await?;
        answered.await.map_err(|_| DaemonError::Gone)
    }

    pub(crate) async fn send(&self, message: Message) -> Result<(), DaemonError> {
        self.0.send(message).await.map_err(|_| DaemonError::Gone)
    }
}
