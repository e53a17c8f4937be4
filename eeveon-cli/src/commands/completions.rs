//! `completions`: a script that completes commands in a shell.

use clap::Args;
use clap_complete::Shell;

use crate::{CliError, Exit, render::Ui};

/// Print a script that completes commands in a shell.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy completions bash > /etc/bash_completion.d/ee-deploy")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Runs the command.
    pub fn run(self, ui: &Ui) -> Result<Exit, CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command_line(), "ee-deploy", &mut script);
        ui.verbatim(&script)?;
        Ok(Exit::Done)
    }
}
