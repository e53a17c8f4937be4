//! Reading a project file: syntax, keys, types, then whether it makes sense, each with its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
    sync::Arc,
};

use eeveon_core::{ProjectName, SecretRef, Secrets};
use eeveon_health::HealthError;
use eeveon_source::RepoUrl;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use toml_edit::{Document, Item, TableLike};

use crate::environment::Environment;

use super::{
    Bytes, ConfigError, Health, HumanDuration, Notify,
    schema::{KEYS, SECTIONS, Section, nearest},
};

/// What a project file says, defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectConfig {
    /// Where the code comes from.
    pub source: Source,
    /// Where it goes.
    pub deploy: Deploy,
    /// Commands run in the new release.
    #[serde(default)]
    pub build: Build,
    /// Commands run around the switch.
    #[serde(default)]
    pub hooks: Hooks,
    /// Whether a release is fit to serve.
    #[serde(default)]
    pub health: Vec<Health>,
    /// What happens when a release turns out bad.
    #[serde(default)]
    pub rollback: Rollback,
    /// Who is told.
    #[serde(default)]
    pub notify: Vec<Notify>,
}

/// `[source]`. The keys are described in [`KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub repo: String,
    pub branch: String,
    #[serde(default)]
    pub dir: String,
    #[serde(default = "two_minutes")]
    pub interval: HumanDuration,
    #[serde(default = "one")]
    pub depth: u32,
    #[serde(default)]
    pub submodules: bool,
    #[serde(default)]
    pub ssh_key: String,
    #[serde(default)]
    pub known_hosts: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub token: String,
    #[serde(default)]
    pub ca_file: String,
}

/// `[deploy]`. The keys are described in [`KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deploy {
    pub path: String,
    #[serde(default)]
    pub strategy: Strategy,
    #[serde(default = "five")]
    pub keep: u32,
    #[serde(default = "seven_days")]
    pub keep_failed: HumanDuration,
    #[serde(default = "one_gibibyte")]
    pub keep_failed_size: Bytes,
    #[serde(default)]
    pub shared_dirs: Vec<String>,
    #[serde(default)]
    pub shared_files: Vec<String>,
    #[serde(default)]
    pub ignore: Vec<String>,
    #[serde(default)]
    pub link: String,
}

/// How a release goes live.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strategy {
    /// Beside the old one, then one rename.
    #[default]
    Symlink,
}

/// `[build]`. The keys are described in [`KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Build {
    pub commands: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub timeout: HumanDuration,
    pub idle_timeout: HumanDuration,
    pub nice: u8,
    pub memory: Bytes,
    pub processes: u64,
}

/// `[hooks]`. The keys are described in [`KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hooks {
    pub pre_switch: Vec<String>,
    pub post_switch: Vec<String>,
    pub timeout: HumanDuration,
}

/// `[rollback]`. The keys are described in [`KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rollback {
    pub on_failure: OnFailure,
    pub watch: HumanDuration,
    pub watch_interval: HumanDuration,
    pub irreversible: Vec<String>,
    pub quarantine: bool,
}

/// What to do when something fails after the switch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailure {
    /// Go back.
    #[default]
    Auto,
    /// Leave things as they are until a person says to go on or back.
    Ask,
    /// Keep the release; a person says when it is in order.
    Never,
}

const fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(seconds))
}

const fn two_minutes() -> HumanDuration {
    seconds(120)
}

const fn seven_days() -> HumanDuration {
    seconds(7 * 86_400)
}

const fn one_gibibyte() -> Bytes {
    Bytes(1 << 30)
}

const fn one() -> u32 {
    1
}

const fn five() -> u32 {
    5
}

impl Default for Build {
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            env: BTreeMap::new(),
            timeout: seconds(600),
            idle_timeout: seconds(300),
            nice: 10,
            memory: Bytes(0),
            processes: 4096,
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self { pre_switch: Vec::new(), post_switch: Vec::new(), timeout: seconds(300) }
    }
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            on_failure: OnFailure::default(),
            watch: seconds(0),
            watch_interval: seconds(10),
            irreversible: Vec::new(),
            quarantine: true,
        }
    }
}

