//! Whether what a project file says makes sense, beyond what types can tell.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use eeveon_core::{ProjectName, SecretRef, Secrets};
use eeveon_daemon::{Schedule, Windows};
use eeveon_health::HealthError;
use eeveon_notify::Proxies;
use eeveon_source::RepoUrl;
use toml_edit::{Item, TableLike};

use crate::environment::Environment;

use super::{
    Around, ConfigError, Notify, ProjectConfig,
    read::{Place, several},
};

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
        // What a reference points to is looked for when it is needed, and so is the file of authorities:
        // without it this channel is silent, and everything else works.
        let secrets: Arc<dyn Secrets> = Arc::new(Environment::default());
        let nowhere = Around { secrets, proxies: Proxies::default(), home_id: String::new() };
        let alone = Notify { ca_file: String::new(), ..notify.clone() };
        alone.notifier(&nowhere).map_err(|(key, message)| {
            let Some((key, entry)) = alone.entry_at_fault(&nowhere) else { return wrong(key, &message) };
            let entries = table.get(key).and_then(Item::as_table_like);
            let span = entries.and_then(|it| it.get(&entry)).and_then(Item::span);
            at.invalid(span, format!("notify.{key}: {message}"), None)
        })?;
        if !names.insert(notify.name()) {
            let message = format!("two channels are called `{}`: give one a name", notify.name());
            return Err(wrong("name", &message));
        }
    }
    Ok(())
}

/// Checks what types cannot say about when to deploy.
fn check_timing(
    config: &ProjectConfig,
    root: &dyn TableLike,
    at: &Place<'_>,
    name: &ProjectName,
) -> Result<(), ConfigError> {
    let tables = |section: &str| root.get(section).and_then(several).unwrap_or_default();
    for (schedule, table) in config.schedule.iter().zip(tables("schedule")) {
        Schedule::try_from(schedule)
            .map_err(|error| wrong_in("schedule", table, at, "cron", &error.to_string()))?;
    }
    for (after, table) in config.after.iter().zip(tables("after")) {
        if after.project == *name {
            return Err(wrong_in("after", table, at, "project", "a project cannot wait for itself"));
        }
    }
    let window = root.get("window").and_then(Item::as_table_like);
    let wrong = |key: &str, message: &str| {
        let span = window.and_then(|it| it.get(key)).and_then(Item::span);
        at.invalid(span, format!("window.{key}: {message}"), None)
    };
    if let Err(error) = Windows::new(&config.window.config()) {
        let key = if config.window.deny.is_empty() { "allow" } else { "deny" };
        return Err(wrong(key, &error.to_string()));
    }
    let holidays = &config.window.holidays;
    if !holidays.is_empty() && !Path::new(holidays).is_absolute() {
        return Err(wrong("holidays", "write an absolute path"));
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
pub(super) fn check_sense(
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
    check_timing(config, root, at, name)?;
    for path in &config.rollback.irreversible {
        if !is_plain(path, Absolute::No) {
            let message = format!("`{}` is not a path inside a release", path.escape_debug());
            return Err(wrong("rollback", "irreversible", message, "write it like `db/migrate`"));
        }
    }
    let day = std::time::Duration::from_secs(86_400);
    for (key, value) in [("watch", config.rollback.watch), ("watch_interval", config.rollback.watch_interval)]
    {
        if value.0 > day {
            let message = format!("rollback.{key} is longer than a day");
            return Err(wrong("rollback", key, message, "write 1d or less"));
        }
    }
    if config.rollback.watch_interval.0 < std::time::Duration::from_millis(100) {
        let message = "rollback.watch_interval is shorter than 100ms".to_owned();
        return Err(wrong("rollback", "watch_interval", message, "write a duration such as 10s"));
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
