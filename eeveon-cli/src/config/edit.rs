//! Writing project files: a new one with every key explained, and changes that keep comments.

use std::path::Path;

use eeveon_core::ProjectName;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{
    ConfigError, KEYS, Key, ProjectConfig, parse,
    schema::{SECTIONS, Section, nearest},
};

/// Returns the text of a new project file: `given` keys set, every other key there as a comment.
pub(crate) fn new_file(given: &[(&str, Value)]) -> String {
    let mut text = String::from("# An EEveon project. `ee-deploy config NAME` shows what is in force.\n");
    for section in SECTIONS {
        text.push_str(&format!("\n# {}.\n", capitalised(section.about)));
        if section.many {
            let pages = "docs/guide/reference.md lists every key";
            text.push_str(&format!("# {pages}. For example:\n{}", example(section)));
            continue;
        }
        text.push_str(&format!("{}\n", section.heading()));
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            text.push_str(&format!("# {}\n", key.about));
            match given.iter().find(|(path, _)| *path == key.path()) {
                Some((_, value)) => text.push_str(&format!("{} = {value}\n", key.name)),
                None => text.push_str(&format!("# {} = {}\n", key.name, key.default.unwrap_or(key.example))),
            }
        }
    }
    text
}

/// Returns one such section, commented out.
fn example(section: &Section) -> String {
    let lines: &[&str] = match section.name {
        "health" => &["url = \"http://127.0.0.1:3000/healthz\""],
        "notify" => &["channel = \"slack\"", "url = \"env:SLACK_URL\""],
        "schedule" => &["cron = \"30 4 * * mon-fri\"", "tz = \"Europe/Berlin\""],
        "after" => &["project = \"api\""],
        _ => &[],
    };
    let lines = lines.iter().map(|line| format!("#{line}\n"));
    std::iter::once(format!("#{}\n", section.heading())).chain(lines).collect()
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn unknown(path: &str) -> ConfigError {
    let paths: Vec<String> = KEYS.iter().map(Key::path).collect();
    let bare = KEYS.iter().find(|key| key.name == path).map(Key::path);
    let nearest = bare.or_else(|| nearest(path, paths.iter().map(String::as_str)).map(str::to_owned));
    ConfigError::UnknownKey { key: path.to_owned(), nearest }
}

/// Which value of a project file is meant.
struct Address<'a> {
    key: &'static Key,
    /// Which of the sections that may be there several times, counted from 0.
    nth: Option<usize>,
    /// The variable, for one of `build.env`.
    variable: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// Reads a path such as `source.repo`, `build.env.MODE` or, counted from 1, `health.2.url`.
    fn parse(path: &'a str) -> Result<Self, ConfigError> {
        let variable = path.strip_prefix("build.env.");
        let plain = if variable.is_some() { "build.env" } else { path };
        let mut parts = plain.splitn(3, '.');
        let (section, second, third) = (parts.next(), parts.next(), parts.next());
        let many = |name: &str| SECTIONS.iter().any(|it| it.many && it.name == name);
        let (nth, name) = match (section.is_some_and(many), second, third) {
            (true, Some(n), Some(key)) => match n.parse::<usize>().ok().and_then(|n| n.checked_sub(1)) {
                Some(nth) => (Some(nth), Some(key)),
                None => return Err(unknown(path)),
            },
            (false, name, None) => (None, name),
            _ => return Err(unknown(path)),
        };
        let key = KEYS.iter().find(|key| Some(key.section) == section && Some(key.name) == name);
        Ok(Self { key: key.ok_or_else(|| unknown(path))?, nth, variable })
    }

    /// Finds the section in a file, or makes it. Those that may be there several times are made one
    /// after another.
    fn section<'d>(
        &self,
        document: &'d mut DocumentMut,
        path: &str,
    ) -> Result<&'d mut dyn TableLike, ConfigError> {
        let entry = document.as_table_mut().entry(self.key.section);
        let Some(nth) = self.nth else {
            let entry = entry.or_insert_with(|| Item::Table(Table::new()));
            return entry.as_table_like_mut().ok_or_else(|| unknown(path));
        };
        let entry = entry.or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let tables = entry.as_array_of_tables_mut().ok_or_else(|| unknown(path))?;
        if tables.len() == nth {
            tables.push(Table::new());
        }
        tables.get_mut(nth).map(|table| table as &mut dyn TableLike).ok_or_else(|| unknown(path))
    }
}

