//! Direct uploads while servers die, and over several servers.

use std::collections::HashSet;

use landfall_s3::client::ObjectHeaders;
use serde_json::json;

use crate::{
    direct_harness::{App, Place, send},
    serve_harness::{MIB, assert_same, content, run},
};
#[cfg(feature = "postgres")]
use {crate::serve_harness::program, landfall_test_services::Postgres};

#[test]
fn a_killed_server_continues_after_a_restart() {
    let place = Place::on_garage();
    let args = ["-max-size=1GiB"];
    let key = place.key(&["app"]);
    let whole = content(6, 6 * MIB);
    let (first, second) = whole.split_at(5 * MIB as usize);

    let one = place.server(&args);
    let app = App::new(&one, &key);
    let upload = app.begin("film.mp4", json!({}));
    let tag = upload.send(1, first);
    let signed = app.get(&upload.path("/2"));
    let (id, object) = (upload.id.clone(), upload.key.clone());
    drop(upload);
    one.kill();

    // Presigned URLs work without a server.
    let url = signed["url"].as_str().unwrap();
    let sent = send("PUT", url, &[], second);
    assert_eq!(sent.status, 200, "{}", sent.text());
    let tags = [tag, sent.header("ETag").unwrap().to_owned()];
    let two = place.server(&args);
    let app = App::new(&two, &key);
    let upload = crate::direct_harness::Multipart {
        app: &app,
        id: id.clone(),
        key: object.clone(),
    };
    let listed = app.get(&upload.path(""));
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let done = upload.complete(&tags);
    assert_eq!(done.status, 200, "{}", done.text());
    two.kill();

    // The response is lost, and requested again.
    let three = place.server(&args);
    let app = App::new(&three, &key);
    let upload = crate::direct_harness::Multipart {
        app: &app,
        id,
        key: object,
    };
    let again = upload.complete(&tags);
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(app.job()["state"], "completed");
    assert_same(&place.bucket.object(&upload.key).unwrap(), &whole);
    three.stop();
}

#[test]
fn objects_completed_during_downtime_are_found() {
    let place = Place::on_garage();
    let args = ["-max-size=1MiB"];
    let key = place.key(&["app"]);
    let one = place.server(&args);
    let app = App::new(&one, &key);
    let ask = json!({"file_name": "a.txt", "file_type": "text/plain"});
    let signed = app.post("/api/sign_s3", ask);
    one.kill();
    let url = signed["signed_request"].as_str().unwrap();
    let sent = send("PUT", url, &[("Content-Type", "text/plain")], b"abc");
    assert_eq!(sent.status, 200, "{}", sent.text());
    let two = place.server(&args);
    App::new(&two, &key).reaches("completed");
    two.stop();
}

#[test]
fn a_manual_sweep_keeps_running_uploads() {
    let place = Place::on_garage();
    let key = place.key(&["app"]);
    let server = place.server(&["-max-size=1GiB"]);
    let app = App::new(&server, &key);
    let upload = app.begin("film.mp4", json!({}));
    let tag = upload.send(1, &content(7, MIB));
    let none = ObjectHeaders::default();
    let stray = place.bucket.multipart(&"0".repeat(32), &none, &[]);
    // Nothing proves that multipart uploads without a description are ours.
    let with_part = place.bucket.multipart(&"1".repeat(32), &none, &[b"bytes"]);
    assert_eq!(place.bucket.multiparts().len(), 3);

    let state = place.state().to_str().unwrap();
    let sweep = |more: &[&str]| {
        let mut command = place.bucket.command(&["sweep"]);
        command.args(["-expire-orphans=1ms", "-state-dir", state, "-max-size=1GiB"]);
        let (code, out, told) = run(command.args(more));
        assert_eq!(code, Some(0), "{told}");
        out
    };
    let out = sweep(&["-direct", "-dry-run"]);
    assert!(!out.contains("film.mp4"), "{out}");
    let out = sweep(&["-direct"]);
    assert!(out.contains("direct uploads: 0 completed"), "{out}");
    let left = || HashSet::<_>::from_iter(place.bucket.multiparts());
    let mut strays = HashSet::from([stray, with_part]);
    strays.insert(upload.id.clone());
    assert_eq!(left(), strays);
    strays.remove(&upload.id);
    assert_eq!(upload.complete(&[tag]).status, 200);

    // Abandoned uploads expire.
    let upload = app.begin("more.mp4", json!({}));
    upload.send(1, b"abc");
    server.kill();
    let patience = [
        "-direct",
        "-expire-unfinished=1ms",
        "-direct-poll-interval=1ms",
    ];
    crate::serve_harness::eventually("it isn't given up", || {
        sweep(&patience);
        left() == strays
    });
    let server = place.server(&["-max-size=1GiB"]);
    let app = App::new(&server, &key);
    let expired = app.get("/uploadjobs?state=expired");
    assert_eq!(expired.as_array().unwrap().len(), 1, "{expired}");
    server.stop();
}

#[cfg(feature = "postgres")]
#[test]
fn two_nodes_on_one_database_share_uploads() {
    let place = Place::on_garage();
    let database = Postgres::shared().database("direct");
    let mut command = program();
    let (code, key, told) = run(command.args(["keys", "add", "app", "-database", &database]));
    assert_eq!(code, Some(0), "{told}");
    let args = ["-max-size=1GiB", "-database", &database];
    let (one, two) = (place.server(&args), place.server(&args));
    let (here, there) = (
        App::new(&one, key.trim_end()),
        App::new(&two, key.trim_end()),
    );
    let whole = content(8, 7 * MIB);
    let (first, second) = whole.split_at(5 * MIB as usize);
    let upload = here.begin("film.mp4", json!({}));
    let elsewhere = upload.by(&there);
    let tags = [upload.send(1, first), elsewhere.send(2, second)];
    assert_eq!(here.get(&upload.path("")).as_array().unwrap().len(), 2);
    // Both at once: one completion, and the same response.
    let (done, again) = std::thread::scope(|scope| {
        let other = scope.spawn(|| elsewhere.complete(&tags));
        (upload.complete(&tags), other.join().unwrap())
    });
    for answer in [&done, &again] {
        // A concurrent request may have to retry.
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    }
    assert!(done.status == 200 || again.status == 200);
    let (done, again) = (upload.complete(&tags), elsewhere.complete(&tags));
    assert_eq!((done.status, again.status), (200, 200), "{}", again.text());
    assert_eq!(done.text(), again.text());
    assert_eq!(there.job()["state"], "completed");
    let completed = ["landfall_direct_completed_total"; 2];
    let [a, b] = completed;
    assert_eq!(one.metric(a) + two.metric(b), 1.0);
    assert_same(&place.bucket.object(&upload.key).unwrap(), &whole);

    // Created on a node that dies, cancelled on the other.
    let upload = here.begin("more.mp4", json!({}));
    upload.send(1, first);
    let elsewhere = upload.by(&there);
    drop(upload);
    one.kill();
    assert_eq!(
        there.gets(200, "DELETE", &elsewhere.path(""), None),
        json!({})
    );
    assert_eq!(place.bucket.multiparts(), Vec::<String>::new());
    two.stop();
}
