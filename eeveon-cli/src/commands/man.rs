//! `man`: the manual page.

use clap::Args;

use crate::{CliError, Exit, render::Ui};

/// Print the manual page.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy man > /usr/local/share/man/man1/ee-deploy.1")]
pub struct Man {}

impl Man {
    /// Runs the command.
    pub fn run(self, ui: &Ui) -> Result<Exit, CliError> {
        let mut page = Vec::new();
        let mut command = crate::command_line();
        command.build();
        clap_mangen::Man::new(command.clone()).render(&mut page).map_err(CliError::Output)?;
        for subcommand in command.get_subcommands().filter(|it| it.get_name() != "help") {
            let man = clap_mangen::Man::new(subcommand.clone());
            for section in [
                clap_mangen::Man::render_synopsis_section,
                clap_mangen::Man::render_description_section,
                clap_mangen::Man::render_options_section,
            ] {
                section(&man, &mut page).map_err(CliError::Output)?;
            }
        }
        ui.verbatim(&page)?;
        Ok(Exit::Done)
    }
}
