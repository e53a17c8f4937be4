//! Templates: an operator's own words for a message. They run in a sandbox (bounded work, no files,
//! no other templates), and are tried on every kind of event when configuration is read, so that
//! a mistake is found there and not in the night something failed.
//!
//! The template's own text passes as it is written; every value is escaped for the markup it lands
//! in. A message that would be too long is made again with shorter values, so that no escape and
//! no tag is ever cut.

use std::{collections::BTreeMap, thread};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, context, filters};

use crate::{
    Event, Level, Markup, NotifyError, sample, telegram,
    text::{line, lines, link, units},
    wording,
};

/// How long the source of a template may be, in bytes.
const SOURCE_BYTES: usize = 16 * 1024;

/// How much of a stack its compiler gets: some kilobytes for each byte of the longest source.
const STACK_BYTES: usize = 128 << 20;

/// How much work a template may do, in minijinja's fuel: an instruction or 64 bytes each.
const FUEL: u64 = 50_000;

/// How long values may be, in UTF-16 code units: the longest that still fit are taken.
const VALUE_UNITS: [usize; 9] = [2000, 1000, 500, 250, 120, 60, 30, 15, 8];

/// What a template may ask for.
const VARIABLES: [&str; 24] = [
    "project",
    "release",
    "commit",
    "short_commit",
    "subject",
    "author",
    "branch",
    "actor",
    "trigger",
    "reason",
    "duration",
    "event",
    "level",
    "failed_stage",
    "code",
    "message",
    "causes",
    "hint",
    "serving",
    "link",
    "quarantined",
    "more",
    "title",
    "deployment",
];

/// One template, proven to work on every kind of event.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    markup: Markup,
}

/// The templates of one channel.
#[derive(Debug, Default)]
pub struct Templates {
    /// For every level that has none of its own.
    pub every: Option<Template>,
    /// For these levels.
    pub levels: BTreeMap<Level, Template>,
}

impl Templates {
    /// Returns what the operator wants said about `event`, within the markup's limit. `None` if
    /// there is no template for its level, or if it failed: then the default words are used, for a
    /// plain message is better than none.
    pub fn render(&self, channel: &str, event: &Event) -> Option<String> {
        let template = self.levels.get(&event.level()).or(self.every.as_ref())?;
        match template.render(event) {
            Ok(text) => Some(text),
            Err(flaw) => {
                // Whoever wrote it wants to know, also where nobody reads warnings.
                let (project, event, why) = (&event.project, event.kind, flaw.why);
                tracing::error!(%project, channel, %event, why, "the template failed, the default words are sent");
                None
            }
        }
    }
}

impl Template {
    /// Reads a template and tries it on every kind of event. `channel` is named in errors.
    ///
    /// # Errors
    ///
    /// It is no template, asks for what there is not, or says nothing or too much. The error has
    /// the line.
    pub fn parse(channel: &str, markup: Markup, source: &str) -> Result<Self, NotifyError> {
        let refused = |line, why| NotifyError::Template { channel: channel.to_owned(), line, why };
        if source.len() > SOURCE_BYTES {
            return Err(refused(1, format!("it is longer than {SOURCE_BYTES} bytes")));
        }
        let failed = |error: &Error| refused(error.line().unwrap_or(1), explain(error));
        let text = source.to_owned();
        // The parser goes as deep as an expression does, and a source of that length may be one.
        let deep = thread::Builder::new().stack_size(STACK_BYTES);
        let compiled = deep.spawn(move || compile(markup, text)).map(thread::JoinHandle::join);
        let Ok(Ok(compiled)) = compiled else { return Err(refused(1, "it cannot be compiled".to_owned())) };
        let (environment, mut unknown) = compiled.map_err(|error| failed(&error))?;
        let template = Self { environment, markup };
        // A name in a branch that no sample takes would otherwise be met when it is too late.
        unknown.retain(|name| !VARIABLES.contains(&name.as_str()));
        unknown.sort();
        if let Some(name) = unknown.first() {
            return Err(refused(line_of(source, name), format!("there is no `{name}`")));
        }
        for event in sample::all() {
            let fine = template.render(&event);
            fine.map_err(|Flaw { line, at, why }| {
                refused(line.unwrap_or_else(|| at.map_or(1, |at| line_of(source, &at))), why)
            })?;
        }
        Ok(template)
    }

