//! The servers that tests talk to: found, or installed where that is possible.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{run, workspace::Workspace};

/// A server that tests talk to.
struct Server {
    /// How `EEVEON_SKIP_SERVERS` names it.
    name: &'static str,
    /// Whether it is there with all it needs.
    present: fn(&Workspace) -> bool,
    /// The packages of Debian and Ubuntu that bring it.
    packages: &'static [&'static str],
}

const SERVERS: &[Server] = &[
    Server { name: "git-daemon", present: has_git_daemon, packages: &["git"] },
    Server { name: "lighttpd", present: has_lighttpd, packages: &["lighttpd", "lighttpd-mod-openssl"] },
    Server {
        name: "postfix",
        present: has_postfix,
        packages: &["postfix", "sasl2-bin", "libsasl2-modules", "libsasl2-modules-db"],
    },
    Server { name: "sshd", present: has_sshd, packages: &["openssh-server", "openssh-client"] },
];

/// Other package managers, and what brings all the servers there.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "dnf",
        "dnf install lighttpd openssh-server openssh-clients git-daemon postfix cyrus-sasl cyrus-sasl-plain",
    ),
    ("pacman", "pacman -S --needed lighttpd openssh git postfix cyrus-sasl"),
    ("apk", "apk add lighttpd lighttpd-mod_auth openssh git-daemon postfix cyrus-sasl cyrus-sasl-login"),
    ("brew", "brew install lighttpd openssh git"),
];

/// Where Debian's tools ask whether they may start a service they have just installed.
///
/// Source: <https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt>
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The answer no.
const NO_SERVICES: &str = "#!/bin/sh\n# `cargo xtask test` of EEveon is installing packages.\nexit 101\n";

/// What packages ask while they are installed, answered in advance: postfix is to set up no mail
/// server for this machine.
///
/// Source: <https://manpages.debian.org/debconf-set-selections>
const ANSWERS: &str = "postfix postfix/main_mailer_type select No configuration\n";

/// Sees to it that the servers are there. Returns the names of those that are not.
///
/// # Errors
///
/// When one is missing and `all_needed`.
pub(crate) fn prepare(workspace: &Workspace, all_needed: bool) -> Result<Vec<&'static str>> {
    let mut missing = missing(workspace);
    if !missing.is_empty() && may_install() {
        println!("installing {}, which tests talk to", names(&missing).join(", "));
        if let Err(error) = install(workspace, &missing) {
            println!("that did not work: {error:#}");
        }
        missing = self::missing(workspace);
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let advice =
        format!("{} missing; to install what they need:\n  {}", names(&missing).join(", "), advice(&missing));
    if all_needed {
        bail!("CI leaves no test out, but {advice}");
    }
    println!("{advice}\nthe tests that talk to them are left out, and named at the end");
    Ok(names(&missing))
}

/// Returns the one command that installs every server on this machine.
pub(crate) fn advice_for(workspace: &Workspace) -> String {
    advice(&missing(workspace))
}

fn missing(workspace: &Workspace) -> Vec<&'static Server> {
    SERVERS.iter().filter(|server| !(server.present)(workspace)).collect()
}

fn names(servers: &[&Server]) -> Vec<&'static str> {
    servers.iter().map(|server| server.name).collect()
}

fn packages(servers: &[&Server]) -> Vec<&'static str> {
    servers.iter().flat_map(|server| server.packages).copied().collect()
}

fn advice(missing: &[&Server]) -> String {
    let elsewhere =
        ELSEWHERE.iter().find(|(manager, _)| find("apt-get").is_none() && find(manager).is_some());
    match elsewhere {
        Some(("brew", command)) => (*command).to_owned(),
        Some((_, command)) => format!("sudo {command}"),
        None => format!("sudo apt-get install --no-install-recommends {}", packages(missing).join(" ")),
    }
}

