//! Setup of grants: start-up lines, files, routes, keys, and errors.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    grants_harness::{Caller, add_key, keys},
    serve_harness::{Landfall, Request, eventually, program, run},
};

#[test]
fn disabled_features_add_no_routes_or_metrics() {
    let server = Landfall::start(&[]);
    assert!(!server.log().contains("grants are"), "{}", server.log());
    assert!(!server.log().contains("are in '"), "{}", server.log());
    let answer = server.client().ask(Request::get("/uploadjobs"));
    assert_eq!(answer.status, 404);
    let page = server.client().ask(Request::get("/metrics")).text();
    assert!(!page.contains("landfall_jobs"), "{page}");
    assert!(!server.dir().join(".landfall/landfall.db").exists());
}

#[test]
fn start_up_lines_name_database_and_authentication() {
    let server = Landfall::start(&["-require-grant", "-grants-path=/api/jobs"]);
    let lines = server.log();
    let file = fs::canonicalize(server.dir()).unwrap();
    let file = file.join(".landfall/landfall.db");
    assert!(file.is_file());
    for line in [
        format!("; grants are in '{}'", file.display()),
        "Upload page, for links of landfall link: http://".to_owned(),
        "Uploads need a token of a grant; anyone with the URL of an upload may read and delete it; grants are at \
         /api/jobs, authenticated by API keys (landfall keys)."
            .to_owned(),
    ] {
        assert!(lines.contains(&line), "no {line:?} in {lines}");
    }
    server.says("grants cannot be requested yet");
    assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
    // The page at / explains that it cannot upload.
    let greeting = server.client().ask(Request::get("/")).text();
    assert!(greeting.contains("/api/jobs"), "{greeting}");
}

#[test]
fn the_start_has_eight_lines_at_most() {
    let hooks = tempfile::tempdir().unwrap();
    let hooks = hooks.path().to_str().unwrap();
    for (args, kept) in [
        (&["-hooks-dir", hooks][..], "undelivered events"),
        (&["-grants"], "grants"),
        (
            &["-grants", "-hooks-dir", hooks],
            "grants and undelivered events",
        ),
    ] {
        let server = Landfall::start(args);
        let lines = server.lines();
        let said = lines.iter().filter(|line| !line.contains("level=WARN"));
        assert!(said.count() <= 8, "{args:?}: {lines:#?}");
        server.says(&format!("; {kept} are in '"));
    }
}

#[test]
fn no_warning_with_an_authentication_method() {
    let dir = tempfile::tempdir().unwrap();
    add_key(dir.path(), &["one"]);
    let server = Landfall::on(dir.path(), &["-grants"]);
    assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
    server.stop();
    let quiet = Landfall::start(&["-grants", "-grants-forward-auth-url=http://127.0.0.1:9/who"]);
    quiet.says("forward auth ('http://127.0.0.1:9/who').");
    assert_eq!(quiet.client().ask(Request::get("/readyz")).status, 200);
    assert!(
        !quiet.log().contains("cannot be requested"),
        "{}",
        quiet.log()
    );
}

