//! The harness on trial: programs that break a rule on purpose, each of which must be caught.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};

use super::{
    calls::Class,
    case::{Stage, Strike},
    scenario::SCENARIOS,
    tracer::Blow,
    world::World,
};

/// What each program does before it does the real one's work in `status`, and the rule that breaks.
const SABOTAGE: [(&str, &str); 10] = [
    ("echo more >> \"$site/current/index.html\"", "live tree"),
    ("chmod 600 \"$site/current/same/text\"", "live tree"),
    ("rm \"$site/current/REVISION\"", "live tree"),
    ("ln -sfn releases/99 \"$site/current\"", "live tree"),
    ("mkdir \"$site/releases/.new-9-9\"", "leftover"),
    ("touch \"$EEVEON_HOME/projects/.tmp-1-app.toml\"", "leftover"),
    ("cp -a \"$site/releases/1\" \"$site/releases/77\"", "releases"),
    ("rm -r \"$EEVEON_HOME\"/eeveon.db*", "history"),
    ("echo '[deploy]' >> \"$EEVEON_HOME/projects/app.toml\"", "converges"),
    ("rm \"$EEVEON_HOME/projects/app.toml\"", "project"),
];

/// Runs every one of them through a blow in the middle of an incremental deploy.
///
/// # Errors
///
/// One is not caught.
pub(crate) fn run(folder: &Path, program: &Path) -> Result<()> {
    let scenario =
        SCENARIOS.iter().find(|it| it.name == "incremental").context("there is no incremental deploy")?;
    let world = World::make(&folder.join("control"), program)?;
    let expected = scenario.prepare(&world)?;
    let mut stage = Stage { scenario, world, expected };
    let calls = stage.rehearse(Class::changes_state)?.len();
    stage.world.program = stage.world.beside("saboteur");
    for (sabotage, rule) in SABOTAGE {
        let script = format!(
            "#!/bin/sh\nsite=$EEVEON_HOME/../site\nif [ \"$1\" = status ]; then {sabotage}; fi\nexec '{}' \"$@\"\n",
            program.display()
        );
        let path = stage.world.beside("saboteur");
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        let strike = Strike { counts: Class::changes_state, at: calls / 2, blow: Blow::Kill };
        let verdict = stage.strike(strike)?;
        let rules: Vec<&str> = verdict.broken.iter().map(|it| it.rule).collect();
        ensure!(rules.contains(&rule), "`{sabotage}` was not caught as `{rule}`, only as {rules:?}");
    }
    println!("control: {} broken programs, all caught", SABOTAGE.len());
    Ok(())
}
