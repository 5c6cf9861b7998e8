//! Setup of direct uploads: start-up lines, paths, tables, and errors.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::{
    direct_harness::{App, Place},
    serve_harness::{Request, run},
};

#[test]
fn disabled_features_add_no_routes_or_metrics() {
    let place = Place::on_garage();
    let state = place.state().to_str().unwrap();
    let server = place.bucket.server(&["-grants", "-state-dir", state]);
    let key = place.key(&["app"]);
    assert!(!server.log().contains("direct uploads"), "{}", server.log());
    let app = App::new(&server, &key);
    for (method, path) in [
        ("POST", "/api/sign_s3"),
        ("GET", "/s3/params?filename=a"),
        ("GET", "/t/x/s3/params?filename=a"),
    ] {
        let answer = app.ask(method, path, None);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    let page = server.client().ask(Request::get("/metrics")).text();
    assert!(!page.contains("landfall_direct"), "{page}");
    server.stop();
    let database = fs::read(place.database()).unwrap();
    let name = b"direct_uploads";
    assert!(!database.windows(name.len()).any(|found| found == name));
}

#[test]
fn start_up_lines_name_paths_and_endpoint() {
    let place = Place::on_garage();
    let server = place.server(&[
        "-direct-path=/up",
        "-direct-endpoint=https://files.example.com",
        "-base-path=/",
        "-verbose",
    ]);
    server.says("Using /up/api, /up/s3, /up/t as the paths for direct uploads.");
    server.says("Clients upload to 'https://files.example.com'.");
    server.says("the size of uploads is not limited");
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);
    let ask = json!({"file_name": "a.txt", "file_type": ""});
    let signed = app.post("/up/api/sign_s3", ask);
    let url = signed["signed_request"].as_str().unwrap();
    assert!(url.starts_with("https://files.example.com/"), "{url}");
    server.says("DirectResponseOutgoing");
    let log = server.log();
    assert!(
        !log.contains(&key[4..]) && !log.contains("X-Amz-Signature"),
        "{log}"
    );
    // Requests below these paths never reach the uploads, which have all other paths.
    for (method, path) in [
        ("PATCH", "/up/s3/x"),
        ("GET", "/up/api/x"),
        ("POST", "/up/t"),
    ] {
        let answer = app.ask(method, path, None);
        assert!(
            matches!(answer.status, 404 | 405),
            "{path}: {}",
            answer.text()
        );
        assert_eq!(answer.header("Tus-Resumable"), None, "{path}");
    }
    assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
    let name = "landfall_api_requests_total{api=\"direct\",status=\"200\"}";
    assert_eq!(server.metric(name), 1.0);
    assert_eq!(server.metric("landfall_direct_opened_total"), 1.0);
    server.stop();
}

#[test]
fn invalid_settings_are_reported_at_startup() {
    let place = Place::on_garage();
    let state = place.state().to_str().unwrap();
    let short = format!("{state}/short");
    fs::write(&short, "hunter2\n").unwrap();
    let own = ["-direct", "-state-dir", state, "-host=127.0.0.1", "-port=0"];
    for (words, code, told) in [
        (vec!["-direct-key={id}"], 2, "has no literal prefix"),
        (vec!["-direct-key=u/{what}"], 2, "{what}"),
        (
            vec!["-grants-path=/api/jobs"],
            2,
            "the path /api/jobs of grants overlaps",
        ),
    ] {
        let mut command = place.bucket.command(&["serve"]);
        let (ended, _, error) = run(command.args(own).args(&words));
        assert_eq!(ended, Some(code), "{words:?}: {error}");
        assert!(error.contains(told), "{words:?}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (file, code, told) in [
        (&*short, 2, "too short"),
        ("/nonexistent/secret", 1, "/nonexistent/secret"),
    ] {
        let mut command = place.bucket.command(&["serve"]);
        command.env("LANDFALL_DIRECT_NOTIFICATIONS_SECRET_FILE", file);
        let (ended, _, error) = run(command.args(own));
        assert_eq!(ended, Some(code), "{file}: {error}");
        assert!(
            error.contains(told) && !error.contains("hunter2"),
            "{error}"
        );
    }
    let mut command = crate::s3_harness::keyless(&["serve"]);
    let (code, _, error) = run(command.args(own));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("requires a bucket"), "{error}");
}

#[test]
fn sighup_changes_the_secret_of_notifications() {
    let place = Place::on_garage();
    let file = place.state().join("secret");
    let (old, new) = ("notifications-0123", "notifications-4567");
    fs::write(&file, old).unwrap();
    let mut command = place.bucket.command(&["serve"]);
    let state = place.state().to_str().unwrap();
    command.args(["-direct", "-state-dir", state, "-host=127.0.0.1", "-port=0"]);
    command.env("LANDFALL_DIRECT_NOTIFICATIONS_SECRET_FILE", &file);
    let server =
        crate::serve_harness::Landfall::spawn(command, std::path::Path::new("/nonexistent"));
    let statuses = || {
        [old, new].map(|secret| {
            let path = format!("/api/s3_events?token={secret}");
            let request = Request::new("POST", &path).body(br#"{"Records":[]}"#);
            server.client().ask(request).status
        })
    };
    assert_eq!(statuses(), [200, 401]);
    fs::write(&file, new).unwrap();
    server.signal(Signal::HUP);
    server.says("\"settings reloaded\"");
    assert_eq!(statuses(), [401, 200]);
    fs::write(&file, "short").unwrap();
    server.signal(Signal::HUP);
    server.says("settings not reloaded");
    assert_eq!(statuses(), [401, 200]);
    server.stop();
}
