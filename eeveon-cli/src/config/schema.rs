//! Every key a project file may have: one table, from which keys are checked, files are written
//! and the reference in the guide is made.

/// A section of a project file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// Its name, as in `[source]`.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Whether it may be there several times, as `[[health]]`.
    pub many: bool,
}

impl Section {
    /// Returns how it is written, such as `[source]` or `[[health]]`.
    pub(crate) fn heading(&self) -> String {
        match self.many {
            true => format!("[[{}]]", self.name),
            false => format!("[{}]", self.name),
        }
    }
}

const fn one(name: &'static str, about: &'static str) -> Section {
    Section { name, about, many: false }
}

const fn many(name: &'static str, about: &'static str) -> Section {
    Section { name, about, many: true }
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
    one("source", "where the code comes from"),
    one("deploy", "where it goes"),
    one("build", "commands run in the new release, before anything is live"),
    one("hooks", "commands run in the release around the switch"),
    many("health", "a check of whether a release is fit to serve; there may be several"),
    one("rollback", "what happens when a release turns out bad"),
    many("notify", "somebody who is told what happens; there may be several"),
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
        "deploy",
        "link",
        Some("\"\""),
        "\"https://shop.example.org\"",
        false,
        "A page about the project, named in notifications.",
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
        "health",
        "kind",
        Some("\"http\""),
        "\"tcp\"",
        false,
        "What is looked at: `http`, `tcp` or `command`.",
    ),
    key(
        "health",
        "name",
        Some("\"\""),
        "\"web\"",
        false,
        "What the check is called; empty for its kind and place, such as `http-1`.",
    ),
    key(
        "health",
        "when",
        Some("\"post\""),
        "\"both\"",
        false,
        "`pre`: before anything changes. `candidate`: the new release before the switch. `post`: after the switch. `both`: pre, if something serves, and post.",
    ),
    key(
        "health",
        "url",
        Some("\"\""),
        "\"http://127.0.0.1:3000/healthz\"",
        false,
        "http: where to ask. Without user and password: those go into `headers`.",
    ),
    key("health", "method", Some("\"GET\""), "\"HEAD\"", false, "http: how to ask."),
    key(
        "health",
        "headers",
        Some("{}"),
        "{ Authorization = \"env:PROBE_TOKEN\" }",
        false,
        "http: what is sent along. A value may be env:NAME or file:PATH; one that is secret must.",
    ),
    key(
        "health",
        "host",
        Some("\"\""),
        "\"shop.example.org\"",
        false,
        "http: the name asked for, if not the URL's.",
    ),
    key("health", "body", Some("\"\""), "\"ping\"", false, "http: what is sent after the headers."),
    key(
        "health",
        "expect",
        Some("\"2xx\""),
        "[200, 204]",
        false,
        "http: the healthy statuses: a number, a class such as `2xx`, or a list of both.",
    ),
    key("health", "contains", Some("\"\""), "\"ready\"", false, "http: what the body must contain."),
    key(
        "health",
        "json",
        Some("{}"),
        "{ \"/status\" = \"ok\" }",
        false,
        "http: what the body, read as JSON, must have at which place (a JSON pointer).",
    ),
    key(
        "health",
        "follow",
        Some("false"),
        "true",
        false,
        "http: whether to follow redirects on the same host.",
    ),
    key("health", "verify", Some("true"), "false", false, "http: whether the certificate must be in order."),
    key(
        "health",
        "ca_file",
        Some("\"\""),
        "\"/etc/ssl/own-ca.pem\"",
        false,
        "http: the only certificates (PEM) that vouch for the server; empty for the system's.",
    ),
    key(
        "health",
        "socket",
        Some("\"\""),
        "\"/run/shop.sock\"",
        false,
        "http: the Unix socket to ask through, in place of the URL's address.",
    ),
    key(
        "health",
        "address",
        Some("\"\""),
        "\"127.0.0.1:5432\"",
        false,
        "tcp: host and port that must accept a connection.",
    ),
    key(
        "health",
        "command",
        Some("\"\""),
        "[\"./bin/smoke\", \"--quick\"]",
        false,
        "command: what must end with exit code 0, run in the release: a line for `sh -eu -c`, or a program and its arguments.",
    ),
    key("health", "timeout", Some("\"5s\""), "\"1s\"", false, "How long one look may take."),
    key("health", "attempts", Some("3"), "10", false, "Looks that may fail before the check has."),
    key(
        "health",
        "backoff",
        Some("{ first = \"1s\", factor = 2.0, max = \"30s\" }"),
        "{ first = \"200ms\", factor = 1.5, max = \"5s\" }",
        false,
        "The wait after the first failed look, how much longer each later one is, and the longest. Each varies by a fifth at random.",
    ),
    key("health", "successes", Some("1"), "3", false, "Healthy looks in a row that are asked for."),
    key(
        "health",
        "deadline",
        Some("\"0ms\""),
        "\"1m\"",
        false,
        "How long all looks together may take; 0ms for as long as the attempts last.",
    ),
    key(
        "rollback",
        "on_failure",
        Some("\"auto\""),
        "\"ask\"",
        false,
        "When a hook or check fails after the switch: `auto` goes back, `ask` waits for a person who decides, `never` keeps the release and waits for one.",
    ),
    key(
        "rollback",
        "watch",
        Some("\"0ms\""),
        "\"5m\"",
        false,
        "How long the post checks go on looking before the deploy counts as done; 0ms for not at all.",
    ),
    key("rollback", "watch_interval", Some("\"10s\""), "\"30s\"", false, "How often they look in that time."),
    key(
        "rollback",
        "irreversible",
        Some("[]"),
        "[\"db/migrate\"]",
        false,
        "Files and folders; a release that changes one is never left without a person's word: going back past it asks, and a failure waits.",
    ),
    key(
        "rollback",
        "quarantine",
        Some("true"),
        "false",
        false,
        "Whether a commit that was rolled back is put aside until a later one is deployed or a person lifts it.",
    ),
    key(
        "notify",
        "channel",
        Some("\"slack\""),
        "\"email\"",
        false,
        "Which service: `slack`, `discord`, `telegram`, `email`, `webhook`, `teams` or `ntfy`.",
    ),
    key(
        "notify",
        "name",
        Some("\"\""),
        "\"ops\"",
        false,
        "What the channel is called; empty for the service's name. No two are called the same.",
    ),
    key(
        "notify",
        "levels",
        Some("[\"success\", \"failure\", \"warning\"]"),
        "[\"failure\"]",
        false,
        "What is told: `success`, `failure`, `warning`, `info`.",
    ),
    key(
        "notify",
        "events",
        Some("[]"),
        "[\"started\"]",
        false,
        "Further events that are told: `started`, `succeeded`, `failed`, `rolled_back`, `refused`, `cancelled`, `waiting_for_approval`, `parked`, `quarantined`, `check_flapping`.",
    ),
    key(
        "notify",
        "url",
        Some("\"\""),
        "\"env:SLACK_URL\"",
        false,
        "slack, discord, teams: the webhook's address, as env:NAME or file:/PATH. webhook: where to send. telegram, ntfy, slack with `token`: the server, if not the usual one.",
    ),
    key(
        "notify",
        "token",
        Some("\"\""),
        "\"env:BOT_TOKEN\"",
        false,
        "slack, telegram: the bot's token. ntfy: an access token. email: a token for XOAUTH2. Always env:NAME or file:/PATH.",
    ),
    key(
        "notify",
        "to",
        Some("\"\""),
        "[\"ops@example.org\"]",
        false,
        "email: recipients. telegram: the chat. slack with `token`: the channel. ntfy: the topic.",
    ),
    key("notify", "thread", Some("0"), "7", false, "telegram: the topic of a group. discord: the thread."),
    key("notify", "method", Some("\"POST\""), "\"PUT\"", false, "webhook: `POST`, `PUT` or `PATCH`."),
    key(
        "notify",
        "headers",
        Some("{}"),
        "{ Authorization = \"env:HOOK_AUTH\" }",
        false,
        "webhook: what is sent along. A value may be env:NAME or file:/PATH; one that is secret must.",
    ),
    key(
        "notify",
        "secret",
        Some("\"\""),
        "\"env:HOOK_SECRET\"",
        false,
        "webhook: what the body is signed with after Standard Webhooks: env:NAME or file:/PATH of `whsec_...`.",
    ),
    key(
        "notify",
        "previous_secret",
        Some("\"\""),
        "\"env:OLD_HOOK_SECRET\"",
        false,
        "webhook: the secret before, while receivers change to the new one.",
    ),
    key("notify", "host", Some("\"\""), "\"mail.example.org\"", false, "email: the mail server."),
    key("notify", "port", Some("0"), "465", false, "email: its port; 0 for the usual one."),
    key(
        "notify",
        "tls",
        Some("\"\""),
        "\"implicit\"",
        false,
        "email: `starttls`, `implicit` or `none`; empty for what goes with the port.",
    ),
    key("notify", "user", Some("\"\""), "\"deploy\"", false, "email: who logs in."),
    key(
        "notify",
        "password",
        Some("\"\""),
        "\"file:/etc/eeveon/mail\"",
        false,
        "email: the password, as env:NAME or file:/PATH.",
    ),
    key("notify", "from", Some("\"\""), "\"EEveon <deploy@example.org>\"", false, "email: the sender."),
    key(
        "notify",
        "helo",
        Some("\"\""),
        "\"deploy.example.org\"",
        false,
        "email: what this machine calls itself; empty for its host name.",
    ),
    key(
        "notify",
        "template",
        Some("\"\""),
        "\"{{ project }}: {{ title }}\"",
        false,
        "What is said instead of the usual words: a minijinja template.",
    ),
    key(
        "notify",
        "templates",
        Some("{}"),
        "{ failure = \"{{ message }}\" }",
        false,
        "The same for one level.",
    ),
    key("notify", "timeout", Some("\"10s\""), "\"5s\"", false, "How long one attempt may take, up to 1m."),
    key(
        "notify",
        "ca_file",
        Some("\"\""),
        "\"/etc/ssl/own-ca.pem\"",
        false,
        "Certificates (PEM) trusted beside the system's.",
    ),
];

/// Returns the most similar of `candidates`, if one is similar at all.
pub(crate) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(given, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.4)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
