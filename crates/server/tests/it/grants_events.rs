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
    server.says("undelivered events are in ");
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
