//! The generated pages of the guide are those the code would make.

use std::{fs, path::Path};

#[test]
fn generated_pages_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, content) in eeveon_cli::docs::pages() {
        let found = fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(found == content, "{path} is out of date: run `cargo xtask codegen`");
    }
}