    /// Renders an event, as a service will take it: what the samples did not show is seen here.
    fn render(&self, event: &Event) -> Result<String, Flaw> {
        let failed =
            |error: Error| Flaw { line: Some(error.line().unwrap_or(1)), at: None, why: explain(&error) };
        let template = self.environment.get_template("message").map_err(failed)?;
        for longest in VALUE_UNITS {
            let text = template.render(values(event, longest)).map_err(failed)?;
            if units(&text) <= self.markup.limit() {
                return self.sound(text, event);
            }
        }
        let limit = self.markup.limit();
        Err(Flaw::of(format!("the message is longer than {limit} characters, even with short values")))
    }

    /// Returns `text` unless the service would refuse it.
    fn sound(&self, text: String, event: &Event) -> Result<String, Flaw> {
        // Telegram alone refuses what it cannot read; others show it.
        let is_html = self.markup == Markup::TelegramHtml;
        if let Some((what, why)) = telegram::flaw(&text).filter(|_| is_html) {
            return Err(Flaw { at: Some(what.to_owned()), ..Flaw::of(format!("`{what}` {why}")) });
        }
        let says_nothing = if is_html { telegram::is_empty(&text) } else { text.trim().is_empty() };
        match says_nothing {
            true => Err(Flaw::of(format!("it says nothing about the event `{}`", event.kind))),
            false => Ok(text),
        }
    }
}

/// Why what a template made of an event cannot be sent.
struct Flaw {
    /// The line of the template, where it is known.
    line: Option<usize>,
    /// Or else what stands in that line.
    at: Option<String>,
    why: String,
}

impl Flaw {
    fn of(why: String) -> Self {
        Self { line: None, at: None, why }
    }
}

/// Makes an environment with expressions, `if`, `for`, `set` and a few filters. None of the filters
/// can declare text safe.
/// Compiles a template; returns the names it asks for, too.
fn compile(markup: Markup, source: String) -> Result<(Environment<'static>, Vec<String>), Error> {
    let mut environment = sandbox(markup);
    environment.add_template_owned("message", source)?;
    let asked = environment.get_template("message")?.undeclared_variables(false).into_iter().collect();
    Ok((environment, asked))
}

fn sandbox(markup: Markup) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(32);
    // Text that was captured by a block is escaped already and is marked as such.
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("message".into()));
    environment.set_formatter(move |out, _state, value| {
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        match value.as_str() {
            Some(text) if value.is_safe() => out.write_str(text)?,
            Some(text) => out.write_str(&markup.escape(text))?,
            None => out.write_str(&markup.escape(&value.to_string()))?,
        }
        Ok(())
    });
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("length", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("join", filters::join);
    environment.add_filter("default", filters::default);
    environment
}

/// Returns what a template sees. What is absent is an empty text, which counts as false.
fn values(event: &Event, longest: usize) -> Value {
    let revision = &event.revision;
    let failure = event.failure.as_ref();
    let short = |raw: &str| line(raw, longest);
    let causes: Vec<String> =
        failure.map(|failure| failure.causes.iter().map(|cause| short(cause)).collect()).unwrap_or_default();
    let quarantined: Vec<String> = event.quarantined.iter().take(20).map(ToString::to_string).collect();
    context! {
        project => event.project.as_str(),
        deployment => event.deployment.0,
        release => event.release.0,
        commit => revision.commit.as_str(),
        short_commit => revision.commit.short(),
        subject => short(revision.subject.as_raw()),
        author => short(revision.author.as_raw()),
        branch => short(event.branch.as_raw()),
        actor => short(event.actor.as_raw()),
        trigger => event.trigger.as_str(),
        reason => event.reason.as_ref().map(|reason| short(reason.as_raw())).unwrap_or_default(),
        duration => wording::duration(event.duration_ms),
        event => event.kind.as_str(),
        level => event.level().as_str(),
        failed_stage => failure.map(|failure| failure.stage.as_str()).unwrap_or_default(),
        code => failure.map(|failure| short(&failure.code)).unwrap_or_default(),
        message => failure.map(|failure| lines(&failure.message, longest)).unwrap_or_default(),
        causes => causes,
        hint => failure.and_then(|failure| failure.hint.as_deref()).map(short).unwrap_or_default(),
        serving => wording::serving(&event.serving),
        link => event.link.as_deref().and_then(link).unwrap_or_default(),
        quarantined => quarantined,
        more => event.more,
        title => wording::title(event),
    }
}

fn explain(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Returns the first line that has `name`, as a word if it is one.
fn line_of(source: &str, name: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let has = |line: &str| {
        line.split(|c| !part(c)).any(|word| word == name) || line.contains(name) && !name.chars().all(part)
    };
    source.lines().position(has).map_or(1, |at| at.saturating_add(1))
}
