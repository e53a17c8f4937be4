//! Writing project files: a new one with every key explained, and changes that keep comments.

use std::path::Path;

use eeveon_core::ProjectName;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use super::{
    ConfigError, ProjectConfig, parse,
    schema::{KEYS, SECTIONS, find, nearest},
};

/// Returns the text of a new project file: `given` keys set, every other key there as a comment.
pub(crate) fn new_file(given: &[(&str, Value)]) -> String {
    let mut text = String::from("# An EEveon project. `ee-deploy config NAME` shows what is in force.\n");
    for section in SECTIONS {
        text.push_str(&format!("\n# {}.\n[{}]\n", capitalised(section.about), section.name));
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

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn unknown(path: &str) -> ConfigError {
    let paths: Vec<String> = KEYS.iter().map(super::Key::path).collect();
    let bare = KEYS.iter().find(|key| key.name == path).map(super::Key::path);
    let nearest = bare.or_else(|| nearest(path, paths.iter().map(String::as_str)).map(str::to_owned));
    ConfigError::UnknownKey { key: path.to_owned(), nearest }
}

/// Returns what is in force for the key `path`, as TOML.
///
/// # Errors
///
/// There is no such key.
pub(crate) fn get(config: &ProjectConfig, path: &str) -> Result<String, ConfigError> {
    let key = find(path).ok_or_else(|| unknown(path))?;
    let all = toml::Table::try_from(config).unwrap_or_default();
    let mut value = all.get(key.section).and_then(|section| section.get(key.name));
    if let Some(variable) = path.strip_prefix("build.env.") {
        value = value.and_then(|env| env.get(variable));
    }
    Ok(value.map(ToString::to_string).unwrap_or_default())
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
    let key = find(path).ok_or_else(|| unknown(path))?;
    let is_text = key.default.unwrap_or(key.example).starts_with('"') || path.starts_with("build.env.");
    let is_list = key.example.starts_with('[');
    let parsed = match value.parse::<Value>() {
        Ok(parsed) if is_text == parsed.is_str() => parsed,
        _ if is_text => Value::from(value),
        _ if is_list => Value::Array(Array::from_iter([value])),
        Ok(parsed) => parsed,
        Err(_) => Value::from(value),
    };
    let mut document = writable(text, file)?;
    let slot = slot(&mut document, key.section);
    match path.strip_prefix("build.env.") {
        Some(variable) => {
            let env = slot.entry(key.name).or_insert_with(|| Item::Value(InlineTable::new().into()));
            if let Some(env) = env.as_table_like_mut() {
                replace(env.entry(variable).or_insert(Item::None), parsed);
            }
        }
        None => replace(slot.entry(key.name).or_insert(Item::None), parsed),
    }
    let text = document.to_string();
    parse(&text, file, name)?;
    Ok(text)
}

/// Returns `text` without the key `path`, so that its default is in force.
///
/// # Errors
///
/// There is no such key, or the file would be invalid without it.
pub(crate) fn unset(text: &str, file: &Path, name: &ProjectName, path: &str) -> Result<String, ConfigError> {
    let key = find(path).ok_or_else(|| unknown(path))?;
    let mut document = writable(text, file)?;
    if let Some(section) = document.get_mut(key.section).and_then(Item::as_table_like_mut) {
        match path.strip_prefix("build.env.") {
            Some(variable) => {
                let env = section.get_mut(key.name).and_then(Item::as_table_like_mut);
                env.map(|env| env.remove(variable));
            }
            None => {
                section.remove(key.name);
            }
        }
    }
    let text = document.to_string();
    parse(&text, file, name)?;
    Ok(text)
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

fn slot<'a>(document: &'a mut DocumentMut, section: &str) -> &'a mut dyn toml_edit::TableLike {
    let entry = document.as_table_mut().entry(section).or_insert_with(|| Item::Table(Table::new()));
    if !entry.is_table_like() {
        *entry = Item::Table(Table::new());
    }
    match entry.as_table_like_mut() {
        Some(table) => table,
        None => unreachable!("it was just made a table"),
    }
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
    fn unsetting_brings_the_default_back() {
        let name = ProjectName::new("a").unwrap();
        let text = set_in(&file(), "deploy.keep", "9").unwrap();
        let text = unset(&text, Path::new("a.toml"), &name, "deploy.keep").unwrap();
        assert_eq!(get(&parse(&text, Path::new("a.toml"), &name).unwrap(), "deploy.keep").unwrap(), "5");
        assert!(unset(&text, Path::new("a.toml"), &name, "deploy.path").is_err());
    }
}
