//! What a project file can say: plain data with its defaults. [`super::KEYS`] describes every key.

use std::collections::BTreeMap;

use eeveon_daemon::{AfterConfig, Crossing, ScheduleConfig, SpanConfig, WindowConfig, zone::Zone};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Bytes, Health, HumanDuration, KEYS, Notify};

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
    /// What a forge's webhook deploys.
    #[serde(default)]
    pub webhook: Webhook,
    /// When the daemon deploys without being asked.
    #[serde(default)]
    pub schedule: Vec<ScheduleConfig>,
    /// When it may.
    #[serde(default)]
    pub window: Window,
    /// What it waits for.
    #[serde(default)]
    pub after: Vec<AfterConfig>,
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
    #[serde(default = "yes")]
    pub poll: bool,
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

/// `[webhook]`. The keys are described in [`KEYS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webhook {
    pub paths: Vec<String>,
    pub tags: String,
    pub releases: bool,
}

/// `[window]`. The keys are described in [`KEYS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Window {
    pub tz: Zone,
    pub allow: Vec<SpanConfig>,
    pub deny: Vec<SpanConfig>,
    pub crossing: Crossing,
    pub holidays: String,
}

impl Window {
    /// Returns the windows, holidays apart.
    pub(crate) fn config(&self) -> WindowConfig {
        WindowConfig {
            tz: self.tz.clone(),
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            crossing: self.crossing,
        }
    }
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

const fn yes() -> bool {
    true
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
