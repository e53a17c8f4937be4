//! The action that runs a command of the operator's as one step of a deployment.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use eeveon_core::{Action, Effect, OnFailure, Placed, Slot, StepContext, StepError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{BuildError, Environment, Job, Ran, Runner, StepLog, reap};

/// A command as its operator wrote it: a line for the shell, or a program with its arguments.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The line, run as it stands by `sh -eu -c`.
    pub line: String,
    /// A program and its arguments, which no shell reads. Unless empty, they are run and `line` is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// How long it may write nothing, in milliseconds.
    pub idle_ms: u64,
}

impl CommandLine {
    /// Returns the program to start and its arguments.
    pub(crate) fn words(&self) -> Vec<&str> {
        match self.args.as_slice() {
            [] => vec!["/bin/sh", "-eu", "-c", "--", &self.line],
            args => args.iter().map(String::as_str).collect(),
        }
    }
}

/// Where a command runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the release that an earlier step placed.
    Release(Slot<Placed>),
    /// In this folder.
    Folder(PathBuf),
}

/// What the plan says about a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CommandParams {
    /// What people call it.
    pub name: String,
    /// What to do; nothing if absent.
    pub run: Option<CommandLine>,
    /// What to do when the deployment is taken back, also if `run` did not come to its end; nothing
    /// if absent.
    pub undo: Option<CommandLine>,
    /// Where both run.
    pub place: Place,
    /// What both find in their environment: nothing secret, because the plan is stored and shown.
    pub env: BTreeMap<String, String>,
    /// Whether a failure of `run` is left to a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ask: bool,
}

/// Runs a command as one step of a deployment.
#[derive(Clone, Debug)]
pub struct Command {
    runner: Runner,
    logs: PathBuf,
    env: Environment,
}

impl Command {
    /// Makes the action: `logs` is the folder of all logs, `env` the project's own variables, which
    /// may be secret and are kept out of plans.
    pub fn new(runner: Runner, logs: PathBuf, env: Environment) -> Self {
        Self { runner, logs, env }
    }

    /// Ends what an earlier run left, then runs `line` if there is one.
    async fn carry_out(
        &self,
        cx: &StepContext<'_>,
        params: &CommandParams,
        line: Option<&CommandLine>,
        log: impl FnOnce(StepLog) -> StepLog,
    ) -> Result<Option<Ran>, StepError> {
        let (logs, deployment, step) = (self.logs.clone(), cx.deployment, cx.step.key.clone());
        let log = log(StepLog::new(&logs, deployment, &step));
        let planned = match line {
            Some(line) => {
                let env = self.env.clone().with(Environment::new(params.env.clone())?);
                Some((line.clone(), folder(cx, &params.place)?, env))
            }
            None => None,
        };
        let (runner, name) = (self.runner.clone(), params.name.clone());
        let ran = watched(&cx.permit.cancel, move |cancel| {
            reap(&logs, deployment, &step)?;
            let Some((command, folder, env)) = planned else { return Ok(None) };
            runner
                .run(&Job { name: &name, command: &command, folder: &folder, env, log: &log }, cancel)
                .map(Some)
        });
        Ok(ran.await?)
    }
}

fn folder(cx: &StepContext<'_>, place: &Place) -> Result<PathBuf, StepError> {
    Ok(match place {
        Place::Release(slot) => PathBuf::from(cx.read(slot)?.endpoint.0),
        Place::Folder(folder) => folder.clone(),
    })
}

/// Does blocking work that ends when `cancel` fires, or when the caller is dropped.
async fn watched<T: Send + 'static>(
    cancel: &CancellationToken,
    work: impl FnOnce(&CancellationToken) -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    let cancel = cancel.child_token();
    let _when_dropped = cancel.clone().drop_guard();
    match tokio::task::spawn_blocking(move || work(&cancel)).await {
        Ok(result) => result,
        Err(source) => Err(BuildError::Watch { source: source.into() }),
    }
}

#[async_trait]
impl Action for Command {
    const NAME: &'static str = "build.command";
    const EFFECT: Effect = Effect::World;
    type Params = CommandParams;
    type Output = Option<Ran>;

    async fn run(&self, cx: &StepContext<'_>, params: &CommandParams) -> Result<Option<Ran>, StepError> {
        self.carry_out(cx, params, params.run.as_ref(), |log| log).await
    }

    // What a build wrote into the release goes with the release; what a hook did to the world only
    // its operator can take back.
    async fn undo(
        &self,
        cx: &StepContext<'_>,
        params: &CommandParams,
        _: Option<&Option<Ran>>,
    ) -> Result<(), StepError> {
        self.carry_out(cx, params, params.undo.as_ref(), |log| log.undo()).await.map(drop)
    }

    fn can_be_left_out(&self) -> bool {
        true
    }

    fn on_failure(&self, params: &CommandParams) -> OnFailure {
        if params.ask { OnFailure::Ask } else { OnFailure::TurnBack }
    }
}
