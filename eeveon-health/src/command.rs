//! The check that wants a command to succeed. Whoever composes everything runs it: processes are not
//! started here.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use eeveon_core::{DeploymentId, StepError, StepKey, Untrusted};
use tokio_util::sync::CancellationToken;

use crate::{CommandSpec, HealthCheck, MAX_REASON_BYTES, Pace, ProbeError, Reading, Subject, check::cut};

/// For which step a check looks, so that what a command writes is found there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The step.
    pub step: StepKey,
    /// Whether the step is taken back.
    pub undo: bool,
}

/// One command to run.
#[derive(Clone, Copy, Debug)]
pub struct CommandJob<'a> {
    /// What people call the check.
    pub check: &'a str,
    /// What to run.
    pub command: &'a CommandSpec,
    /// For which step.
    pub origin: &'a Origin,
    /// The release it is about; it runs in its folder.
    pub subject: &'a Subject,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal from outside.
    Killed,
    /// It was ended because its time was over.
    TimedOut,
}

/// How a command ended, and what it wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandEnd {
    /// How.
    pub how: Ending,
    /// The end of what it wrote.
    pub output: Untrusted,
}

/// Runs commands of the operator's.
#[async_trait]
pub trait Commands: fmt::Debug + Send + Sync {
    /// Runs a command to its end, or ends it when its time is over or `cancel` fires, which it also
    /// does when the look is given up.
    ///
    /// # Errors
    ///
    /// The command could not be run.
    async fn run(&self, job: CommandJob<'_>, cancel: &CancellationToken) -> Result<CommandEnd, StepError>;
}

/// Runs a command and looks at its exit code.
#[derive(Debug)]
pub(crate) struct CommandCheck {
    pub(crate) name: String,
    pub(crate) command: CommandSpec,
    pub(crate) pace: Pace,
    pub(crate) origin: Origin,
    pub(crate) commands: Arc<dyn Commands>,
}

#[async_trait]
impl HealthCheck for CommandCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn probe(&self, subject: &Subject) -> Result<Reading, ProbeError> {
        let cancel = CancellationToken::new();
        let _when_dropped = cancel.clone().drop_guard();
        let job = CommandJob {
            check: &self.name,
            command: &self.command,
            origin: &self.origin,
            subject,
            timeout: self.pace.timeout(),
        };
        let end = self.commands.run(job, &cancel).await;
        let end = end.map_err(|error| ProbeError::Command(cut(error.to_string())))?;
        match end.how {
            Ending::Exited(0) => Ok(Reading::Healthy),
            Ending::Exited(code) => Ok(reading(&format!("exit code {code}"), &end.output)),
            Ending::Killed => Ok(reading("killed by a signal", &end.output)),
            Ending::TimedOut => Err(ProbeError::TimedOut { after_ms: self.pace.timeout_ms }),
        }
    }
}

/// Joins how the command ended with the last it wrote: the reason is most often at the end.
fn reading(how: &str, output: &Untrusted) -> Reading {
    let output = output.as_raw().trim();
    let room = MAX_REASON_BYTES.saturating_sub(how.len()).saturating_sub(": ".len());
    let begin = (output.len().saturating_sub(room)..=output.len()).find(|at| output.is_char_boundary(*at));
    match output.get(begin.unwrap_or_default()..).unwrap_or_default() {
        "" => Reading::unhealthy(how),
        last => Reading::unhealthy(format!("{how}: {last}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_output_is_kept() {
        let output = format!("{}ä the reason\n\n", "é".repeat(1000));
        let Reading::Unhealthy { reason } = reading("exit code 1", &Untrusted::from(output)) else {
            panic!()
        };
        assert!(reason.as_raw().starts_with("exit code 1: éé"), "{reason:?}");
        assert!(reason.as_raw().ends_with("ä the reason"), "{reason:?}");
        assert!(reason.as_raw().len() <= MAX_REASON_BYTES);
        assert_eq!(reading("exit code 1", &Untrusted::from(" \n")), Reading::unhealthy("exit code 1"));
    }
}
