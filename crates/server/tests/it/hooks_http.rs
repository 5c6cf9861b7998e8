//! HTTP hooks, with the real program; alone and with command hooks.

use crate::{
    hooks_endpoint::unused_address,
    serve_harness::{Landfall, Request},
};

#[test]
fn passwords_are_not_printed() {
    let url = format!("http://user:hunter2@{}/hooks", unused_address());
    let server = Landfall::start(&["-hooks-http", &url, "-hooks-enabled-events", "pre-create"]);
    let line = server.says("as the endpoint for hooks");
    assert!(line.contains("http://user:***@127.0.0.1"), "{line}");
    assert!(!server.log().contains("hunter2"));
}

#[test]
fn all_transports_are_used_with_their_own_events() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}/", unused_address());
    let server = Landfall::start(&[
        "-hooks-dir",
        dir.path().to_str().unwrap(),
        "-hooks-http",
        &url,
        "-hooks-enabled-events=pre-create,dir:pre-finish",
    ]);
    server.says("Enabled hook events: pre-create");
    server.says("Enabled hook events for command: pre-finish");
    let page = server.client().ask(Request::get("/metrics")).text();
    for sample in [
        "landfall_hook_duration_seconds_count{transport=\"command\",hooktype=\"pre-finish\"} 0",
        "landfall_hook_duration_seconds_count{transport=\"http\",hooktype=\"pre-create\"} 0",
        "landfall_hooks_in_flight{transport=\"http\"} 0",
    ] {
        assert!(page.contains(sample), "{sample}");
    }
}

/// The client would take the page for an answer about its upload.
#[test]
fn a_wrong_address_is_a_failed_hook() {
    let other = Landfall::start(&[]);
    let address = other.address();
    for (event, path) in [
        ("pre-create", "/hooks?key=hunter2"),
        ("pre-access", "/other"),
    ] {
        let url = format!("http://user:hunter2@{address}{path}");
        let server = Landfall::start(&["-hooks-http", &url, "-hooks-enabled-events", event]);
        let answer = server
            .client()
            .ask(Request::post().with("Upload-Length", 5));
        answer.refuses(500, "ERR_INTERNAL_SERVER_ERROR");
        let line = server.says("event=HookInvocationError");
        let shown = format!("http://user:***@{address}");
        for part in ["level=ERROR", event, &shown, "--hooks-http", "Content-Type"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!server.log().contains("hunter2"), "{line}");
    }
    let allowing = [
        "-hooks-http",
        &format!("http://{address}/hooks"),
        "-hooks-enabled-events=pre-create",
        "-hooks-failure-mode=allow",
    ];
    let server = Landfall::start(&allowing);
    server.client().create(5);
}
