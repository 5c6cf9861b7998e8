//! Hooks and events of direct uploads, through the whole server.

use serde_json::json;

use crate::{
    direct_harness::{App, Place, send},
    hooks_endpoint::Endpoint,
};

const EVENTS: &str = "-hooks-enabled-events=pre-create,post-create,pre-finish,post-finish,\
                      pre-terminate,post-terminate,post-expire";

/// Returns the hooks that were called, without progress.
fn hooks(application: &Endpoint) -> Vec<String> {
    let calls = application.calls().into_iter();
    calls.map(|call| call.hook).collect()
}

#[test]
fn events_arrive_once_and_in_order() {
    let application = Endpoint::agreeing();
    let place = Place::on_garage();
    let server = place.server(&["-max-size=1MiB", "-hooks-http", &application.url(), EVENTS]);
    let key = place.key(&["app", "-subject=ann"]);
    let app = App::new(&server, &key);
    let ask = json!({"file_name": "a.txt", "file_type": "text/plain", "request_id": "1"});
    let signed = app.post("/api/sign_s3", ask);
    let url = signed["signed_request"].as_str().unwrap();
    let sent = send("PUT", url, &[("Content-Type", "text/plain")], b"abc");
    assert_eq!(sent.status, 200, "{}", sent.text());
    app.reaches("completed");
    for _ in 0..2 {
        app.post("/api/complete_s3", json!({"request_id": "1"}));
    }
    let finished = application.waits_for("post-finish", 1);
    application.waits_for("post-create", 1);
    let called = hooks(&application);
    let at = |hook: &str| called.iter().position(|called| called == hook).unwrap();
    assert_eq!(called.len(), 4, "{called:?}");
    assert!(at("pre-create") < at("post-create"), "{called:?}");
    assert!(at("pre-create") < at("pre-finish"), "{called:?}");
    assert!(at("pre-finish") < at("post-finish"), "{called:?}");
    assert!(at("post-create") < at("post-finish"), "{called:?}");
    let upload = &finished[0].body["Event"]["Upload"];
    assert_eq!((&upload["Size"], &upload["Offset"]), (&json!(3), &json!(3)));
    assert_eq!(upload["Storage"]["Type"], "s3store", "{upload}");
    let object = upload["Storage"]["Key"].as_str().unwrap();
    assert_eq!(&place.bucket.object(object).unwrap()[..], b"abc");
    for call in application.calls() {
        let text = call.body.to_string();
        assert!(
            !text.contains("lfk_") && !text.contains("X-Amz-Sig"),
            "{text}"
        );
    }
    server.stop();
}
