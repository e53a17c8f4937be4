//! What of a project's configuration travels with a release: recorded when it is deployed, in force
//! again when somebody goes back to it.

use std::collections::BTreeMap;

use eeveon_build::CommandLine;
use eeveon_core::{DeploymentId, Record, Seq, untrusted::printable};
use eeveon_health::CheckSpec;
use eeveon_store::KnownRelease;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    App, CliError,
    config::{HumanDuration, ProjectConfig, When},
    render::Line,
};

/// The version of the recorded form. Golden files of every released one are in `tests/golden/`.
const FORMAT: u32 = 1;

/// What a release is deployed with. Its JSON form is part of the journal, so it holds no secret:
/// of environment variables only the names are recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The version of this form.
    format: u32,
    /// The folder of the repository that is deployed.
    pub dir: String,
    /// Whether submodules are placed.
    pub submodules: bool,
    /// Patterns of what is left out.
    pub ignore: Vec<String>,
    /// Folders that outlive releases.
    pub shared_dirs: Vec<String>,
    /// Files that outlive releases.
    pub shared_files: Vec<String>,
    /// Commands that make the release.
    pub build: Vec<CommandLine>,
    /// Commands run before the switch.
    pub pre_switch: Vec<CommandLine>,
    /// Commands run after the switch.
    pub post_switch: Vec<CommandLine>,
    /// Names of the project's own environment variables.
    pub variables: Vec<String>,
    /// What decides whether it is fit to serve.
    pub checks: Vec<Check>,
}

/// A check, and when it looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// At which moments.
    pub when: When,
    /// At what, and how.
    pub spec: CheckSpec,
}

/// A setting that is not what it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Drift {
    /// Which.
    pub key: String,
    /// What it was.
    pub then: Value,
    /// What it is.
    pub now: Value,
}

impl Drift {
    /// Returns the change as a line for people.
    pub(crate) fn line(&self) -> Line {
        let shown = |value: &Value| printable(&value.to_string());
        Line::default()
            .plain(format!("  {:<14}", self.key))
            .dim(shown(&self.then))
            .plain("  now  ")
            .plain(shown(&self.now))
    }
}

impl Settings {
    /// Returns what a release deployed now would be deployed with.
    pub(crate) fn of(config: &ProjectConfig) -> Self {
        let millis = |it: HumanDuration| u64::try_from(it.0.as_millis()).unwrap_or(u64::MAX);
        let idle_ms = millis(config.build.idle_timeout);
        let lines = |lines: &[String], timeout: HumanDuration| {
            let line = |line: &String| CommandLine {
                line: line.clone(),
                args: Vec::new(),
                timeout_ms: millis(timeout),
                idle_ms,
            };
            lines.iter().map(line).collect()
        };
        let check = |(n, check): (usize, &crate::config::Health)| {
            // What the configuration refuses is not here.
            Some(Check { when: check.when, spec: check.spec(n).ok()? })
        };
        Self {
            format: FORMAT,
            dir: config.source.dir.clone(),
            submodules: config.source.submodules,
            ignore: config.deploy.ignore.clone(),
            shared_dirs: config.deploy.shared_dirs.clone(),
            shared_files: config.deploy.shared_files.clone(),
            build: lines(&config.build.commands, config.build.timeout),
            pre_switch: lines(&config.hooks.pre_switch, config.hooks.timeout),
            post_switch: lines(&config.hooks.post_switch, config.hooks.timeout),
            variables: config.build.env.keys().cloned().collect(),
            checks: config.health.iter().enumerate().filter_map(check).collect(),
        }
    }

    /// Returns what `release` was deployed with. `None` when that was not recorded, as by versions
    /// before 0.3, or is not understood.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub(crate) async fn recorded(app: &App, release: &KnownRelease) -> Result<Option<Self>, CliError> {
        Self::of_deployment(app, release.deployment).await
    }

    /// Returns what `deployment` was opened with, if that was recorded and is understood.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub(crate) async fn of_deployment(app: &App, deployment: DeploymentId) -> Result<Option<Self>, CliError> {
        let journal = app.store.read(deployment, Seq::default()).await?;
        let opened = journal.into_iter().next().map(|entry| entry.record);
        let Some(Record::Opened { request, .. }) = opened else { return Ok(None) };
        let settings = request.settings.and_then(|it| serde_json::from_value::<Self>(it).ok());
        Ok(settings.filter(|it| it.format == FORMAT))
    }

    /// Returns the form that is recorded.
    pub(crate) fn to_value(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }

    /// Returns `config` as it was when these settings were in force. What does not travel with a
    /// release, such as where it goes, stays as it is now.
    pub(crate) fn applied_to(&self, config: &ProjectConfig) -> ProjectConfig {
        let mut config = config.clone();
        config.source.dir.clone_from(&self.dir);
        config.source.submodules = self.submodules;
        config.deploy.ignore.clone_from(&self.ignore);
        config.deploy.shared_dirs.clone_from(&self.shared_dirs);
        config.deploy.shared_files.clone_from(&self.shared_files);
        config
    }

    /// Lists what is different in `now`.
    pub(crate) fn drift(&self, now: &Self) -> Vec<Drift> {
        let table = |settings: &Self| -> BTreeMap<String, Value> {
            let value = settings.to_value().unwrap_or_default();
            serde_json::from_value(value).unwrap_or_default()
        };
        let (then, now) = (table(self), table(now));
        let changed = |(key, now): (String, Value)| {
            let then = then.get(&key).cloned().unwrap_or_default();
            (then != now).then_some(Drift { key, then, now })
        };
        now.into_iter().filter_map(changed).collect()
    }

    /// Tells whether commands run in the folder of the release.
    pub(crate) fn runs_commands(&self) -> bool {
        !(self.build.is_empty() && self.pre_switch.is_empty() && self.post_switch.is_empty())
            || self.checks.iter().any(|it| matches!(it.spec.what, eeveon_health::What::Command(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eeveon_core::ProjectName;

    use super::*;
    use crate::config;

    const FILE: &str = r#"
        [source]
        repo = "https://example.org/a.git"
        branch = "main"
        [deploy]
        path = "/srv/a"
        shared_dirs = ["storage"]
        [build]
        commands = ["make"]
        env = { TOKEN = "hunter2" }
        [hooks]
        post_switch = ["systemctl reload a"]
        [[health]]
        url = "http://127.0.0.1/healthz"
        headers = { Authorization = "env:PROBE" }
        json = { "/ok" = true }
        [[health]]
        kind = "command"
        command = ["./bin/smoke", "-q"]
        when = "candidate"
    "#;

    fn settings(text: &str) -> Settings {
        let name = ProjectName::new("a").unwrap();
        Settings::of(&config::parse(text, Path::new("a.toml"), &name).unwrap())
    }

    #[test]
    fn format_1_is_written_as_it_was_and_read_back() {
        let golden: Value = serde_json::from_str(include_str!("../tests/golden/settings-1.json")).unwrap();
        assert_eq!(settings(FILE).to_value().unwrap(), golden);
        assert_eq!(serde_json::from_value::<Settings>(golden).unwrap(), settings(FILE));
    }

    #[test]
    fn no_value_of_a_variable_is_recorded() {
        assert!(!settings(FILE).to_value().unwrap().to_string().contains("hunter2"));
    }

    #[test]
    fn what_changed_is_named() {
        let drift = settings(FILE).drift(&settings(&FILE.replace("systemctl reload", "systemctl restart")));
        let keys: Vec<_> = drift.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["post_switch"]);
        assert_eq!(settings(FILE).drift(&settings(FILE)), []);
    }
}