/// Returns the paths of all values there are in `config`.
pub(crate) fn paths(config: &ProjectConfig) -> Vec<String> {
    let all = toml::Table::try_from(config).unwrap_or_default();
    let of_section = |section: &Section| -> Vec<String> {
        let keys = || KEYS.iter().filter(|key| key.section == section.name);
        let count = all.get(section.name).and_then(toml::Value::as_array).map_or(0, Vec::len);
        match section.many {
            true => (1..=count)
                .flat_map(|n| keys().map(move |key| format!("{}.{n}.{}", section.name, key.name)))
                .collect(),
            false => keys().map(Key::path).collect(),
        }
    };
    SECTIONS.iter().flat_map(of_section).collect()
}

/// Returns what is in force for the key `path`, as TOML, and whether that is its default.
///
/// # Errors
///
/// There is no such key.
pub(crate) fn get(config: &ProjectConfig, path: &str) -> Result<(String, bool), ConfigError> {
    let address = Address::parse(path)?;
    let all = toml::Table::try_from(config).unwrap_or_default();
    let section = all.get(address.key.section);
    let section = match address.nth {
        Some(nth) => Some(section.and_then(|all| all.get(nth)).ok_or_else(|| unknown(path))?),
        None => section,
    };
    let mut value = section.and_then(|section| section.get(address.key.name));
    if let Some(variable) = address.variable {
        value = value.and_then(|env| env.get(variable));
    }
    let default = address.key.default.and_then(|it| format!("x = {it}").parse::<toml::Table>().ok());
    let is_default = address.variable.is_none() && default.as_ref().and_then(|it| it.get("x")) == value;
    Ok((value.map(ToString::to_string).unwrap_or_default(), is_default))
}

/// Returns `text` with the key `path` set to `value`: TOML, or plain text where a text is meant.
/// Everything else in the file stays as it is.
///
/// # Errors
///
/// There is no such key, or the file would be invalid with it.
pub(crate) fn set(
    text: &str,
    file: &Path,
    name: &ProjectName,
    path: &str,
    value: &str,
) -> Result<String, ConfigError> {
    let address = Address::parse(path)?;
    let key = address.key;
    let is_text = key.default.unwrap_or(key.example).starts_with('"') || address.variable.is_some();
    let is_list = key.example.starts_with('[');
    let parsed = match value.parse::<Value>() {
        Ok(parsed) if is_text == parsed.is_str() || is_list && parsed.is_array() => parsed,
        _ if is_text => Value::from(value),
        _ if is_list => Value::Array(Array::from_iter([value])),
        Ok(parsed) => parsed,
        Err(_) => Value::from(value),
    };
    let mut document = writable(text, file)?;
    let section = address.section(&mut document, path)?;
    match address.variable {
        Some(variable) => {
            let env = section.entry(key.name).or_insert_with(|| Item::Value(InlineTable::new().into()));
            if let Some(env) = env.as_table_like_mut() {
                replace(env.entry(variable).or_insert(Item::None), parsed);
            }
        }
        None => replace(section.entry(key.name).or_insert(Item::None), parsed),
    }
    let text = document.to_string();
    parse(&text, file, name)?;
    Ok(text)
}

/// Returns `text` without the key `path`, so that its default is in force, or without one of the
/// sections that may be there several times, such as `health.2`.
///
/// # Errors
///
/// There is no such key, or the file would be invalid without it.
pub(crate) fn unset(text: &str, file: &Path, name: &ProjectName, path: &str) -> Result<String, ConfigError> {
    let mut document = writable(text, file)?;
    if let Some((section, nth)) = one_of_several(path) {
        let tables = document.get_mut(section).and_then(Item::as_array_of_tables_mut);
        let tables = tables.filter(|tables| nth < tables.len()).ok_or_else(|| unknown(path))?;
        tables.remove(nth);
        let text = document.to_string();
        parse(&text, file, name)?;
        return Ok(text);
    }
    let address = Address::parse(path)?;
    let section = address.section(&mut document, path)?;
    match address.variable {
        Some(variable) => {
            let env = section.get_mut(address.key.name).and_then(Item::as_table_like_mut);
            env.map(|env| env.remove(variable));
        }
        None => {
            section.remove(address.key.name);
        }
    }
    let text = document.to_string();
    parse(&text, file, name)?;
    Ok(text)
}

/// Reads the path of a whole section that may be there several times; counted from 0.
fn one_of_several(path: &str) -> Option<(&str, usize)> {
    let (section, n) = path.split_once('.')?;
    let nth = n.parse::<usize>().ok()?.checked_sub(1)?;
    SECTIONS.iter().any(|it| it.many && it.name == section).then_some((section, nth))
}

fn writable(text: &str, file: &Path) -> Result<DocumentMut, ConfigError> {
    text.parse().map_err(|error: toml_edit::TomlError| ConfigError::Invalid {
        file: file.to_owned(),
        line: 1,
        column: 1,
        message: error.message().to_owned(),
        hint: Some("mend the file by hand first".to_owned()),
    })
}

