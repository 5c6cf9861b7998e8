//! Hooks and events of grants, through the whole server.

use serde_json::json;

use crate::{
    grants_harness::{Caller, add_key},
    hooks_endpoint::Endpoint,
    serve_harness::{Landfall, Request, path_of},
};

#[test]
fn job_events_arrive_once_and_in_order() {
    let application = Endpoint::agreeing();
    let events = "-hooks-enabled-events=UploadStarted,UploadCompleted,UploadCancelled,post-finish";
    let args = ["-require-grant", "-hooks-http", &application.url(), events];
    let server = Landfall::start(&args);
    server.says(" for undelivered events.");
    let key = add_key(server.dir(), &["app", "-subject=ann"]);
    let app = Caller::new(&server, &key);
    let (_, granted) = app.grant(&json!({"id": "1", "filename": "a.txt", "filesize": 3}));
    let token = granted["upload_token"].as_str().unwrap();
    let create = Request::post()
        .with("Upload-Length", 3)
        .with("Upload-Token", token);
    let made = server.client().ask(create);
    let path = path_of(made.header("Location").unwrap());
    let whole = Request::patch(&path, 0).body(b"abc");
    assert_eq!(server.client().ask(whole).status, 204);
    application.waits_for("post-finish", 1);
    let told = application.waits_for("UploadCompleted", 1);
    let job = &told[0].body["Event"]["Job"];
    assert_eq!(job["RequestID"], "1", "{}", told[0].body);
    assert_eq!(job["Subject"], "ann");
    assert_eq!(job["State"], "completed");

    let (_, _) = app.grant(&json!({"id": "2", "filename": "b.txt", "filesize": 3}));
    assert_eq!(app.ask("DELETE", "/uploadjobs/2").status, 200);
    application.waits_for("UploadCancelled", 1);
    let of_queue: Vec<String> = application
        .calls()
        .into_iter()
        .map(|call| call.hook)
        .filter(|hook| hook.starts_with("Upload"))
        .collect();
    assert_eq!(
        of_queue,
        ["UploadStarted", "UploadCompleted", "UploadCancelled"]
    );
    for call in application.calls() {
        let text = call.body.to_string();
        assert!(!text.contains("lft_") && !text.contains("lfk_"), "{text}");
    }
    server.stop();
}

#[test]
fn pre_grant_decides_about_grants() {
    let application = Endpoint::answering(|call| {
        let name = call.body["Event"]["Job"]["Filename"].as_str();
        match name {
            Some("no.exe") => (
                200,
                json!({"RejectUpload": true, "HTTPResponse": {"StatusCode": 403, "Body": "no programs"}})
                    .to_string(),
            ),
            _ => (200, "{}".to_owned()),
        }
    });
    let url = application.url();
    let server = Landfall::start(&[
        "-require-grant",
        "-hooks-http",
        &url,
        "-hooks-enabled-events=pre-grant",
    ]);
    // A question alone is no reason to keep anything.
    assert!(!server.log().contains("for undelivered events"));
    let key = add_key(server.dir(), &["app"]);
    let app = Caller::new(&server, &key);
    let (status, told) = app.grant(&json!({"id": "1", "filename": "no.exe", "filesize": 3}));
    assert_eq!(status, 403, "{told}");
    assert!(told.to_string().contains("no programs"), "{told}");
    let (status, told) = app.grant(&json!({"id": "2", "filename": "a.txt", "filesize": 3}));
    assert_eq!(status, 201, "{told}");
    let asked = application.calls_of("pre-grant");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].body["Event"]["HTTPRequest"]["URI"], "/uploadjobs");
    assert!(
        !asked[0].body.to_string().contains("lfk_"),
        "{}",
        asked[0].body
    );
}
