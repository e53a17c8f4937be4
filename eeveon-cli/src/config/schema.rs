//! Every key a project file may have: one table, from which keys are checked, files are written
//! and the reference in the guide is made.

/// A section of a project file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// Its name, as in `[source]`.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
}

/// A key of a project file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// The section it stands in.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// The value it has when the file is silent, as TOML; `None` when there is none.
    pub default: Option<&'static str>,
    /// A value one might write, as TOML.
    pub example: &'static str,
    /// What it does, one or two sentences.
    pub about: &'static str,
    /// Whether a change of it makes a new release even when the commit is the same.
    pub shapes_release: bool,
}

impl Key {
    /// Returns the name with its section, such as `source.repo`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// The sections, in the order they are written.
pub(crate) const SECTIONS: &[Section] = &[
    Section { name: "source", about: "where the code comes from" },
    Section { name: "deploy", about: "where it goes" },
    Section { name: "build", about: "commands run in the new release, before anything is live" },
    Section { name: "hooks", about: "commands run in the release around the switch" },
    Section { name: "rollback", about: "what happens when a release turns out bad" },
];

const fn key(
    section: &'static str,
    name: &'static str,
    default: Option<&'static str>,
    example: &'static str,
    shapes_release: bool,
    about: &'static str,
) -> Key {
    Key { section, name, default, example, about, shapes_release }
}

/// The keys, in the order they are written.
pub(crate) const KEYS: &[Key] = &[
    key(
        "source",
        "repo",
        None,
        "\"https://github.com/acme/shop.git\"",
        true,
        "The repository: https, ssh, git@host:path, or a local path.",
    ),
    key("source", "branch", None, "\"main\"", false, "The branch that is deployed."),
    key(
        "source",
        "dir",
        Some("\"\""),
        "\"site\"",
        true,
        "Deploy only this folder of the repository; empty for all of it.",
    ),
    key(
        "source",
        "interval",
        Some("\"2m\""),
        "\"30s\"",
        false,
        "How often the daemon looks for new commits.",
    ),
    key(
        "source",
        "depth",
        Some("1"),
        "0",
        false,
        "How much history the first fetch brings; 0 for all. More is fetched when a question needs it.",
    ),
    key(
        "source",
        "submodules",
        Some("false"),
        "true",
        true,
        "Whether submodules are fetched, each at the commit the repository pins.",
    ),
    key(
        "source",
        "ssh_key",
        Some("\"\""),
        "\"/etc/eeveon/deploy_key\"",
        false,
        "The private key for ssh; empty to use the agent and ssh's own configuration.",
    ),
    key(
        "source",
        "known_hosts",
        Some("\"\""),
        "\"/etc/eeveon/known_hosts\"",
        false,
        "The file of known host keys for ssh; empty for ssh's own. An unknown or changed key is refused.",
    ),
    key(
        "source",
        "user",
        Some("\"\""),
        "\"deploy\"",
        false,
        "The user name that goes with `token`; empty for the forge's usual one.",
    ),
    key(
        "source",
        "token",
        Some("\"\""),
        "\"env:SHOP_TOKEN\"",
        false,
        "The access token for https: env:NAME or file:PATH, never the token itself.",
    ),
    key(
        "source",
        "ca_file",
        Some("\"\""),
        "\"/etc/ssl/own-ca.pem\"",
        false,
        "Certificates (PEM) trusted for https beside the system's.",
    ),
    key(
        "deploy",
        "path",
        None,
        "\"/var/www/shop\"",
        false,
        "Where the project is deployed: an absolute path. `current` in it is what is live.",
    ),
    key(
        "deploy",
        "strategy",
        Some("\"symlink\""),
        "\"symlink\"",
        false,
        "How a release goes live. `symlink`: beside the old one, then one rename.",
    ),
    key(
        "deploy",
        "keep",
        Some("5"),
        "10",
        false,
        "How many releases that succeeded are kept. The live one, the one before it and pinned ones always are.",
    ),
    key(
        "deploy",
        "keep_failed",
        Some("\"7d\""),
        "\"1d\"",
        false,
        "How long releases that failed are kept for inspection.",
    ),
    key(
        "deploy",
        "keep_failed_size",
        Some("\"1G\""),
        "\"100M\"",
        false,
        "How much space they may take together; the oldest go first.",
    ),
    key(
        "deploy",
        "shared_dirs",
        Some("[]"),
        "[\"storage\"]",
        true,
        "Folders that outlive releases: each is a link into `shared`, where it is made if missing.",
    ),
    key(
        "deploy",
        "shared_files",
        Some("[]"),
        "[\".env\"]",
        true,
        "Files that outlive releases: each is a link into `shared`, where it must exist before a deploy.",
    ),
    key(
        "deploy",
        "ignore",
        Some("[]"),
        "[\"docs/\", \"*.md\"]",
        true,
        "Patterns of files to leave out, as in .gitignore, beside the repository's own .deployignore.",
    ),
    key(
        "build",
        "commands",
        Some("[]"),
        "[\"npm ci\", \"npm run build\"]",
        true,
        "Run one after another under `sh -eu -c`, in the new release.",
    ),
    key(
        "build",
        "env",
        Some("{}"),
        "{ NODE_ENV = \"production\" }",
        true,
        "Environment variables for build and hook commands.",
    ),
    key("build", "timeout", Some("\"10m\""), "\"30m\"", false, "How long one command may take."),
    key("build", "idle_timeout", Some("\"5m\""), "\"1m\"", false, "How long one command may say nothing."),
    key("build", "nice", Some("10"), "0", false, "The niceness of commands, 0 to 19: higher yields more."),
    key(
        "build",
        "memory",
        Some("\"0\""),
        "\"2G\"",
        false,
        "How much memory a command may use where the system has cgroups; 0 for no limit.",
    ),
    key(
        "build",
        "processes",
        Some("4096"),
        "512",
        false,
        "How many processes a command may have where the system has cgroups; 0 for no limit.",
    ),
    key(
        "hooks",
        "pre_switch",
        Some("[]"),
        "[\"./bin/migrate\"]",
        true,
        "Run in the new release before it goes live. Not run by a rollback.",
    ),
    key(
        "hooks",
        "post_switch",
        Some("[]"),
        "[\"systemctl reload shop\"]",
        true,
        "Run in the live release after the switch. When one fails, the switch is taken back and they run again for the old release.",
    ),
    key("hooks", "timeout", Some("\"5m\""), "\"1m\"", false, "How long one hook may take."),
    key(
        "rollback",
        "quarantine",
        Some("true"),
        "false",
        false,
        "Whether a commit that was rolled back is put aside until a later one is deployed or a person lifts it.",
    ),
];

/// Finds a key by its path; keys of `build.env` by the path of the table.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    let path = match path.strip_prefix("build.env.") {
        Some(_) => "build.env",
        None => path,
    };
    KEYS.iter().find(|key| key.path() == path)
}

/// Returns the most similar of `candidates`, if one is similar at all.
pub(crate) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(given, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.4)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
