//! Every key a project file may have: one table, from which keys are checked, files are written and
//! the reference in the guide is made.

mod around;
mod deploying;

use std::sync::LazyLock;

use super::{Key, schema::SECTIONS};

/// The keys, in the order they are written.
pub(crate) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let all = || deploying::DEPLOYING.iter().chain(around::AROUND);
    SECTIONS.iter().flat_map(|section| all().filter(|key| key.section == section.name)).copied().collect()
});
