//! Failures: what failed, why, what serves now, what to do next.

use eeveon_core::{CommitId, Failure, ReleaseNumber, Stage, untrusted::Untrusted};
use serde::Serialize;

use super::{Line, Ui};

/// What serves now, as far as it is known.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Serving {
    /// The failure has nothing to do with any project.
    NotConcerned,
    /// It could not be found out.
    Unknown,
    /// Nothing is live yet.
    Nothing,
    /// This is.
    Release {
        /// Its number.
        release: ReleaseNumber,
        /// Its commit, unless the store does not know it.
        revision: Option<CommitId>,
        /// Where.
        path: String,
    },
}

impl Serving {
    /// Returns one sentence, or nothing when there is nothing to say.
    pub fn sentence(&self) -> Option<String> {
        Some(match self {
            Self::NotConcerned => return None,
            Self::Unknown => "what is live could not be found out".to_owned(),
            Self::Nothing => "nothing is live yet".to_owned(),
            Self::Release { release, revision: Some(commit), path } => {
                format!("release {release} ({}) is live at {path}", commit.short())
            }
            Self::Release { release, revision: None, path } => format!("release {release} is live at {path}"),
        })
    }
}

#[derive(Serialize)]
struct Document<'a> {
    error: &'a Failure,
    serving: &'a Serving,
}

impl Ui {
    /// Tells of a failure. `context` leads the first line, such as `deployment 7 failed`; `output`
    /// is the end of what the failing command printed.
    pub fn failure(&self, context: &str, failure: &Failure, serving: &Serving, output: &[Untrusted]) {
        if self.json {
            self.err_json(&Document { error: failure, serving });
            return;
        }
        let stage = failure.stage.as_str();
        let lead = match context.is_empty() {
            true if failure.stage == Stage::Admit => Line::default().bad("error").plain(": "),
            true => Line::default().bad("error").plain(format!(" in stage {stage}: ")),
            false => Line::default().bad(context).plain(format!(" in stage {stage}: ")),
        };
        self.err(lead.plain(&failure.message).dim(format!(" [{}]", failure.code)));
        for cause in &failure.causes {
            self.err(Line::default().dim("  why   ").plain(cause));
        }
        for line in output {
            self.err(Line::default().dim("  | ").plain(line.for_terminal()));
        }
        if let Some(sentence) = serving.sentence() {
            self.err(Line::default().dim("  now   ").plain(sentence));
        }
        if let Some(hint) = &failure.hint {
            self.err(Line::default().dim("  next  ").plain(hint));
        }
        self.err(
            Line::default()
                .dim("  more  ")
                .plain(format!("docs/errors/{}.md", failure.code.replace('/', "-"))),
        );
    }
}
