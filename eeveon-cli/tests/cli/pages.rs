//! Scripts and pages the binary makes of its own command line.

use crate::sandbox::Sandbox;

#[test]
fn completions_and_the_manual_know_every_command() {
    let sandbox = Sandbox::new(&[("a", "a")]);
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.run(&["completions", shell]).expect_code(0).stdout;
        assert!(script.contains("rollback") && script.contains("ee-deploy"), "{shell}");
    }
    let manual = sandbox.run(&["man"]).expect_code(0).stdout;
    for command in ["up", "rollback", "quarantine", "vacuum"] {
        assert!(
            manual.contains(&format!("ee\\-deploy {command}"))
                || manual.contains(&format!("ee\\-deploy\\-{command}")),
            "{command}"
        );
    }
    let homeless = sandbox.command(&["man"]).env_remove("HOME").env_remove("EEVEON_HOME").output().unwrap();
    assert!(homeless.status.success() && !sandbox.home().exists(), "a page needs no home");
}

#[test]
fn every_command_shows_an_example() {
    let sandbox = Sandbox::new(&[("a", "a")]);
    let all = sandbox.run(&["--help"]).expect_code(0).stdout;
    let commands =
        all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|it| *it != "help").collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let help = sandbox.run(&[name, "--help"]).expect_code(0).stdout;
        assert!(help.contains("Example: ee-deploy"), "{name}");
    }
}
