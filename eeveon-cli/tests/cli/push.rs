//! A push by git itself, whose hook calls the daemon: what a forge of one's own does.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use crate::{
    running::{Daemon, eventually},
    sandbox::Sandbox,
};

/// Cuts the script that sends a delivery out of the guide, so that it is the one people copy.
fn script_of_the_guide() -> String {
    let page = fs::read_to_string("../docs/guide/webhooks.md").unwrap();
    let (_, rest) = page.split_once("```sh\n#!/bin/sh\n# usage: HOOK_SECRET").unwrap();
    format!("#!/bin/sh\n# usage: HOOK_SECRET{}", rest.split_once("```").unwrap().0)
}

#[test]
fn a_push_whose_hook_sends_a_signed_delivery_goes_live() {
    for tool in ["curl", "openssl", "od"] {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            eprintln!("LEFT OUT: there is no {tool}, which the script of the guide needs");
            return;
        }
    }
    let sandbox = Sandbox::new(&[("a", "1")]);
    let server = sandbox.path().join("server.git");
    let (server_path, site) = (server.to_str().unwrap(), sandbox.site());
    sandbox.git(&["clone", "--quiet", "--bare", ".", server_path]);
    let to = ["--name", "app", "--path", site.to_str().unwrap()];
    sandbox.run(&[&["init", "--repo", server_path], &to[..]].concat()).expect_code(0);
    // Nothing but the push can set a deployment off.
    sandbox.configure("source.poll = false");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "generic", "--json"]).json();
    let daemon = Daemon::start(&sandbox);

    let send = sandbox.path().join("send.sh");
    fs::write(&send, script_of_the_guide()).unwrap();
    let hook = server.join("hooks/post-receive");
    let url = format!("http://{}/hooks/app/generic", daemon.address);
    let body = r#"{"type": "push", "data": {"ref": "'"$ref"'"}}"#;
    let lines = format!(
        "#!/bin/sh\nexport HOOK_SECRET='{}'\nwhile read -r old new ref; do\n  {} '{url}' '{body}'\ndone\n",
        shown["secret"].as_str().unwrap(),
        send.display()
    );
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, lines).unwrap();
    for file in [&send, &hook] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    let pushed = sandbox.commit("second", &[("a", "2")]);
    sandbox.git(&["push", "--quiet", server_path, "main"]);
    eventually("the pushed commit is live", || sandbox.live("a").as_deref() == Some("2"));
    eventually("it is recorded", || {
        let newest = &sandbox.run(&["history", "app", "--json"]).json()[0];
        newest["outcome"] == "succeeded" && newest["revision"] == pushed.as_str()
    });
    let history = sandbox.run(&["history", "app", "--json"]).json();
    assert_eq!(history[0]["trigger"], "webhook", "{history}");
    // A push to another branch calls, too, and changes nothing.
    sandbox.git(&["push", "--quiet", server_path, "main:other"]);
    let list = sandbox.run(&["webhook", "deliveries", "app", "--json"]).json();
    assert_eq!((&list[0]["accepted"], &list[1]["accepted"]), (&false.into(), &true.into()), "{list}");
    assert_eq!(sandbox.run(&["history", "app", "--json"]).json().as_array().unwrap().len(), 2);
}
