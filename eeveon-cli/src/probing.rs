//! How health checks run commands: by the one runner, with what they write kept beside the other
//! output of the step.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use eeveon_build::{BuildError, CommandLine, Environment, Job, Runner, StepLog, log::LogReader, reap};
use eeveon_core::{StepError, Untrusted};
use eeveon_health::{CommandEnd, CommandJob, CommandSpec, Commands, Ending};
use tokio_util::sync::CancellationToken;

/// Lines of a command's output that are looked at.
const TAIL: usize = 10;

/// Runs commands for health checks.
#[derive(Clone, Debug)]
pub(crate) struct CheckCommands {
    /// What runs them.
    pub runner: Runner,
    /// The folder of all logs.
    pub logs: PathBuf,
    /// The project's own variables.
    pub env: Environment,
}

#[async_trait]
impl Commands for CheckCommands {
    async fn run(&self, job: CommandJob<'_>, cancel: &CancellationToken) -> Result<CommandEnd, StepError> {
        let log = StepLog::new(&self.logs, job.origin.deployment, &job.origin.step);
        let log = if job.origin.undo { log.undo() } else { log };
        let subject = job.subject;
        let about = Environment::new([
            ("EEVEON_PROJECT".to_owned(), subject.project.to_string()),
            ("EEVEON_RELEASE".to_owned(), subject.release.to_string()),
            ("EEVEON_REVISION".to_owned(), subject.commit.to_string()),
        ])?;
        let command = line(job.command, job.timeout);
        let (name, folder, env) =
            (job.check.to_owned(), subject.folder.clone(), self.env.clone().with(about));
        let (runner, kept, cancel) = (self.runner.clone(), log.clone(), cancel.clone());
        let (logs, origin) = (self.logs.clone(), job.origin.clone());
        // All looks of a check share a log: what an earlier one wrote is no reason of this one.
        let seen = LogReader::after_tail(&log.path(), 0);
        let ran = tokio::task::spawn_blocking(move || {
            // A killed EEveon may have left a look running.
            reap(&logs, origin.deployment, &origin.step)?;
            let job = Job { name: &name, command: &command, folder: &folder, env, log: &kept };
            runner.run(&job, &cancel)
        });
        let ran = match ran.await {
            Ok(ran) => ran,
            Err(source) => Err(BuildError::Watch { source: source.into() }),
        };
        let mut lines = Vec::new();
        if let Ok((_, mut seen)) = seen {
            lines = seen.poll().unwrap_or_default();
            lines.extend(seen.finish());
        }
        let how = match ran {
            Ok(_) => Ending::Exited(0),
            Err(BuildError::Failed { status, .. }) => Ending::Exited(status),
            Err(BuildError::Killed { .. } | BuildError::OutOfMemory { .. }) => Ending::Killed,
            Err(BuildError::TimedOut { .. } | BuildError::Silent { .. }) => Ending::TimedOut,
            Err(error) => return Err(error.into()),
        };
        let begin = lines.len().saturating_sub(TAIL);
        let lines: Vec<&str> = lines.iter().skip(begin).map(Untrusted::as_raw).collect();
        Ok(CommandEnd { how, output: Untrusted::from(lines.join("\n")) })
    }
}

fn line(command: &CommandSpec, timeout: Duration) -> CommandLine {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    // A check that says nothing is no reason to worry: its time is limited anyway.
    let (line, args) = match command {
        CommandSpec::Line(line) => (line.clone(), Vec::new()),
        CommandSpec::Args(args) => (String::new(), args.clone()),
    };
    CommandLine { line, args, timeout_ms, idle_ms: timeout_ms }
}
