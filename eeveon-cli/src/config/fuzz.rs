//! A fuzz target: project files. What is understood can be written out and read back, and setting a
//! key to what is in force changes nothing.

use std::path::Path;

use eeveon_core::{Diagnose as _, ProjectName};

use super::{ConfigError, Health, KEYS, Notify, ProjectConfig, SECTIONS, get, parse, paths, set};

const MINIMAL: &str =
    "[source]\nrepo = \"https://example.org/a.git\"\nbranch = \"main\"\n\n[deploy]\npath = \"/srv/a\"\n";

/// Values beside the examples and defaults of all keys.
const VALUES: &[&str] = &[
    "0",
    "-1",
    "3",
    "1e400",
    "nan",
    "9223372036854775808",
    "\"\"",
    "\"x\"",
    "\"\\u001b[2J\"",
    "\"\u{202e}\"",
    "[]",
    "[[]]",
    "[\"a\", 1]",
    "{}",
    "{ a = 1 }",
    "true",
    "\"1h\"",
    "\"99999999999999999999h\"",
    "\"-x\"",
    "\"../x\"",
    "\"/\"",
    "\"env:X\"",
    "\"file:/x\"",
    "1979-05-27",
    "'''\n'''",
];

/// Words a project file is made of: headings, keys with values that fit, and values that do not.
fn words() -> Vec<String> {
    let mut words: Vec<String> =
        SECTIONS.iter().map(|section| format!("\n{}\n", section.heading())).collect();
    for key in KEYS.iter() {
        words.push(format!("\n[{}]\n{} = {}\n", key.section, key.name, key.example));
        words.push(format!("{} = {}\n", key.name, key.example));
        words.extend(key.default.map(|default| format!("{} = {default}\n", key.name)));
        words.push(format!("{} = ", key.name));
    }
    words.extend(VALUES.iter().map(|value| format!("{value}\n")));
    words.extend(["#", "\n", "\r", ".", "=", "\"", "[[", "]]", "\0", "\u{feff}"].map(str::to_owned));
    words
}

fn read(text: &str) -> Result<ProjectConfig, ConfigError> {
    parse(text, Path::new("a.toml"), &ProjectName::new("a").unwrap())
}

/// Writes out what is in force. Of what may be there several times only what is no default: a check of
/// one kind refuses the keys of others.
fn written(config: &ProjectConfig) -> String {
    let mut all = toml::Table::try_from(config).unwrap();
    let defaults = [
        ("health", toml::Table::try_from(Health::default())),
        ("notify", toml::Table::try_from(Notify::default())),
    ];
    for (section, defaults) in defaults {
        let defaults = defaults.unwrap();
        for table in all.get_mut(section).and_then(toml::Value::as_array_mut).into_iter().flatten() {
            let table = table.as_table_mut().unwrap();
            table.retain(|key, value| defaults.get(key) != Some(value));
        }
    }
    toml::to_string(&all).unwrap()
}

fn check(text: &str, nth: usize) {
    let config = match read(text) {
        Ok(config) => config,
        Err(error) => {
            assert!(error.code().starts_with("config/"), "{text:?}");
            if let ConfigError::Invalid { line, column, .. } = error {
                let lines = text.split('\n').count();
                assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column} of {text:?}");
            }
            return;
        }
    };
    let written = written(&config);
    let again = read(&written).unwrap_or_else(|error| panic!("{error}\nfrom {text}\nwritten {written}"));
    assert_eq!(again, config, "{text}\nwritten {written}");
    let paths = paths(&config);
    let Some(path) = paths.get(nth % paths.len().max(1)) else { return };
    let (value, _) = get(&config, path).unwrap();
    let set = set(text, Path::new("a.toml"), &ProjectName::new("a").unwrap(), path, &value);
    if let Ok(changed) = set {
        assert_eq!(read(&changed).unwrap(), config, "{path} = {value}\nin {text}\nmade {changed}");
    }
}

#[test]
fn project_files() {
    let words = words();
    bolero::check!().with_max_len(24).with_iterations(400).for_each(|input| {
        // Two bytes choose a word: there are more of them than one can name.
        let chosen: Vec<u8> = match input.is_ascii() {
            true => input.to_vec(),
            false => {
                let word = |pair: &[u8]| {
                    let nth = pair.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                    words.get(nth % words.len()).map(String::as_bytes).unwrap_or_default()
                };
                input.chunks(2).flat_map(word).copied().collect()
            }
        };
        let Ok(text) = String::from_utf8(chosen) else { return };
        let nth = input.iter().map(|byte| usize::from(*byte)).sum();
        check(&text, nth);
        check(&format!("{MINIMAL}{text}"), nth);
        // One line that fits is more often understood than many.
        for line in text.lines().take(3) {
            for section in ["source", "deploy"] {
                let heading = format!("[{section}]\n");
                check(&MINIMAL.replace(&heading, &format!("{heading}{line}\n")), nth);
            }
        }
    });
}
