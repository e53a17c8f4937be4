//! How to speak to the daemon while it works.

use std::fmt;

use eeveon_core::ProjectName;
use eeveon_store::Delivery;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{Answer, Ask, DaemonError, Done, Fate, Freeze, RequestId, Seen, Sighting};

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

/// How things stand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Overview {
    /// Projects that are watched.
    pub projects: usize,
    /// Requests that wait: project, and the request's number.
    pub waiting: Vec<(ProjectName, RequestId)>,
    /// Requests that are carried out.
    pub running: Vec<(ProjectName, RequestId)>,
    /// Requests that were set aside.
    pub aside: Vec<(ProjectName, RequestId)>,
    /// Projects that may not start now, and why.
    pub held: Vec<(ProjectName, String)>,
    /// Projects whose repository cannot be seen, and why.
    pub unseen: Vec<(ProjectName, String)>,
}

pub(crate) enum Message {
    Ask { ask: Ask, delivery: Option<Box<Delivery>>, answer: oneshot::Sender<Result<Taken, DaemonError>> },
    Wait { request: RequestId, end: oneshot::Sender<End> },
    Cancel { request: RequestId },
    Lift { project: ProjectName },
    Freeze { project: Option<ProjectName>, freeze: Option<Freeze> },
    Overview { answer: oneshot::Sender<Overview> },
    Seen { project: ProjectName, seen: Seen, result: Result<Sighting, String> },
    Done { request: RequestId, done: Option<Done> },
}

/// Speaks to the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) mpsc::Sender<Message>);

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ask { .. } => "Ask",
            Self::Wait { .. } => "Wait",
            Self::Cancel { .. } => "Cancel",
            Self::Lift { .. } => "Lift",
            Self::Freeze { .. } => "Freeze",
            Self::Overview { .. } => "Overview",
            Self::Seen { .. } => "Seen",
            Self::Done { .. } => "Done",
        })
    }
}

impl Handle {
    /// Asks for a deployment. Once this returns, the request is durable. With a `delivery`, the
    /// delivery is recorded in the same moment, and one that came before changes nothing.
    ///
    /// # Errors
    ///
    /// `daemon/refused`; `daemon/ended` when the daemon is no more; `daemon/store`.
    pub async fn ask(&self, ask: Ask, delivery: Option<Delivery>) -> Result<Taken, DaemonError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask { ask, delivery: delivery.map(Box::new), answer }).await?;
        answered.await.map_err(|_| DaemonError::Gone)?
    }

    /// Waits for the end of a request.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn wait(&self, request: RequestId) -> Result<End, DaemonError> {
        let (end, ended) = oneshot::channel();
        self.send(Message::Wait { request, end }).await?;
        ended.await.map_err(|_| DaemonError::Gone)
    }

    /// Does not want a request any more.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn cancel(&self, request: RequestId) -> Result<(), DaemonError> {
        self.send(Message::Cancel { request }).await
    }

    /// Lets a project's requests that were set aside be asked for again.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn lift(&self, project: ProjectName) -> Result<(), DaemonError> {
        self.send(Message::Lift { project }).await
    }

    /// Freezes a project, or all, or lifts that.
    ///
    /// # Errors
    ///
    /// `daemon/ended`.
    pub async fn freeze(
        &self,
        project: Option<ProjectName>,
        freeze: Option<Freeze>,
    ) -> Result<(), DaemonError> {
        self.send(Message::Freeze { project, freeze }).await
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
