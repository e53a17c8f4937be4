//! The corpus: every hostile repository, by class.

mod links;
mod names;
mod repositories;
mod servers;
mod sizes;
mod trees;
mod words;

use anyhow::Result;

use super::{place::Place, stage::Scene};

/// Makes what a case is about.
pub(crate) type Make = Box<dyn FnOnce(&Place) -> Result<Scene> + Send>;

/// One repository, or one way to name it.
pub(crate) struct Case {
    /// What kind of harm it tries.
    pub(crate) class: &'static str,
    /// Which of that kind.
    pub(crate) name: String,
    pub(crate) make: Make,
}

/// Begins the cases of a class.
struct Class {
    name: &'static str,
    cases: Vec<Case>,
}

impl Class {
    fn new(name: &'static str) -> Self {
        Self { name, cases: Vec::new() }
    }

    fn case(&mut self, name: impl Into<String>, make: impl FnOnce(&Place) -> Result<Scene> + Send + 'static) {
        self.cases.push(Case { class: self.name, name: name.into(), make: Box::new(make) });
    }
}

/// Returns every case.
pub(crate) fn all() -> Vec<Case> {
    [
        names::branches(),
        names::addresses(),
        trees::names(),
        trees::collisions(),
        links::links(),
        repositories::settings(),
        repositories::damage(),
        repositories::submodules(),
        words::words(),
        sizes::sizes(),
        servers::servers(),
    ]
    .into_iter()
    .flat_map(|class| class.cases)
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: Vec<String> =
            super::all().into_iter().map(|case| format!("{}/{}", case.class, case.name)).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.len() >= 60, "{}", names.len());
    }
}