#[test]
fn invalid_settings_are_reported_at_startup() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let short = format!("{dir}/short");
    fs::write(&short, "hunter2\n").unwrap();
    let no_keys = format!("{dir}/none.json");
    for (file, exit, told) in [
        ("/nonexistent/key", 1, "/nonexistent/key"),
        (&*short, 2, "too short"),
    ] {
        let mut command = program();
        command
            .args(["-host=127.0.0.1", "-port=0", "-upload-dir", dir])
            .env("LANDFALL_ADMIN_KEY_FILE", file);
        let (code, _, error) = run(&mut command);
        assert_eq!(code, Some(exit), "{file}: {error}");
        assert!(
            error.contains(told) && !error.contains("hunter2"),
            "{error}"
        );
    }
    for (words, told) in [
        (
            vec![
                "-grants",
                "-grants-jwt-issuer=x",
                "-grants-jwt-keys",
                &no_keys,
            ],
            "-grants-jwt-keys",
        ),
        (
            vec!["-grants", "-database", dir],
            "is a directory, not a file",
        ),
    ] {
        let mut command = program();
        command.args(["-host=127.0.0.1", "-port=0", "-upload-dir", dir]);
        let (code, _, error) = run(command.args(&words));
        assert_eq!(code, Some(1), "{words:?}: {error}");
        assert!(error.contains(told), "{words:?}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn keys_are_created_listed_and_revoked_while_the_server_runs() {
    let server = Landfall::start(&["-require-grant"]);
    let dir = server.dir();
    let key = add_key(
        dir,
        &["one", "-subject", "ann", "-rate-limit=5/1h", "-expires=90d"],
    );
    let boss = add_key(dir, &["boss", "-admin"]);
    let (code, _, told) = keys(dir, &["add", "one"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("a key named \"one\""), "{told}");

    let ann = Caller::new(&server, &key);
    let (status, _) = ann.grant(&json!({"id": "1", "filename": "a.bin", "filesize": 3}));
    assert_eq!(status, 201);
    let listed = Caller::new(&server, &boss).ask("GET", "/uploadjobs").text();
    assert!(listed.contains("\"ann\""), "{listed}");

    let (code, table, _) = keys(dir, &["list"]);
    assert_eq!(code, Some(0));
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(rows[0].starts_with("ID  NAME  SUBJECT"), "{table}");
    assert!(table.contains("5/1h") && table.contains("admin"), "{table}");
    let (_, text, _) = keys(dir, &["list", "-json"]);
    for secret in [&key, &boss] {
        assert!(!table.contains(&secret[4..]) && !text.contains(&secret[4..]));
    }
    let all: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(all[0]["name"], "one");
    assert_eq!(all[0]["subject"], "ann");
    assert_eq!(
        (&all[0]["admin"], &all[1]["admin"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(all[0]["limits"], json!({"rate_limit": "5/1h"}));

    let (code, out, _) = keys(dir, &["revoke", "one"]);
    assert_eq!((code, out.as_str()), (Some(0), "1 key revoked\n"));
    let (code, out, _) = keys(dir, &["revoke", "one"]);
    assert_eq!((code, out.as_str()), (Some(1), "0 keys revoked\n"));
    eventually("the key is still one", || {
        std::thread::sleep(Duration::from_millis(100));
        ann.ask("GET", "/uploadjobs").status == 401
    });
}

/// As the server does: who can replace the database chooses the keys.
#[test]
fn key_commands_refuse_a_state_directory_of_others() {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = dir.path().join(".landfall");
    let commands = [&["add", "one"][..], &["list"], &["revoke", "one"]];
    let refused = |wanted: &str| {
        for words in commands {
            let (code, key, told) = keys(dir.path(), words);
            assert_eq!((code, &*key), (Some(1), ""), "{words:?}: {told}");
            assert!(told.contains(wanted), "{words:?}: {told}");
        }
    };
    symlink(elsewhere.path(), &folder).unwrap();
    fs::write(elsewhere.path().join("landfall.db"), "").unwrap();
    refused("is a symbolic link");
    let found = fs::read_dir(elsewhere.path()).unwrap().count();
    assert_eq!(found, 1);
    fs::remove_file(&folder).unwrap();

    add_key(dir.path(), &["one"]);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    add_key(dir.path(), &["two"]);
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    if rustix::process::geteuid().is_root() {
        chown(&folder, Some(12_345), None).unwrap();
        refused("belongs to user 12345");
    }
}

#[test]
fn key_commands_report_a_missing_database() {
    let dir = tempfile::tempdir().unwrap();
    for words in [&["list"][..], &["revoke", "a"]] {
        let (code, _, told) = keys(dir.path(), words);
        assert_eq!(code, Some(1));
        assert!(told.contains("no key was created yet"), "{told}");
    }
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
}
