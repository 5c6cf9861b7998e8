//! Setup of hooks: start-up lines, errors, and files.

use crate::{
    hooks_harness::write_hook,
    serve_harness::{Landfall, program, run},
};

#[test]
fn hook_start_up_lines_are_those_of_tusd() {
    let dir = tempfile::tempdir().unwrap();
    let hooks = dir.path().to_str().unwrap();
    let server = Landfall::start(&["-hooks-dir", hooks]);
    let lines = server.lines();
    let at = |what: &str| {
        let found = lines.iter().position(|line| line.ends_with(what));
        found.unwrap_or_else(|| panic!("no {what:?} in {lines:#?}"))
    };
    let using = at(&format!("Using '{hooks}' for hooks"));
    let enabled = at(
        "Enabled hook events: pre-create, post-create, post-receive, post-terminate, post-finish",
    );
    assert!(using < enabled, "{lines:#?}");

    // In the order in which they were named, and the folder as an absolute path.
    let mut command = program();
    command
        .current_dir(dir.path())
        .args([
            "-host=127.0.0.1",
            "-port=0",
            "-upload-dir=up",
            "-hooks-dir=.",
        ])
        .args(["-hooks-enabled-events", " pre-finish , pre-create"]);
    let server = Landfall::spawn(command, dir.path());
    server.says("Enabled hook events: pre-finish, pre-create");
    let line = server.says(" for hooks");
    assert!(line.contains(&format!("Using '{hooks}")), "{line}");
}

#[test]
fn an_unknown_event_is_fatal_as_in_tusd() {
    let args = [
        "-hooks-dir",
        "/tmp",
        "-hooks-enabled-events",
        "pre-create,post-fnish",
    ];
    let (code, out, told) = run(program().args(args));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        told.contains("unknown hook \"post-fnish\"; tip: a similar hook exists: 'post-finish'; write pre-create, "),
        "{told}"
    );
}

#[test]
fn without_hooks_only_the_counters_of_tusd_exist() {
    let server = Landfall::start(&[]);
    let page = server
        .client()
        .ask(crate::serve_harness::Request::get("/metrics"))
        .text();
    for hook in [
        "pre-create",
        "post-create",
        "post-receive",
        "pre-finish",
        "post-finish",
        "pre-terminate",
        "post-terminate",
    ] {
        for name in ["tusd_hook_invocations_total", "tusd_hook_errors_total"] {
            let sample = format!("{name}{{hooktype=\"{hook}\"}} 0\n");
            assert!(page.contains(&sample), "{sample}");
        }
    }
    assert!(!page.contains("landfall_hook") && !page.contains("landfall_events"));
}

#[test]
fn start_up_lines_hide_passwords_and_queries() {
    let server = Landfall::start(&["-hooks-http=http://u:hunter2@127.0.0.1:1/x?tok=hunter2"]);
    server.says("Using 'http://u:***@127.0.0.1:1/x?***' as the endpoint for hooks");
    assert!(!server.log().contains("hunter2"), "{}", server.log());
}

#[test]
fn a_command_does_not_inherit_the_settings_of_the_server() {
    let (dir, hooks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seen = hooks.path().join("seen");
    write_hook(
        hooks.path(),
        "pre-create",
        &format!("env > '{}'\necho '{{}}'", seen.display()),
    );
    let mut command = program();
    command
        .args(["-host=127.0.0.1", "-port=0", "-upload-dir"])
        .arg(dir.path())
        .arg("-hooks-dir")
        .arg(hooks.path())
        .env("LANDFALL_MAX_SIZE", "1000000")
        .env("LANDFALL_UNKNOWN_QUUX_PASSWORD", "a secret")
        .env("AWS_SECRET_ACCESS_KEY", "as in tusd");
    let server = Landfall::spawn(command, dir.path());
    server.client().create(10);
    let seen = std::fs::read_to_string(seen).unwrap();
    let ours: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.strip_prefix("LANDFALL_")?.split('=').next())
        .collect();
    for name in ours {
        assert!(
            ["HOOK", "EVENT_ID", "SEQUENCE"].contains(&name),
            "LANDFALL_{name} in {seen}"
        );
    }
    assert!(seen.contains("LANDFALL_HOOK=pre-create"), "{seen}");
    assert!(seen.contains("AWS_SECRET_ACCESS_KEY=as in tusd"), "{seen}");
}

#[test]
fn a_state_directory_is_no_link_and_other_users_cannot_write_to_it() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = dir.path().join(".landfall");
    symlink(elsewhere.path(), &folder).unwrap();
    let mut command = program();
    command.args(["-host=127.0.0.1", "-port=0", "-upload-dir"]);
    let (code, _, told) = run(command.arg(dir.path()));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("is a symbolic link"), "{told}");
    assert!(
        std::fs::read_dir(elsewhere.path())
            .unwrap()
            .next()
            .is_none()
    );
    std::fs::remove_file(&folder).unwrap();

    // A writer of the directory could replace the database.
    let hooks = tempfile::tempdir().unwrap();
    write_hook(hooks.path(), "post-finish", "true");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let hooks_dir = ["-hooks-dir", hooks.path().to_str().unwrap()];
    let server = Landfall::on(dir.path(), &hooks_dir);
    server.says("can be written by all users of this machine (mode 0777); corrected");
    server.client().create(10);
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}
