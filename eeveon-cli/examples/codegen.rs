//! Writes the generated pages of the guide below the folder given; `cargo xtask codegen` calls it.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let root = env::args_os().nth(1).map(PathBuf::from).ok_or(io::ErrorKind::InvalidInput)?;
    for (path, content) in eeveon_cli::docs::pages() {
        fs::write(root.join(path), content)?;
    }
    Ok(())
}
