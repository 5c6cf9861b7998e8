//! Upload links, from the command to the upload.

use std::path::Path;

use serde_json::json;

use crate::{
    grants_harness::Caller,
    hooks_harness::with_hook,
    serve_harness::{Landfall, Request, program, run},
};

fn link(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program();
    command.arg("link").args(args).arg("-upload-dir").arg(dir);
    run(&mut command)
}

/// Returns the secret of a new link.
fn add(dir: &Path, args: &[&str]) -> String {
    let (code, url, errors) = link(dir, args);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("shown only once"), "{errors}");
    let (page, token) = url.trim_end().split_once("#token=").unwrap();
    assert_eq!(page, "https://up.example/");
    assert!(
        token.starts_with("lfk_") && !errors.contains(token),
        "{errors}"
    );
    token.to_owned()
}

fn uploads_with_a_link(args: &[&str]) {
    let server = Landfall::start(args);
    let words = [
        "--name=Photos for Ann",
        "--max-size=1kB",
        "--files=1",
        "--url=https://up.example",
    ];
    let token = add(server.dir(), &words);
    let people = Caller::new(&server, &token);
    let (status, granted) = people.grant(&json!({"id": "1", "filename": "a.jpg", "filesize": 3}));
    assert_eq!(status, 201, "{granted}");
    let upload = Request::post()
        .with("Upload-Length", 3)
        .with("Upload-Token", granted["upload_token"].as_str().unwrap());
    assert_eq!(server.client().ask(upload).status, 201);
    let (status, problem) = people.grant(&json!({"id": "2", "filename": "b", "filesize": 3}));
    assert_eq!(status, 403);
    assert_eq!(
        problem["message"],
        "this link accepts one file, and no more"
    );
    let line = server.says("event=UploadDenied");
    let shown = "by=grants status=403 reason=\"this link accepts one file, and no more\"";
    assert!(line.ends_with(shown) && line.contains(" name=b "), "{line}");

    let (_, table, _) = link(server.dir(), &["list"]);
    assert!(
        table.contains("Photos for Ann  1 of 1  1 kB      in 7d"),
        "{table}"
    );
    let (_, listed, _) = link(server.dir(), &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed["files"], &listed["max_files"]),
        (&json!(1), &json!(1))
    );
    let (code, told, _) = link(server.dir(), &["revoke", "Photos for Ann"]);
    assert_eq!((code, &*told), (Some(0), "1 link revoked\n"));
    let (status, _) = people.grant(&json!({"id": "2", "filename": "b", "filesize": 3}));
    assert_eq!(status, 403);
    let (code, _, told) = link(server.dir(), &["revoke", "1"]);
    assert!(
        code == Some(1) && told.contains("no link has this name or number"),
        "{told}"
    );

    // One of several with a name is revoked by its number.
    link(server.dir(), &["--name", "Twins"]);
    link(server.dir(), &["--name", "Twins"]);
    let (code, _, told) = link(server.dir(), &["revoke", "Twins"]);
    let which = "several links have this name; give a number: [";
    assert!(code == Some(1) && told.contains(which), "{told}");
    let number = told.split_once(which).unwrap().1;
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    let (code, told, _) = link(server.dir(), &["revoke", &number]);
    assert_eq!((code, &*told), (Some(0), "1 link revoked\n"));
    server.stop();
}

#[test]
fn a_link_uploads_where_a_grant_is_required() {
    uploads_with_a_link(&["-require-grant"]);
}

/// A file that the application denies takes no place, and the one that is chosen instead is accepted.
#[test]
fn a_file_that_a_hook_denies_takes_no_place_in_its_link() {
    let deny = r#"grep -q '"filename":"a.exe"' || exit 0
echo '{"RejectUpload":true,"HTTPResponse":{"StatusCode":422,"Body":"no programs"}}'"#;
    let hooks = with_hook("pre-create", deny);
    let server = Landfall::start(&[
        "-require-grant",
        "-hooks-dir",
        hooks.path().to_str().unwrap(),
        "-hooks-enabled-events=pre-create",
    ]);
    let flags = ["--files=1", "--url=https://up.example"];
    let caller = Caller::new(&server, &add(server.dir(), &flags));
    let upload = |id: &str, name: &str, metadata: &str| {
        let (status, granted) = caller.grant(&json!({"id": id, "filename": name, "filesize": 3}));
        assert_eq!(status, 201, "{granted}");
        let upload = Request::post()
            .with("Upload-Length", 3)
            .with("Upload-Metadata", metadata)
            .with("Upload-Token", granted["upload_token"].as_str().unwrap());
        server.client().ask(upload).status
    };
    for id in ["1", "1", "2"] {
        assert_eq!(upload(id, "a.exe", "filename YS5leGU="), 422);
        let line = server.says("event=UploadDenied");
        let shown = "by=pre-create status=422 reason=\"no programs\"";
        assert!(line.ends_with(shown), "{line}");
        assert!(
            line.contains(" name=a.exe seconds=0 client=127.0.0.1 subject="),
            "{line}"
        );
        let (_, table, _) = link(server.dir(), &["list"]);
        assert!(table.contains("0 of 1"), "{table}");
    }
    assert_eq!(upload("3", "a.jpg", "filename YS5qcGc="), 201);
    server.stop();
}

/// In the wrong directory.
#[test]
fn a_command_that_creates_a_database_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, told) = link(dir.path(), &["--name=a"]);
    assert!(
        told.starts_with(&format!("Created '{}", dir.path().display())),
        "{told}"
    );
    assert!(!link(dir.path(), &["--name=b"]).2.contains("Created"));
}

#[test]
fn a_link_to_the_default_port_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for (args, page, is_assumed) in [
        (&[][..], "http://localhost:8080/#", true),
        (&["--port=8103"], "http://localhost:8103/#", false),
        (&["--port=8080"], "http://localhost:8080/#", false),
        (&["--url=http://x:8080"], "http://x:8080/#", false),
        (&["--public-url=http://x/files/"], "http://x/#", false),
    ] {
        let (_, url, errors) = link(dir.path(), args);
        assert!(url.starts_with(page), "{args:?}: {url}");
        let note = "The default port 8080 was assumed";
        assert_eq!(errors.contains(note), is_assumed, "{args:?}: {errors}");
    }
}

#[test]
fn a_link_uploads_where_it_is_not() {
    uploads_with_a_link(&["-grants"]);
}