/// Puts `value` in the place of what is there, keeping the comment behind it.
fn replace(item: &mut Item, mut value: Value) {
    if let Some(old) = item.as_value() {
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> String {
        new_file(&[
            ("source.repo", "https://example.org/a.git".into()),
            ("source.branch", "main".into()),
            ("deploy.path", "/srv/a".into()),
        ])
    }

    fn set_in(text: &str, path: &str, value: &str) -> Result<String, ConfigError> {
        set(text, Path::new("a.toml"), &ProjectName::new("a").unwrap(), path, value)
    }

    #[test]
    fn a_new_file_is_valid_and_its_comments_are_the_defaults() {
        let name = ProjectName::new("a").unwrap();
        let text = file();
        let plain = parse(&text, Path::new("a.toml"), &name).unwrap();
        // Every commented default, brought in, changes nothing.
        let keys: Vec<String> = KEYS.iter().map(|key| format!("# {} = ", key.name)).collect();
        let full: String = text
            .lines()
            .map(|line| match keys.iter().any(|key| line.starts_with(key.as_str())) {
                true => line.trim_start_matches("# "),
                false => line,
            })
            .fold(String::new(), |all, line| all + line + "\n");
        assert_eq!(parse(&full, Path::new("a.toml"), &name).unwrap(), plain);
    }

    #[test]
    fn setting_a_key_keeps_every_comment() {
        let text = file().replace("branch = \"main\"", "branch = \"main\" # for now");
        let changed = set_in(&text, "source.branch", "dev").unwrap();
        assert_eq!(changed, text.replace("\"main\" # for now", "\"dev\" # for now"));
        let changed = set_in(&text, "deploy.keep", "9").unwrap();
        assert!(changed.contains("\nkeep = 9\n") && changed.contains("# An EEveon project"), "{changed}");
    }

    #[test]
    fn plain_words_are_understood_and_nonsense_is_not() {
        let text = set_in(&file(), "deploy.ignore", "docs/").unwrap();
        assert!(text.contains("ignore = [\"docs/\"]"), "{text}");
        let text = set_in(&file(), "build.env.MODE", "production").unwrap();
        assert!(text.contains("env = { MODE = \"production\" }"), "{text}");
        assert!(set_in(&file(), "deploy.keep", "many").is_err());
        assert!(set_in(&file(), "deploy.path", "relative").is_err());
        let error = set_in(&file(), "keep", "9").unwrap_err();
        assert!(matches!(error, ConfigError::UnknownKey { nearest: Some(it), .. } if it == "deploy.keep"));
    }

    #[test]
    fn sections_that_are_there_several_times_are_counted_from_one() {
        let name = ProjectName::new("a").unwrap();
        let text = set_in(&file(), "health.1.url", "http://127.0.0.1/").unwrap();
        let text = set_in(&text, "health.1.expect", "[200, 204]").unwrap();
        let text = set_in(&text, "health.1.attempts", "5").unwrap();
        let config = parse(&text, Path::new("a.toml"), &name).unwrap();
        assert_eq!(get(&config, "health.1.attempts").unwrap(), ("5".to_owned(), false));
        assert_eq!(get(&config, "health.1.when").unwrap(), ("\"post\"".to_owned(), true));
        assert!(paths(&config).contains(&"health.1.url".to_owned()));
        for nowhere in ["health.2.url", "health.0.url", "health.url", "health.1", "health.x.url"] {
            assert!(get(&config, nowhere).is_err(), "{nowhere}");
        }
        assert!(set_in(&text, "health.3.url", "http://127.0.0.1/").is_err(), "there is no second");
    }

    #[test]
    fn a_whole_section_can_be_removed() {
        let name = ProjectName::new("a").unwrap();
        let file_name = Path::new("a.toml");
        let text = file() + "\n[[after]]\nproject = \"b\"\n\n# the second\n[[after]]\nproject = \"c\"\n";
        let one = unset(&text, file_name, &name, "after.1").unwrap();
        assert!(!one.contains("\"b\"") && one.contains("\"c\""), "{one}");
        let none = unset(&one, file_name, &name, "after.1").unwrap();
        assert!(!none.contains("[[after]]"), "{none}");
        for wrong in ["after.1", "after.0", "after.x", "source.1", "after"] {
            assert!(unset(&none, file_name, &name, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unsetting_brings_the_default_back() {
        let name = ProjectName::new("a").unwrap();
        let text = set_in(&file(), "deploy.keep", "9").unwrap();
        let text = unset(&text, Path::new("a.toml"), &name, "deploy.keep").unwrap();
        let config = parse(&text, Path::new("a.toml"), &name).unwrap();
        assert_eq!(get(&config, "deploy.keep").unwrap(), ("5".to_owned(), true));
        assert!(unset(&text, Path::new("a.toml"), &name, "deploy.path").is_err());
    }
}
