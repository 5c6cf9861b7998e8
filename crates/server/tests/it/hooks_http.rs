//! HTTP hooks, with the real program; alone and with command hooks.

use std::sync::{Arc, Mutex};

use crate::{
    hooks_endpoint::{Endpoint, unused_address},
    hooks_harness::with_hook,
    serve_harness::{Landfall, Request, program},
};

#[test]
fn the_tutorial_works() {
    let endpoint = Endpoint::answering(|call| {
        let header = &call.body["HTTPRequest"]["Header"]["Authorization"];
        match header[0].as_str() {
            Some("Bearer good") => (200, String::new()),
            _ => (401, "sign in first".to_owned()),
        }
    });
    let server = Landfall::start(&[
        "-behind-proxy",
        "-hooks-http",
        &endpoint.url(),
        "-hooks-http-forward-headers",
        "authorization",
        "-hooks-enabled-events",
        "pre-create",
    ]);
    let mut client = server.client();
    let create = Request::post().with("Upload-Length", 5);
    let refused = client.ask(create.clone().with("Authorization", "Bearer bad"));
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (401, "sign in first")
    );
    client
        .ask(create.with("Authorization", "Bearer good"))
        .created();
    let calls = endpoint.calls_of("pre-create");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[1].header("authorization"), Some("Bearer good"));
    assert_eq!(calls[1].body["Upload"]["Size"], 5);
    assert_eq!(calls[1].body["Type"], "pre-create");
}

#[test]
fn requests_are_signed_with_the_secret() {
    let endpoint = Endpoint::agreeing();
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .env("LANDFALL_HOOKS_HTTP_SECRET", "whsec_c2VjcmV0,another")
        .args([
            "-host=127.0.0.1",
            "-port=0",
            "-hooks-enabled-events=pre-create",
        ])
        .arg("-upload-dir")
        .arg(dir.path())
        .arg("-hooks-http")
        .arg(endpoint.url());
    let server = Landfall::spawn(command, dir.path());
    server.client().create(5);
    let call = endpoint.waits_for("pre-create", 1).remove(0);
    let signatures = call.header("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    assert!(signatures.split(' ').all(|one| one.starts_with("v1,")));
    assert_eq!(call.id.len(), 32);
}

#[test]
fn an_unreachable_endpoint_follows_the_failure_mode() {
    let url = format!("http://{}/", unused_address());
    let args = [
        "-hooks-http",
        &url,
        "-hooks-enabled-events=pre-create",
        "-hooks-http-retry=2",
        "-hooks-http-backoff=50ms",
    ];
    let create = Request::post().with("Upload-Length", 5);
    let server = Landfall::start(&args);
    let answer = server.client().ask(create.clone());
    answer.refuses(500, "ERR_INTERNAL_SERVER_ERROR");
    // The client sees no details of the endpoint, and the server stays healthy.
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);

    let server = Landfall::start(&[&args[..], &["-hooks-failure-mode=allow"]].concat());
    server.client().ask(create).created();
}

#[test]
fn a_slow_response_does_not_delay_others() {
    let gate = Arc::new(Mutex::new(()));
    let endpoint = Endpoint::answering({
        let gate = gate.clone();
        move |call| {
            if call.body["Upload"]["MetaData"]["slow"] == "yes" {
                drop(gate.lock());
            }
            (200, String::new())
        }
    });
    let closed = gate.lock().unwrap();
    let url = endpoint.url();
    let server = Landfall::start(&["-hooks-http", &url, "-hooks-enabled-events=pre-create"]);
    let create = Request::post().with("Upload-Length", 5);
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let mut client = server.client();
            // "yes" in base64.
            client.send(create.clone().with("Upload-Metadata", "slow eWVz").bytes());
            client
        })
        .collect();
    for _ in 0..20 {
        server.client().ask(create.clone()).created();
    }
    drop(closed);
    for mut client in slow {
        client.answer().created();
    }
}

#[test]
fn later_hooks_see_changes_and_the_first_denial_wins() {
    let dir = with_hook(
        "pre-create",
        r#"if grep -q '"Size":13'; then echo '{"RejectUpload":true,"HTTPResponse":{"StatusCode":451}}'
else echo '{"ChangeFileInfo":{"MetaData":{"by":"file"}}}'; fi"#,
    );
    let endpoint = Endpoint::answering(|call| {
        let by = call.body["Upload"]["MetaData"]["by"]
            .as_str()
            .unwrap_or("nobody");
        (
            200,
            format!(r#"{{"HTTPResponse":{{"Header":{{"X-Changed-By":"{by}"}}}}}}"#),
        )
    });
    let server = Landfall::start(&[
        "-hooks-http",
        &endpoint.url(),
        "-hooks-dir",
        dir.path().to_str().unwrap(),
        "-hooks-enabled-events=pre-create",
    ]);
    let mut client = server.client();
    let answer = client.ask(Request::post().with("Upload-Length", 5));
    assert_eq!(answer.header("X-Changed-By"), Some("file"));
    answer.created();
    let answer = client.ask(Request::post().with("Upload-Length", 13));
    assert_eq!(answer.status, 451);
    assert_eq!(
        endpoint.calls().len(),
        1,
        "it is asked although a file has refused"
    );
}

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