impl ProjectConfig {
    /// Returns a digest (SHA-256, hexadecimal) of everything that shapes a release, so that a
    /// changed configuration makes a new one.
    pub(crate) fn digest(&self) -> String {
        let all = serde_json::to_value(self).unwrap_or_default();
        let mut digest = Sha256::new();
        for key in KEYS.iter().filter(|key| key.shapes_release) {
            let value = all.get(key.section).and_then(|section| section.get(key.name));
            digest.update(format!("{}={}\n", key.path(), value.unwrap_or(&serde_json::Value::Null)));
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads and checks a project's file.
///
/// # Errors
///
/// It cannot be read, or says something invalid.
pub(crate) fn load(file: &Path, name: &ProjectName) -> Result<ProjectConfig, ConfigError> {
    /// A file anywhere near this size is not a configuration.
    const LIMIT: u64 = 1 << 20;
    let io = |source| ConfigError::Io { what: "read", file: file.to_owned(), source };
    if fs::metadata(file).map_err(io)?.len() > LIMIT {
        return Err(io(std::io::Error::other("it is larger than 1 MiB")));
    }
    parse(&fs::read_to_string(file).map_err(io)?, file, name)
}

/// Checks the text of a project's file. `file` is only named in errors.
///
/// # Errors
///
/// The first thing that is wrong, with its place.
pub(crate) fn parse(text: &str, file: &Path, name: &ProjectName) -> Result<ProjectConfig, ConfigError> {
    let at = Place { text, file };
    let document: Document<&str> =
        Document::parse(text).map_err(|error| at.invalid(error.span(), error.message().to_owned(), None))?;
    check_keys(document.as_table(), &at)?;
    let config: ProjectConfig = toml::from_str(text).map_err(|error| {
        let missing = error.message().starts_with("missing field");
        let hint = missing.then(|| "`ee-deploy init` writes a complete file".to_owned());
        at.invalid(error.span(), error.message().to_owned(), hint)
    })?;
    check_sense(&config, document.as_table(), &at, name)?;
    Ok(config)
}

/// The text an error is in.
struct Place<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Place<'_> {
    fn invalid(&self, span: Option<Range<usize>>, message: String, hint: Option<String>) -> ConfigError {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let message = message.trim_end().replace('\n', ", ");
        ConfigError::Invalid { file: self.file.to_owned(), line, column, message, hint }
    }
}

fn check_keys(root: &dyn TableLike, at: &Place<'_>) -> Result<(), ConfigError> {
    for (name, item) in root.iter() {
        let span = root.key(name).and_then(|key| key.span());
        let Some(known) = SECTIONS.iter().find(|section| section.name == name) else {
            // A key of a section, written above all sections?
            let stray = KEYS.iter().find(|key| key.name == name);
            let hint = match (stray, nearest(name, SECTIONS.iter().map(|section| section.name))) {
                (Some(key), _) => Some(format!("`{name}` belongs into [{}]", key.section)),
                (None, Some(nearest)) => Some(format!("did you mean [{nearest}]?")),
                (None, None) => None,
            };
            return Err(at.invalid(span, format!("unknown section or key `{name}`"), hint));
        };
        let tables = match known.many {
            true => several(item),
            false => item.as_table_like().map(|table| vec![table]),
        };
        let Some(tables) = tables else {
            let message = format!("`{name}` is a section: write {}", known.heading());
            return Err(at.invalid(span, message, None));
        };
        for table in tables {
            check_keys_of(known, table, at)?;
        }
    }
    Ok(())
}

/// Returns the tables of a section that may be there several times.
fn several(item: &Item) -> Option<Vec<&dyn TableLike>> {
    match (item.as_array_of_tables(), item.as_array()) {
        (Some(tables), _) => Some(tables.iter().map(|table| table as &dyn TableLike).collect()),
        (None, Some(values)) => {
            values.iter().map(|it| Some(it.as_inline_table()? as &dyn TableLike)).collect()
        }
        (None, None) => None,
    }
}

fn check_keys_of(known: &Section, table: &dyn TableLike, at: &Place<'_>) -> Result<(), ConfigError> {
    let siblings = || KEYS.iter().filter(|key| key.section == known.name).map(|key| key.name);
    for (key, _) in table.iter() {
        if siblings().any(|sibling| sibling == key) {
            continue;
        }
        let span = table.key(key).and_then(|key| key.span());
        let elsewhere = || KEYS.iter().find(|other| other.name == key);
        let hint = match nearest(key, siblings()) {
            Some(nearest) => Some(format!("did you mean `{nearest}`?")),
            None => elsewhere().map(|other| format!("`{key}` belongs into [{}]", other.section)),
        };
        return Err(at.invalid(span, format!("unknown key `{key}` in {}", known.heading()), hint));
    }
    Ok(())
}

/// Returns the error that `key` of one of several sections called `section` is wrong.
fn wrong_in(section: &str, table: &dyn TableLike, at: &Place<'_>, key: &str, message: &str) -> ConfigError {
    let span = table.get(key).and_then(Item::span).or_else(|| {
        // A key that is missing has no place but that of its section.
        table.iter().next().and_then(|(first, _)| table.key(first)?.span())
    });
    at.invalid(span, format!("{section}.{key}: {message}"), None)
}

/// Checks what types cannot say about the channels.
fn check_notify(config: &ProjectConfig, root: &dyn TableLike, at: &Place<'_>) -> Result<(), ConfigError> {
    let tables = root.get("notify").and_then(several).unwrap_or_default();
    let mut names = BTreeSet::new();
    for (notify, table) in config.notify.iter().zip(tables) {
        let wrong = |key: &str, message: &str| wrong_in("notify", table, at, key, message);
        if let Some(key) = notify.stray(table.iter().map(|(key, _)| key)) {
            return Err(wrong(key, "a channel of this kind does not have it"));
        }
        // What a reference points to is looked for when it is needed.
        let nowhere: Arc<dyn Secrets> = Arc::new(Environment::default());
        notify.notifier(&nowhere).map_err(|(key, message)| wrong(key, &message))?;
        if !names.insert(notify.name()) {
            let message = format!("two channels are called `{}`: give one a name", notify.name());
            return Err(wrong("name", &message));
        }
    }
    Ok(())
}

/// Checks what types cannot say about the checks.
fn check_health(config: &ProjectConfig, root: &dyn TableLike, at: &Place<'_>) -> Result<(), ConfigError> {
    let tables = root.get("health").and_then(several).unwrap_or_default();
    let mut names = BTreeSet::new();
    for (n, (health, table)) in config.health.iter().zip(tables).enumerate() {
        let wrong = |key: &str, message: String| wrong_in("health", table, at, key, &message);
        if let Some(key) = health.stray(table.iter().map(|(key, _)| key)) {
            return Err(wrong(key, "a check of this kind does not have it".to_owned()));
        }
        let spec = health.spec(n).map_err(|(key, message)| wrong(key, message))?;
        if let Err(HealthError::Invalid { key, rule, .. }) = spec.validate() {
            return Err(wrong(&key, rule));
        }
        if !names.insert(spec.name.clone()) {
            return Err(wrong("name", format!("two checks are called `{}`", spec.name)));
        }
    }
    Ok(())
}

/// Checks what types cannot say.
fn check_sense(
    config: &ProjectConfig,
    root: &dyn TableLike,
    at: &Place<'_>,
    name: &ProjectName,
) -> Result<(), ConfigError> {
    let wrong = |section: &str, key: &str, message: String, hint: &str| {
        let item = root.get(section).and_then(Item::as_table_like).and_then(|section| section.get(key));
        at.invalid(item.and_then(Item::span), message, (!hint.is_empty()).then(|| hint.to_owned()))
    };
    if let Err(error) = RepoUrl::parse(&config.source.repo) {
        let hint = eeveon_core::Diagnose::hint(&error).unwrap_or_default();
        return Err(wrong("source", "repo", error.to_string(), &hint));
    }
    if let Err(error) = eeveon_source::check_branch(&config.source.branch) {
        return Err(wrong("source", "branch", error.to_string(), "name it as `git branch` shows it"));
    }
    let path = Path::new(&config.deploy.path);
    if !path.is_absolute() || path.parent().is_none() || !is_plain(&config.deploy.path, Absolute::Yes) {
        let message =
            format!("deploy.path `{}` is not a plain absolute path", config.deploy.path.escape_debug());
        return Err(wrong("deploy", "path", message, "write it like /var/www/shop, without `.` or `..`"));
    }
    if !config.source.dir.is_empty() && !is_plain(&config.source.dir, Absolute::No) {
        let message =
            format!("source.dir `{}` is not a folder of a repository", config.source.dir.escape_debug());
        return Err(wrong(
            "source",
            "dir",
            message,
            "write it like `sites/shop`, relative to the repository",
        ));
    }
    let shared: Vec<&String> = config.deploy.shared_dirs.iter().chain(&config.deploy.shared_files).collect();
    for (n, one) in shared.iter().enumerate() {
        let key = match n < config.deploy.shared_dirs.len() {
            true => "shared_dirs",
            false => "shared_files",
        };
        if !is_plain(one, Absolute::No) {
            let message = format!("`{}` is not a path inside a release", one.escape_debug());
            return Err(wrong("deploy", key, message, "write it like `storage/uploads`"));
        }
        let overlaps =
            |other: &&String| Path::new(other).starts_with(one) || Path::new(one).starts_with(other);
        if shared.iter().take(n).any(overlaps) {
            let message = format!("`{}` is shared twice, or lies in another shared path", one.escape_debug());
            return Err(wrong("deploy", key, message, "name only the outer one"));
        }
    }
    if config.deploy.keep == 0 {
        let message = "deploy.keep is 0, but what is live has to be kept".to_owned();
        return Err(wrong("deploy", "keep", message, "write 1 or more"));
    }
    if config.build.nice > 19 {
        return Err(wrong("build", "nice", "build.nice goes from 0 to 19".to_owned(), ""));
    }
    check_health(config, root, at)?;
    check_notify(config, root, at)?;
    for path in &config.rollback.irreversible {
        if !is_plain(path, Absolute::No) {
            let message = format!("`{}` is not a path inside a release", path.escape_debug());
            return Err(wrong("rollback", "irreversible", message, "write it like `db/migrate`"));
        }
    }
    if !config.rollback.watch.0.is_zero() && !config.health.iter().any(|it| it.when.is_after()) {
        let message = "rollback.watch needs a check that looks after the switch".to_owned();
        return Err(wrong("rollback", "watch", message, "add a [[health]] with when = \"post\""));
    }
    for (section, key, value) in [
        ("build", "timeout", config.build.timeout),
        ("build", "idle_timeout", config.build.idle_timeout),
        ("hooks", "timeout", config.hooks.timeout),
        ("source", "interval", config.source.interval),
        ("rollback", "watch_interval", config.rollback.watch_interval),
    ] {
        if value.0.is_zero() {
            let message = format!("{section}.{key} is 0; nothing could ever finish in time");
            return Err(wrong(section, key, message, "write a duration such as 10m"));
        }
    }
    for variable in config.build.env.keys() {
        if !is_variable(variable) || variable.starts_with("EEVEON_") {
            let message = format!("`{}` cannot be set as an environment variable", variable.escape_debug());
            let hint = "use letters, digits and _, not beginning with a digit or with EEVEON_";
            return Err(wrong("build", "env", message, hint));
        }
    }
    let token = &config.source.token;
    let reference = match SecretRef::parse(token) {
        Ok(None) if !token.is_empty() => {
            Err("it holds something other than a reference: the token itself must not be here".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = reference {
        return Err(wrong("source", "token", format!("source.token: {why}"), "write env:NAME or file:/PATH"));
    }
    for (key, value) in [
        ("ssh_key", &config.source.ssh_key),
        ("known_hosts", &config.source.known_hosts),
        ("ca_file", &config.source.ca_file),
    ] {
        if !value.is_empty() && !Path::new(value).is_absolute() {
            let message = format!("source.{key} is not an absolute path");
            return Err(wrong("source", key, message, &format!("write it like /etc/eeveon/{name}.{key}")));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Absolute {
    Yes,
    No,
}

/// Tells whether a path has only ordinary parts and no character that is a hazard to print.
fn is_plain(path: &str, absolute: Absolute) -> bool {
    let relative = match absolute {
        Absolute::Yes => path.strip_prefix('/').unwrap_or_default(),
        Absolute::No => path,
    };
    let relative = relative.strip_suffix('/').unwrap_or(relative);
    !relative.is_empty()
        && relative.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.chars().any(eeveon_core::untrusted::is_hazard)
}

fn is_variable(name: &str) -> bool {
    name.bytes()
        .enumerate()
        .all(|(n, c)| c == b'_' || c.is_ascii_alphabetic() || (n > 0 && c.is_ascii_digit()))
        && !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str =
        "[source]\nrepo = \"https://example.org/a.git\"\nbranch = \"main\"\n\n[deploy]\npath = \"/srv/a\"\n";

    fn check(text: &str) -> Result<ProjectConfig, String> {
        let name = ProjectName::new("a").unwrap();
        parse(text, Path::new("a.toml"), &name).map_err(|error| {
            let hint = eeveon_core::Diagnose::hint(&error).unwrap_or_default();
            format!("{error} ({hint})")
        })
    }

    #[test]
    fn the_table_of_keys_and_the_types_agree() {
        let config = serde_json::to_value(check(MINIMAL).unwrap()).unwrap();
        let mut found: Vec<String> = Vec::new();
        let one_check = serde_json::to_value(Health::default()).unwrap();
        let one_channel = serde_json::to_value(Notify::default()).unwrap();
        for (section, keys) in config.as_object().unwrap() {
            let keys = match section.as_str() {
                "health" => &one_check,
                "notify" => &one_channel,
                _ => keys,
            };
            found.extend(keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
        let mut known: Vec<String> = KEYS.iter().map(super::super::Key::path).collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
        for key in KEYS {
            let section = match key.section {
                "health" => &one_check,
                "notify" => &one_channel,
                section => &config[section],
            };
            let value = section.get(key.name).unwrap();
            if let Some(default) = key.default {
                let default: toml::Table = toml::from_str(&format!("x = {default}")).unwrap();
                assert_eq!(serde_json::to_value(&default["x"]).unwrap(), *value, "default of {}", key.path());
            }
            let example = format!("x = {}", key.example);
            toml::from_str::<toml::Table>(&example).unwrap();
        }
    }

    #[test]
    fn errors_say_where_and_what_would_be_right() {
        let at = |old: &str, new: &str| check(&MINIMAL.replace(old, new)).unwrap_err();
        assert_eq!(
            at("branch", "brunch"),
            "a.toml:3:1: unknown key `brunch` in [source] (did you mean `branch`?)"
        );
        assert_eq!(
            at("[deploy]", "[deplyo]"),
            "a.toml:5:2: unknown section or key `deplyo` (did you mean [deploy]?)"
        );
        assert_eq!(
            at("[source]", "keep = 3\n[source]"),
            "a.toml:1:1: unknown section or key `keep` (`keep` belongs into [deploy])"
        );
        assert!(
            at("path = \"/srv/a\"", "path = \"/srv/a\"\nkeep = \"3\"")
                .starts_with("a.toml:7:8: invalid type")
        );
        assert!(
            at("path = \"/srv/a\"", "path = \"srv/a\"").starts_with("a.toml:6:8: deploy.path `srv/a` is not")
        );
        assert!(at("\"main\"", "\"-x\"").starts_with("a.toml:3:10: "));
        assert!(at("path = \"/srv/a\"", "").contains("missing field `path`"));
        let health = |text: &str| at("[source]", &format!("[[health]]\n{text}\n[source]"));
        assert!(health("kind = \"htpp\"").starts_with("a.toml:2:8: unknown variant `htpp`"));
        assert!(health("urll = \"x\"").contains("unknown key `urll` in [[health]] (did you mean `url`?)"));
        assert!(
            health("kind = \"tcp\"\nurl = \"http://a\"").starts_with("a.toml:3:7: health.url: a check of")
        );
        assert!(health("kind = \"tcp\"").starts_with("a.toml:2:1: health.address: "));
        assert!(
            health("url = \"http://a\"\ntimeout = \"9s\"\ndeadline = \"8s\"").starts_with("a.toml:4:12: ")
        );
        assert!(health("url = \"http://a\"\nexpect = \"9xx\"").starts_with("a.toml:3:10: health.expect: "));
        let secret = health("url = \"http://a\"\nheaders = { Authorization = \"Bearer hunter2\" }");
        assert!(secret.contains("health.headers") && !secret.contains("hunter2"), "{secret}");
        let notify = |text: &str| at("[source]", &format!("[[notify]]\n{text}\n[source]"));
        let literal = notify("channel = \"slack\"\nurl = \"https://hooks.slack.com/services/T/B/x\"");
        assert!(literal.starts_with("a.toml:3:7: notify.url: it must not be here itself"), "{literal}");
        assert!(!literal.contains("hooks.slack.com"), "{literal}");
        assert!(notify("channel = \"teams\"\nurl = \"secret:x\"").contains("needs a vault"));
        assert!(notify("channel = \"teams\"\nto = \"x\"").starts_with("a.toml:3:6: notify.to: a channel of"));
        let template =
            notify("channel = \"slack\"\nurl = \"env:A\"\ntemplate = \"\"\"\nx\n{{ no_such }}\"\"\"");
        assert!(template.contains("line 2") && template.contains("no_such"), "{template}");
        let unwatched = health("url = \"http://a\"\nwhen = \"pre\"\n[rollback]\nwatch = \"1m\"");
        assert!(unwatched.contains("needs a check that looks after"), "{unwatched}");
        assert!(at("[source]", "[source").starts_with("a.toml:1:"));
        assert!(at("branch", "token = \"ghp_123\"\nbranch").contains("the token itself must not be here"));
    }

    #[test]
    fn paths_stay_where_they_belong() {
        for dir in ["..", "a/../b", "/a", "a//b", "./a", "a\\u001b"] {
            assert!(check(&MINIMAL.replace("branch", &format!("dir = \"{dir}\"\nbranch"))).is_err(), "{dir}");
        }
        for shared in ["[\"a\", \"a\"]", "[\"a\", \"a/b\"]", "[\"../a\"]", "[\"\"]"] {
            assert!(check(&format!("{MINIMAL}shared_dirs = {shared}\n")).is_err(), "{shared}");
        }
        assert!(check(&format!("{MINIMAL}shared_dirs = [\"a\", \"ab\"]\n")).is_ok());
        for path in ["/", "/a/../b", "a"] {
            assert!(check(&MINIMAL.replace("/srv/a", path)).is_err(), "{path}");
        }
    }

    #[test]
    fn only_what_shapes_a_release_changes_the_digest() {
        let base = check(MINIMAL).unwrap();
        let with = |text: &str| check(&format!("{MINIMAL}{text}")).unwrap().digest();
        assert_eq!(base.digest(), with("keep = 9\n"));
        assert_ne!(base.digest(), with("ignore = [\"x\"]\n"));
        assert_ne!(base.digest(), with("[build.env]\nA = \"b\"\n"));
    }
}