fn may_install() -> bool {
    let id = Command::new("id").arg("-u").output();
    find("apt-get").is_some() && id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

fn install(workspace: &Workspace, servers: &[&Server]) -> Result<()> {
    let apt = |words: &[&str]| {
        let mut command = workspace.command("apt-get");
        command.args(["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0", "-qq"]).args(words);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    // Nothing is removed: postfix would take the place of the mail server a machine may have.
    let mut words = vec!["install", "-y", "--no-install-recommends", "--no-remove"];
    words.extend(packages(servers));
    answer_in_advance(workspace)?;
    // Tests start their own instances; the packages' services stay off. A file of ours that is there
    // already was left by a run that was killed here.
    let ours = fs::read_to_string(POLICY).map_or(true, |policy| policy == NO_SERVICES);
    if ours {
        fs::write(POLICY, NO_SERVICES).with_context(|| format!("cannot write {POLICY}"))?;
        run::output(workspace.command("chmod").args(["755", POLICY]))?;
    }
    let mut installed = run::stream(&mut apt(&words));
    if installed.is_err() {
        // The lists of packages may be missing or old.
        installed = run::stream(&mut apt(&["update"])).and_then(|()| run::stream(&mut apt(&words)));
    }
    if ours {
        fs::remove_file(POLICY).with_context(|| format!("cannot remove {POLICY}"))?;
    }
    installed
}

fn answer_in_advance(workspace: &Workspace) -> Result<()> {
    let answers = std::env::temp_dir().join(format!("eeveon-xtask-{}.debconf", std::process::id()));
    fs::write(&answers, ANSWERS).with_context(|| format!("cannot write {}", answers.display()))?;
    let told = run::output(workspace.command("debconf-set-selections").arg(&answers));
    // A leftover in the folder for leftovers harms nobody.
    let _gone = fs::remove_file(&answers);
    told.map(|_| ())
}

fn has_git_daemon(workspace: &Workspace) -> bool {
    let exec = run::output(workspace.command("git").arg("--exec-path")).unwrap_or_default();
    ["git-daemon", "git-http-backend"].iter().all(|program| Path::new(exec.trim()).join(program).exists())
}

fn has_lighttpd(workspace: &Workspace) -> bool {
    let Some(lighttpd) = find("lighttpd") else { return false };
    // lighttpd itself knows best whether it finds its modules.
    let modules = "server.document-root = \"/\"\nserver.modules = (\"mod_alias\", \"mod_setenv\", \"mod_cgi\", \
         \"mod_auth\", \"mod_authn_file\", \"mod_openssl\")\n";
    let config = std::env::temp_dir().join(format!("eeveon-xtask-{}.conf", std::process::id()));
    let loads = fs::write(&config, modules).is_ok()
        && run::succeeds(workspace.command(&lighttpd).arg("-tt").arg("-f").arg(&config));
    // A leftover in the folder for leftovers harms nobody.
    let _gone = fs::remove_file(&config);
    loads
}

fn has_postfix(_: &Workspace) -> bool {
    ["postfix", "saslpasswd2"].iter().all(|program| find(program).is_some())
}

fn has_sshd(_: &Workspace) -> bool {
    ["sshd", "ssh", "ssh-keygen"].iter().all(|program| find(program).is_some())
}

/// Returns where a program lies: on the path, or where servers are kept out of users' paths.
pub(crate) fn find(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let hidden = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(Into::into);
    let found = std::env::split_paths(&path).chain(hidden).map(|folder| folder.join(program));
    found.into_iter().find(|file| file.is_file()).map(|file| file.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_one_command_with_every_package() {
        let all: Vec<&Server> = SERVERS.iter().collect();
        assert_eq!(
            packages(&all),
            [
                "git",
                "lighttpd",
                "lighttpd-mod-openssl",
                "postfix",
                "sasl2-bin",
                "libsasl2-modules",
                "libsasl2-modules-db",
                "openssh-server",
                "openssh-client"
            ]
        );
        assert_eq!(advice(&all).lines().count(), 1);
    }

    #[test]
    fn programs_are_found_or_not() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
