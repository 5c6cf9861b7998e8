//! Decisions of blocking hooks, with the real program.

use crate::{
    hooks_harness::{with_hook, write_hook},
    serve_harness::{Client, Landfall, Request},
};

/// A server with these files as hooks.
fn start(dir: &tempfile::TempDir, events: &str, more: &[&str]) -> Landfall {
    let hooks = dir.path().to_str().unwrap();
    let mut args = vec!["-hooks-dir", hooks, "-hooks-enabled-events", events];
    args.extend(more);
    Landfall::start(&args)
}

fn create(client: &mut Client) -> crate::serve_harness::Answer {
    client.ask(Request::post().with("Upload-Length", 5))
}

#[test]
fn a_command_hook_denies_an_upload_with_its_response() {
    let dir = with_hook(
        "pre-create",
        r#"grep -q '"Type":"pre-create"' || exit 3
echo '{"RejectUpload":true,"HTTPResponse":{"StatusCode":422,"Body":"{\"detail\":\"no such tenant\"}","Header":{"X-Why":"tenant"}}}'"#,
    );
    let server = start(&dir, "pre-create", &[]);
    let mut client = server.client();
    let answer = create(&mut client);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (422, r#"{"detail":"no such tenant"}"#)
    );
    assert_eq!(answer.header("X-Why"), Some("tenant"));
    let line = server.says("event=UploadDenied");
    let shown =
        " size=5 seconds=0 client=127.0.0.1 by=pre-create status=422 reason=\"no such tenant\"";
    assert!(line.ends_with(shown), "{line}");
    let entries = std::fs::read_dir(server.dir()).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".landfall"]);
    assert_eq!(
        server.metric("tusd_hook_invocations_total{hooktype=\"pre-create\"}"),
        1.0
    );
    assert_eq!(
        server.metric("tusd_hook_errors_total{hooktype=\"pre-create\"}"),
        0.0
    );

    // It is found anew each time.
    write_hook(
        dir.path(),
        "pre-create",
        r#"echo '{"ChangeFileInfo":{"ID":"mine"}}'"#,
    );
    assert_eq!(create(&mut client).created(), "/files/mine");
    // Without a file there is no question.
    std::fs::remove_file(dir.path().join("pre-create")).unwrap();
    create(&mut client).created();
}

#[test]
fn a_failing_command_hook_fails_the_request_without_details() {
    let dir = with_hook("pre-create", "echo secret; exit 7");
    let server = start(&dir, "pre-create", &[]);
    let answer = create(&mut server.client());
    answer.refuses(500, "ERR_INTERNAL_SERVER_ERROR");
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    let line = server.says("event=HookInvocationError");
    for part in [
        "level=ERROR",
        "type=pre-create",
        "transport=command",
        "event_id=",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(line.contains("unexpected return code 7"), "{line}");
    assert_eq!(
        server.metric("tusd_hook_errors_total{hooktype=\"pre-create\"}"),
        1.0
    );
}

#[test]
fn failure_mode_allow_ignores_an_unreachable_hook() {
    let dir = with_hook("pre-create", "exit 1");
    let server = start(&dir, "pre-create", &["-hooks-failure-mode", "allow"]);
    create(&mut server.client()).created();
    server.says("blocking hook failed, request allowed by failure mode");
}

#[test]
fn hook_invocations_are_logged_at_debug() {
    let dir = with_hook("pre-create", "echo '{}'");
    let server = start(&dir, "pre-create", &["-verbose"]);
    create(&mut server.client()).created();
    let begun = server.says("event=HookInvocationStart");
    assert!(
        begun.contains("level=DEBUG event=HookInvocationStart type=pre-create id=\"\""),
        "{begun}"
    );
    server.says("event=HookInvocationFinish");
}
