//! Real servers on loopback, for tests: git over https and ssh, git's daemon, a mail server.
//!
//! Each runs on a port of its own until it is dropped. A test that needs one begins with
//! [`skip_unless!`](crate::skip_unless):
//!
//! ```no_run
//! use eeveon_testkit::{servers::GitDaemon, skip_unless};
//!
//! # fn test() {
//! skip_unless!(GitDaemon::available());
//! # }
//! ```

mod certificate;
mod daemon;
mod https;
mod postfix;
mod process;
mod ssh;

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

pub use certificate::{Validity, write as write_certificates};
pub use daemon::GitDaemon;
pub use https::{Access, GitHttps};
pub use postfix::Postfix;
pub use ssh::GitSsh;

/// Ends the test, visibly, unless the expression is `Ok`.
///
/// The line it writes is not captured by the test harness, and `cargo xtask test` counts it.
#[macro_export]
macro_rules! skip_unless {
    ($available:expr) => {
        if let Err(reason) = $available {
            fn here() {}
            $crate::servers::leave_out(::std::any::type_name_of_val(&here), &reason);
            return;
        }
    };
}

/// Tells the person at the terminal, and `cargo xtask test`, that a test was left out. `place` is
/// the path of an item inside the test.
#[doc(hidden)]
pub fn leave_out(place: &str, reason: &str) {
    let test = place.trim_end_matches("::here").trim_end_matches("::{{closure}}");
    // Past the harness, which would show it only for tests that fail.
    let _unseen = writeln!(io::stderr(), "skipped: {test}: {reason}");
    if let Some(list) = env::var_os("EEVEON_LEFT_OUT") {
        let list = OpenOptions::new().append(true).open(list);
        // One write call: other tests append at the same time.
        let _uncounted = list.and_then(|mut list| list.write_all(format!("{test}: {reason}\n").as_bytes()));
    }
}

/// Fails when `EEVEON_SKIP_SERVERS`, names divided by commas, has `server`.
fn not_skipped(server: &str) -> Result<(), String> {
    let skipped = env::var("EEVEON_SKIP_SERVERS").unwrap_or_default();
    match skipped.split(',').any(|name| name.trim() == server) {
        true => Err(format!("EEVEON_SKIP_SERVERS names {server}")),
        false => Ok(()),
    }
}

/// Returns where a program lies: on the path, or where servers are kept out of users' paths.
fn find(program: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let hidden = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let mut candidates = env::split_paths(&path).chain(hidden).map(|folder| folder.join(program));
    candidates.find(|file| file.is_file()).ok_or_else(|| format!("{program} is not installed"))
}

/// Returns where a program that belongs to git lies.
fn find_in_git(program: &str) -> Result<PathBuf, String> {
    let mut command = Command::new("git");
    let folder = output(command.arg("--exec-path")).map_err(|error| format!("git does not run: {error}"))?;
    let file = Path::new(folder.trim()).join(program);
    if file.is_file() { Ok(file) } else { Err(format!("{program} is not installed")) }
}

/// Runs a command that is to succeed and returns what it printed.
fn output(command: &mut Command) -> io::Result<String> {
    let done = command.stdin(std::process::Stdio::null()).output()?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(io::Error::other(format!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&done.stderr).trim()
        ))),
    }
}
