//! Hooks and events of direct uploads, through the whole server.

use serde_json::{Value, json};

use crate::{
    direct_harness::{App, Place, send},
    hooks_endpoint::Endpoint,
    serve_harness::{MIB, content, eventually},
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

#[test]
fn denied_uploads_are_not_created_or_are_removed() {
    let application = Endpoint::answering(|call| {
        let name = call.body["Event"]["Upload"]["MetaData"]["filename"].as_str();
        let refusal = |words: &str| json!({"RejectUpload": true, "HTTPResponse": {"StatusCode": 403, "Body": words}});
        let answer = match (call.hook.as_str(), name) {
            ("pre-create", Some("no.exe")) => refusal("no programs"),
            ("pre-create", Some("moved.txt")) => {
                json!({"ChangeFileInfo": {"Storage": {"Key": "elsewhere/moved.txt"}}})
            }
            ("pre-finish", Some("bad.bin")) => refusal("it has a virus"),
            _ => json!({}),
        };
        (200, answer.to_string())
    });
    let place = Place::on_garage();
    let server = place.server(&["-max-size=1GiB", "-hooks-http", &application.url(), EVENTS]);
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);

    let refused = app.ask("GET", "/s3/params?filename=no.exe", None);
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("no programs"), "{}", refused.text());
    assert_eq!(app.job()["state"], "failed");

    let form = app.get("/s3/params?filename=moved.txt&type=text%2Fplain");
    assert_eq!(form["fields"]["key"], "elsewhere/moved.txt");

    let upload = app.begin("bad.bin", json!({}));
    let tag = upload.send(1, &content(5, MIB));
    let refused = upload.complete(&[tag]);
    assert_eq!(refused.status, 403, "{}", refused.text());
    let told: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(told["message"], "it has a virus", "{told}");
    assert_eq!(place.bucket.object(&upload.key), None);
    assert_eq!(place.bucket.multiparts(), Vec::<String>::new());
    eventually("its row isn't failed", || {
        let jobs = app.get("/uploadjobs?state=failed");
        jobs.as_array().unwrap().len() == 2
    });
    assert!(application.calls_of("post-finish").is_empty());
    server.stop();
}
