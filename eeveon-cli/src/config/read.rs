//! Reading a project file: syntax, keys, types, then whether it makes sense, each with its place.

use std::{fs, ops::Range, path::Path};

use eeveon_core::ProjectName;
use toml_edit::{Document, Item, TableLike};

use super::{
    ConfigError, KEYS, ProjectConfig,
    schema::{SECTIONS, Section, nearest},
    sense::check_sense,
};

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
pub(super) struct Place<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Place<'_> {
    pub(super) fn invalid(
        &self,
        span: Option<Range<usize>>,
        message: String,
        hint: Option<String>,
    ) -> ConfigError {
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
pub(super) fn several(item: &Item) -> Option<Vec<&dyn TableLike>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Health, Notify};

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
        let both = "[[schedule]]\ncron = \"0 4 * * *\"\n[[after]]\nproject = \"b\"\n[source]";
        let more = serde_json::to_value(check(&MINIMAL.replace("[source]", both)).unwrap()).unwrap();
        let (one_schedule, one_after) = (more["schedule"][0].clone(), more["after"][0].clone());
        for (section, keys) in config.as_object().unwrap() {
            let keys = match section.as_str() {
                "health" => &one_check,
                "notify" => &one_channel,
                "schedule" => &one_schedule,
                "after" => &one_after,
                _ => keys,
            };
            found.extend(keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
        let mut known: Vec<String> = KEYS.iter().map(super::super::Key::path).collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
        for key in KEYS.iter() {
            let section = match key.section {
                "health" => &one_check,
                "notify" => &one_channel,
                "schedule" => &one_schedule,
                "after" => &one_after,
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

    /// Each with the line and column it stands in.
    #[test]
    fn channels_that_cannot_work_are_refused_with_their_line() {
        let read = |text: &str| check(&MINIMAL.replace("[source]", &format!("[[notify]]\n{text}\n[source]")));
        let webhook = "channel = \"webhook\"\nurl = \"https://example.org\"";
        let discord = "channel = \"discord\"\nurl = \"env:U\"";
        let telegram = "channel = \"telegram\"\ntoken = \"env:T\"";
        let mail = "channel = \"email\"\nfrom = \"a@b.c\"\nto = \"d@e.f\"\nhost = \"mail.example.org\"";
        let login = "user = \"u\"\npassword = \"env:P\"";
        for (text, at, what) in [
            ("channel = \"webhook\"\nurl = \"ftp://example.org\"".to_owned(), "3:7", "notify.url"),
            ("channel = \"webhook\"\nurl = \"example.org/hook\"".to_owned(), "3:7", "notify.url"),
            ("channel = \"ntfy\"\nto = \"x\"\nurl = \"ftp://n.example\"".to_owned(), "4:7", "notify.url"),
            (format!("{telegram}\nto = \"-100\"\nurl = \"localhost:1\""), "5:7", "notify.url"),
            ("channel = \"ntfy\"\nto = \"my topic\"".to_owned(), "3:6", "notify.to"),
            (format!("channel = \"ntfy\"\nto = \"{}\"", "x".repeat(65)), "3:6", "notify.to"),
            (format!("{telegram}\nto = \"the group\""), "4:6", "notify.to"),
            (format!("{telegram}\nto = \"0\""), "4:6", "notify.to"),
            (format!("{telegram}\nto = \"@a b\""), "4:6", "notify.to"),
            (format!("{telegram}\nto = \"-100\"\nthread = -1"), "5:10", "notify.thread"),
            (format!("{discord}\nthread = -5"), "4:10", "notify.thread"),
            (format!("{discord}\nthread = \"general\""), "4:10", "invalid type"),
            (format!("{webhook}\nprevious_secret = \"env:OLD\""), "4:19", "notify.previous_secret"),
            (format!("{mail}\n{login}\ntls = \"none\""), "8:7", "notify.tls"),
            ("channel = \"slack\"\nurl = \"env:U\"\nto = \"C01\"".to_owned(), "4:6", "notify.to"),
            (format!("{webhook}\nevents = [\"waiting_for_approval\"]"), "4:10", "no approvals"),
            (format!("{webhook}\nevents = [\"started\",\n\"succeded\"]"), "5:1", "unknown event `succeded`"),
            (format!("{webhook}\nheaders = {{ X-Good = \"1\", Host = \"a\" }}"), "4:34", "notify.headers"),
            (
                format!("{webhook}\n[notify.headers]\nX-Good = \"1\"\n\"X Y\" = \"2\""),
                "6:9",
                "notify.headers",
            ),
            (
                format!("{webhook}\n[notify.headers]\nX-Good = \"1\"\nX-Key = \"2\""),
                "6:9",
                "notify.headers: `X-Key`: it must",
            ),
            (format!("{webhook}\n[notify.headers]\nX-A = \"1\"\nX-B = \"a\\nb\""), "6:7", "notify.headers"),
            (
                format!("{webhook}\n[notify.templates]\nsuccess = \"ok\"\nfailure = \"{{{{ comit }}}}\""),
                "6:11",
                "notify.templates: template of channel `webhook`, line 1",
            ),
        ] {
            let refused = read(&text).unwrap_err();
            assert!(
                refused.starts_with(&format!("a.toml:{at}: ")) && refused.contains(what),
                "{text}: {refused}"
            );
        }
        let unknown = read(&format!("{webhook}\nevents = [\"approved\"]")).unwrap_err();
        assert!(unknown.contains("expected one of `started`, `succeeded`"), "{unknown}");
        assert!(!unknown.contains("waiting_for_approval"), "nobody can use it: {unknown}");
        for good in [
            format!("{telegram}\nto = \"-1001234567890\"\nthread = 7"),
            format!("{telegram}\nto = \"@deploys_of_shop\""),
            format!("{discord}\nthread = 1234567890123456789"),
            "channel = \"ntfy\"\nto = \"shop-deploys_8f3A\"".to_owned(),
            "channel = \"ntfy\"\nto = \"env:TOPIC\"".to_owned(),
            format!("{webhook}\nsecret = \"env:NEW\"\nprevious_secret = \"env:OLD\""),
            format!("{mail}\ntls = \"none\""),
            format!("{}\n{login}\ntls = \"none\"", mail.replace("mail.example.org", "127.0.0.1")),
        ] {
            read(&good).unwrap();
        }
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
