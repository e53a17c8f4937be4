//! Pages of the guide that are made from the code: the project file's reference and the commands.

use std::fmt::Write as _;

use crate::config::{KEYS, SECTIONS};

/// The note at the head of a generated page.
const NOTE: &str = "<!-- Made by `cargo xtask codegen`; edits here are lost. -->\n";

/// Returns the pages: path below the repository's root, and content.
pub fn pages() -> Vec<(&'static str, String)> {
    vec![("docs/guide/reference.md", project_file()), ("docs/guide/commands.md", commands())]
}

fn project_file() -> String {
    let mut page = format!("{NOTE}\n# The project file\n\n");
    page.push_str(
        "`projects/NAME.toml` in the home folder. `ee-deploy init` writes it with every key explained,\n\
         `ee-deploy config NAME` shows what is in force. Unknown keys are refused. Durations are a whole\n\
         number with `ms`, `s`, `m`, `h` or `d`; sizes are bytes, or with `K`, `M`, `G` or `T` (of 1024).\n\n\
         A change of a key marked * makes a new release at the next deploy, even of the same commit.\n",
    );
    for section in SECTIONS {
        let _infallible = write!(page, "\n## {}: {}\n\n", section.heading(), section.about);
        page.push_str("| key | default | example | what it does |\n|---|---|---|---|\n");
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            let default = key.default.map_or_else(|| "must be given".to_owned(), |it| format!("`{it}`"));
            let star = if key.shapes_release { " *" } else { "" };
            let _infallible =
                writeln!(page, "| `{}`{star} | {default} | `{}` | {} |", key.name, key.example, key.about);
        }
    }
    page
}

fn commands() -> String {
    let mut page = format!("{NOTE}\n# Commands\n\nWhat `ee-deploy help COMMAND` says.\n");
    let mut root = crate::command_line().term_width(100);
    root.build();
    for command in root.get_subcommands_mut().filter(|it| it.get_name() != "help") {
        let name = command.get_name().to_owned();
        let help = command.render_long_help().to_string();
        let plain: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _infallible = write!(page, "\n## {name}\n\n```text\n{}\n```\n", plain.join("\n").trim_end());
    }
    page
}
