//! The sink: data to standard output, all else to standard error, nothing hazardous to either.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use eeveon_core::untrusted::printable;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::json;
use crate::CliError;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Strong,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Style {
    /// Source: ECMA-48, SGR.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Dim => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }
}

/// One line of output, built from pieces. Whatever a piece holds, it cannot leave its line or act
/// on the terminal.
#[derive(Clone, Default)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// Starts with plain text.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self::default().plain(text)
    }

    fn with(mut self, style: Style, text: impl AsRef<str>) -> Self {
        self.0.push((style, printable(text.as_ref())));
        self
    }

    /// Adds plain text.
    pub fn plain(self, text: impl AsRef<str>) -> Self {
        self.with(Style::Plain, text)
    }

    /// Adds text that stands out.
    pub fn strong(self, text: impl AsRef<str>) -> Self {
        self.with(Style::Strong, text)
    }

    /// Adds text that stays in the background.
    pub fn dim(self, text: impl AsRef<str>) -> Self {
        self.with(Style::Dim, text)
    }

    /// Adds good news.
    pub fn good(self, text: impl AsRef<str>) -> Self {
        self.with(Style::Good, text)
    }

    /// Adds a warning.
    pub fn warn(self, text: impl AsRef<str>) -> Self {
        self.with(Style::Warn, text)
    }

    /// Adds bad news.
    pub fn bad(self, text: impl AsRef<str>) -> Self {
        self.with(Style::Bad, text)
    }

    /// Adds another line's pieces.
    pub fn append(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Returns the width in characters.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Returns the line's text, coloured or not.
    pub fn render(&self, colored: bool) -> String {
        let piece = |(style, text): &(Style, String)| match style.code().filter(|_| colored) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.clone(),
        };
        self.0.iter().map(piece).collect()
    }
}

/// How to talk to whoever started the command.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Whether data is written as JSON.
    pub json: bool,
    /// Whether to say only what was asked for, and errors.
    pub quiet: bool,
    color_out: bool,
    color_err: bool,
    live: bool,
}

impl Ui {
    /// Finds out what the streams are.
    pub fn new(json: bool, quiet: bool, color: ColorChoice, no_color: bool) -> Self {
        let colored = |terminal: bool| match color {
            ColorChoice::Auto => terminal && !no_color,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self { json, quiet, color_out: colored(out) && !json, color_err: colored(err), live: err && !quiet }
    }

    /// Tells whether lines on standard error may be drawn over.
    pub fn is_live(&self) -> bool {
        self.live && !self.json
    }

    /// Tells whether lines on standard error are coloured.
    pub fn is_colored(&self) -> bool {
        self.color_err
    }

    /// Writes one line of data for people.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written; a closed pipe ends the process quietly instead.
    pub fn out(&self, line: Line) -> Result<(), CliError> {
        written(writeln!(io::stdout().lock(), "{}", line.render(self.color_out)))
    }

    /// Writes text that is data as it stands: a generated script or page, nothing from outside.
    ///
    /// # Errors
    ///
    /// As [`Ui::out`].
    pub fn verbatim(&self, text: &[u8]) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        written(out.write_all(text).and_then(|()| out.flush()))
    }

    /// Writes one JSON document on one line.
    ///
    /// # Errors
    ///
    /// As [`Ui::out`].
    pub fn json(&self, document: &impl Serialize) -> Result<(), CliError> {
        let line = json::to_line(document);
        let mut out = io::stdout().lock();
        written(writeln!(out, "{line}").and_then(|()| out.flush()))
    }

    /// Says something beside the data, unless told to be quiet.
    pub fn note(&self, line: Line) {
        if !self.quiet {
            self.err(line);
        }
    }

    /// Warns, also when told to be quiet.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.err(Line::default().warn("warning: ").plain(text));
    }

    /// Writes a line to standard error. There is nowhere to tell that this failed.
    pub fn err(&self, line: Line) {
        let _nowhere_to_tell = writeln!(io::stderr().lock(), "{}", line.render(self.color_err));
    }

    /// Writes a JSON document to standard error, for scripts that read failures.
    pub fn err_json(&self, document: &impl Serialize) {
        let _nowhere_to_tell = writeln!(io::stderr().lock(), "{}", json::to_line(document));
    }

    /// Asks a question on the terminal; only a clear yes counts.
    ///
    /// # Errors
    ///
    /// `cli/no-terminal` when nobody can be asked, `cli/declined` when the answer is not yes.
    pub async fn confirm(&self, question: &str, interrupted: &CancellationToken) -> Result<(), CliError> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(CliError::NoTerminal);
        }
        let prompt = Line::default().strong(question).plain(" [y/N] ").render(self.color_err);
        write!(io::stderr().lock(), "{prompt}")
            .and_then(|()| io::stderr().flush())
            .map_err(CliError::Output)?;
        // Nothing can end this read but an answer; the process does not wait for it.
        let answer = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().read_line(&mut answer).map(|_| answer)
        });
        let answer = tokio::select! {
            answer = answer => answer.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(CliError::Output)?,
            () = interrupted.cancelled() => return Err(CliError::Declined),
        };
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(CliError::Declined),
        }
    }
}

fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        // `ee-deploy history | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(CliError::Output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_can_act_on_the_terminal() {
        let line = Line::new("a\u{1b}[2J").bad("b\nc").render(true);
        assert_eq!(line, "a\\u{1b}[2J\u{1b}[1;31mb\\nc\u{1b}[0m");
    }
}
