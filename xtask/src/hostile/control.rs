//! The harness on trial: programs that do what they must not, each of which has to be found out by the
//! rule it breaks, and one that does nothing wrong, which must pass.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    oracle::Forms,
    place::{Place, SECRET},
    stage::{Expect, Scene, Stage},
};

/// Longer than a shell takes for a few lines, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How long those have that take for ever.
const SHORT: Duration = Duration::from_secs(2);

/// What a program on trial is asked to do, as lines of a shell, and the rules that breaks.
const DEEDS: &[(&str, &str)] = &[
    ("outside", "echo x > \"$HOME/../outside/new\""),
    ("outside", "echo x >> \"$HOME/../outside/victim\""),
    ("outside", "rm \"$HOME/.netrc\""),
    ("outside", "chmod 644 \"$HOME/.ssh/id_ed25519\""),
    ("outside", "echo x > \"$TMPDIR/left\""),
    ("outside", "echo x >> \"$HOME/../repos/hostile.git/config\""),
    ("outside", "echo 'as it was' > \"$HOME/../outside/victim\""),
    ("process", "id -u > /dev/null"),
    ("process", "sh -c 'echo x' > /dev/null"),
    ("process", "(uname > /dev/null &)"),
    ("secret", "echo \"$AWS_SECRET_ACCESS_KEY\""),
    ("secret", "cat \"$HOME/.env\" >&2"),
    ("secret", "echo BASE64"),
    ("secret", "echo HEXADECIMAL"),
    ("secret", "cat \"$HOME/.netrc\" > \"$SITE/releases/1/netrc\""),
    ("secret", "echo \"$GIT_TOKEN\" > \"$EEVEON_HOME/log\""),
    ("terminal", "printf 'a\\033[2J\\n'"),
    ("terminal", "printf 'a\\302\\2332J\\n' >&2"),
    ("terminal", "printf 'a\\342\\200\\256b\\n'"),
    ("terminal", "printf '\\377\\n'"),
    ("code expected", "exit 1"),
    ("code expected", "echo '{\"error\":{\"code\":\"no/such-page\"}}' >&2; exit 10"),
    ("expected", "echo '{\"error\":{\"code\":\"source/path\"}}' >&2; exit 10"),
    ("expected", "echo y > \"$SITE/releases/1/index.html\""),
    ("release", "ln -s ../../../../../.. \"$SITE/releases/1/out\""),
    ("release", "ln -s /etc/passwd \"$SITE/releases/1/out\""),
    ("release", "mkdir \"$SITE/releases/1/.GIT\""),
    ("release", "chmod 4755 \"$SITE/releases/1/index.html\""),
    ("release", "mkfifo \"$SITE/releases/1/pipe\""),
    ("expected time", "sleep 1000"),
    ("time", "sleep 1000 > /dev/null &"),
    ("memory", "big=$(head -c 300000000 /dev/zero | tr '\\0' x)"),
];

/// What the programs on trial may use.
const TOOLS: &[&str] = &["mkdir", "ln", "rm", "cat", "chmod", "mkfifo", "sleep", "head", "tr"];

/// Tries them all.
///
/// # Errors
///
/// One of them is not found out, or by another rule, or the good one is.
pub(super) fn run(folder: &Path, pages: &Path) -> Result<()> {
    let folder = folder.join("control");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let program = folder.join("program");
    let (base64, hexadecimal) = Forms::examples(SECRET);
    let mut missed = Vec::new();
    for (rule, deed) in [("", ":")].iter().chain(DEEDS) {
        let deed = deed.replace("BASE64", &base64).replace("HEXADECIMAL", &hexadecimal);
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = deploy ] || exit 0\nmkdir -p \"$SITE/releases/1\" \"$EEVEON_HOME\"\n\
             echo x > \"$SITE/releases/1/index.html\"\nln -s releases/1 \"$SITE/current\"\n{deed}\nexit 0\n"
        );
        fs::write(&program, script).with_context(|| format!("cannot write {}", program.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let stage = Stage {
            program: &program,
            folder: folder.clone(),
            pages: pages.to_owned(),
            limit: if rule.contains("time") { SHORT } else { LIMIT },
            also: TOOLS,
        };
        let verdict = stage.play(plain).with_context(|| format!("trying `{deed}`"))?;
        let found: Vec<&str> = verdict.rules().into_iter().collect();
        if found != rule.split_whitespace().collect::<Vec<_>>() {
            missed.push(format!("`{deed}` breaks {rule:?}, and was found to break {found:?}"));
        }
    }
    ensure!(missed.is_empty(), "the harness is wrong:\n{}", missed.join("\n"));
    println!(
        "control: {} programs that break a rule were found out, and one that breaks none passed",
        DEEDS.len()
    );
    Ok(())
}

/// A repository with nothing wrong.
fn plain(place: &Place) -> Result<Scene> {
    let repo = place.repo()?;
    repo.files(&[("index.html", b"x\n")])?;
    Ok(Scene::of(&repo.path, Expect::Live(vec![("index.html", b"x\n".to_vec())])))
}
