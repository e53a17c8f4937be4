//! The environment of a command: checked names, values that are never shown.

use std::{collections::BTreeMap, fmt};

use crate::BuildError;

/// Environment variables. Values may be secrets: no form of this type prints them.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Checks and wraps variables. Of two with the same name the later one counts.
    ///
    /// # Errors
    ///
    /// `build/environment` when a name is not of the form `[A-Za-z_][A-Za-z0-9_]*`, or a value holds
    /// a NUL byte.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, BuildError> {
        let mut checked = BTreeMap::new();
        for (name, value) in variables {
            if !is_name(&name) {
                let name = name.chars().take(80).flat_map(char::escape_default).collect();
                return Err(BuildError::Name { name });
            }
            if value.contains('\0') {
                return Err(BuildError::Value { name });
            }
            checked.insert(name, value);
        }
        Ok(Self(checked))
    }

    /// Returns the names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }

    /// Returns these variables with `over` laid on top.
    pub fn with(mut self, over: Self) -> Self {
        self.0.extend(over.0);
        self
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The names every shell accepts.
///
/// Source: POSIX.1-2024, Base Definitions, 3.216 "Name".
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use eeveon_core::Diagnose;

    use super::*;

    fn one(name: &str, value: &str) -> Result<Environment, BuildError> {
        Environment::new([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn only_names_a_shell_can_hold_are_taken() {
        for good in ["A", "_", "a1", "NODE_ENV", "__X9"] {
            assert!(one(good, "").is_ok(), "{good}");
        }
        let bad = ["", "1A", "A-B", "A B", "A=B", "A;rm", "A\n", "Ä", "$(x)", "BASH_FUNC_x%%", "A\0", "-A"];
        for bad in bad {
            assert_eq!(one(bad, "").unwrap_err().code(), "build/environment", "{bad:?}");
        }
    }

    #[test]
    fn values_are_taken_as_they_are_and_never_shown() {
        let env = one("TOKEN", "hunter2\n'\"$(id)\u{1b}[2J").unwrap();
        assert!(!format!("{env:?}").contains("hunter2"));
        assert!(format!("{env:?}").contains("TOKEN"));
        let error = one("TOKEN", "hunter2\0").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
