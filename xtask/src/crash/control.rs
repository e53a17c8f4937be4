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

/// Scenarios, and what programs do in each before they do the real one's work in `status`, with the
/// rule that breaks.
const SABOTAGE: [(&str, &[(&str, &str)]); 4] = [
    (
        "incremental",
        &[
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
        ],
    ),
    // Without its channel nobody is told; a commit put aside by hand was not put aside by the outcome.
    ("notified", &[("sed -i '/^\\[\\[notify/,$d' \"$EEVEON_HOME/projects/app.toml\"", "told at all")]),
    (
        "reverted",
        &[(
            "\"$real\" quarantine app \"$(cat \"$EEVEON_HOME/../repo/.git/refs/heads/main\")\"",
            "quarantine",
        )],
    ),
    (
        "configured",
        &[
            ("\"$real\" config app deploy.keep 4", "answer"),
            ("\"$real\" deploy app --again >/dev/null", "history"),
        ],
    ),
];

/// Runs every one of them through a blow in the middle of its scenario.
///
/// # Errors
///
/// One is not caught.
pub(crate) fn run(folder: &Path, program: &Path) -> Result<()> {
    let mut caught = 0;
    for (name, programs) in SABOTAGE {
        let scenario = SCENARIOS.iter().find(|it| it.name == name).context("there is no such scenario")?;
        let world = World::make(&folder.join("control"), program)?;
        let expected = scenario.prepare(&world)?;
        let mut stage = Stage { scenario, world, expected };
        let calls = stage.rehearse(Class::changes_state)?.len();
        stage.world.program = stage.world.beside("saboteur");
        for (sabotage, rule) in programs {
            write(&stage.world.program, program, sabotage)?;
            let strike = Strike { counts: Class::changes_state, at: calls / 2, blow: Blow::Kill };
            let verdict = stage.strike(strike)?;
            let rules: Vec<&str> = verdict.broken.iter().map(|it| it.rule).collect();
            ensure!(rules.contains(rule), "`{sabotage}` was not caught as `{rule}`, only as {rules:?}");
            caught += 1;
        }
    }
    println!("control: {caught} broken programs, all caught");
    Ok(())
}

fn write(saboteur: &Path, program: &Path, sabotage: &str) -> Result<()> {
    let script = format!(
        "#!/bin/sh\nreal='{}'\nsite=$EEVEON_HOME/../site\nif [ \"$1\" = status ]; then {sabotage}; fi\nexec \"$real\" \"$@\"\n",
        program.display()
    );
    fs::write(saboteur, script).with_context(|| format!("cannot write {}", saboteur.display()))?;
    Ok(fs::set_permissions(saboteur, fs::Permissions::from_mode(0o700))?)
}
