//! Everything that can go wrong with a command.

use std::{borrow::Cow, io, path::PathBuf};

use eeveon_core::{Class, Diagnose, Retry, action::Stopped, untrusted::printable};

/// A command did not do its work. `name` is what people call the command.
#[expect(missing_docs, reason = "each variant's sentence names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The shell could not be started in `folder`.
    #[error("command \"{}\" could not be started in {}", printable(.name), folder.display())]
    Start { name: String, folder: PathBuf, source: io::Error },
    /// The command said that it failed.
    #[error("command \"{}\" exited with status {status}", printable(.name))]
    Failed { name: String, status: i32 },
    /// Something outside EEveon ended the command.
    #[error("command \"{}\" was killed by signal {signal}", printable(.name))]
    Killed { name: String, signal: i32 },
    /// The command ran longer than it may.
    #[error("command \"{}\" did not end within {}", printable(.name), seconds(*.limit_ms))]
    TimedOut { name: String, limit_ms: u64 },
    /// The command wrote nothing for longer than it may.
    #[error("command \"{}\" wrote nothing for {}", printable(.name), seconds(*.limit_ms))]
    Silent { name: String, limit_ms: u64 },
    /// The command needed more memory than it may have.
    #[error("command \"{}\" needed more than {limit_bytes} bytes of memory", printable(.name))]
    OutOfMemory { name: String, limit_bytes: u64 },
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Stopped),
    /// An environment variable has a name that not every shell can hold.
    #[error("`{name}` cannot name an environment variable")]
    Name { name: String },
    /// The value of the environment variable `name` holds a NUL byte.
    #[error("the value of `{name}` holds a NUL byte")]
    Value { name: String },
    /// The output could not be written to or read from `path`.
    #[error("cannot keep the output of a command in {}", path.display())]
    Log { path: PathBuf, source: io::Error },
    /// What an earlier run started still runs and cannot be ended.
    #[error("process group {group}, left by an earlier run, cannot be ended")]
    Leftover { group: u32 },
    /// Whoever watched the command cannot say how it ended.
    #[error("the watch over a command broke off")]
    Watch { source: Box<dyn std::error::Error + Send + Sync> },
}

fn seconds(ms: u64) -> String {
    match ms % 1000 {
        0 => format!("{} s", ms / 1000),
        _ => format!("{ms} ms"),
    }
}

impl Diagnose for BuildError {
    fn code(&self) -> &'static str {
        match self {
            Self::Start { .. } => "build/start",
            Self::Failed { .. } => "build/failed",
            Self::Killed { .. } => "build/killed",
            Self::TimedOut { .. } => "build/timed-out",
            Self::Silent { .. } => "build/silent",
            Self::OutOfMemory { .. } => "build/out-of-memory",
            Self::Cancelled(stopped) => stopped.code(),
            Self::Name { .. } | Self::Value { .. } => "build/environment",
            Self::Log { .. } => "build/log",
            Self::Leftover { .. } => "build/leftover",
            Self::Watch { .. } => "build/fault",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Start { .. } => "`ee-deploy check` looks at the folder and at /bin/sh".into(),
            // A shell reports a process killed by signal N as 128 + N.
            Self::Failed { status: 137, .. } => {
                "137 means that a process was killed, most often for want of memory; `ee-deploy logs` \
                 shows what it wrote"
                    .into()
            }
            Self::Failed { status: 127, .. } => {
                "127 means that a program was not found: install it, or give its full path".into()
            }
            Self::Failed { .. } => "`ee-deploy logs` shows what it wrote; run it by hand to try".into(),
            Self::Killed { .. } => "look in the system's log for who killed it".into(),
            Self::TimedOut { .. } => {
                "`ee-deploy logs` shows how far it came; raise `timeout` if it needs more".into()
            }
            Self::Silent { .. } => {
                "it may wait for input, which it cannot get; `ee-deploy logs` shows how far it came".into()
            }
            Self::OutOfMemory { .. } => "raise the memory limit, or make the command need less".into(),
            Self::Cancelled(_) => return None,
            Self::Name { .. } => "use letters, digits and _, not beginning with a digit".into(),
            Self::Value { .. } => "no program can be given such a value".into(),
            Self::Log { .. } => "free space and check permissions under the home folder".into(),
            Self::Leftover { group } => {
                format!("end it by hand: `kill -KILL -- -{group}`, then `ee-deploy resume`").into()
            }
            Self::Watch { .. } => "please report this, with the log of ee-deploy".into(),
        })
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Leftover { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Name { .. } | Self::Value { .. } => Class::Config,
            Self::Log { .. } | Self::Leftover { .. } | Self::Watch { .. } => Class::Fault,
            _ => Class::Failed,
        }
    }
}
