//! Direct uploads and other processes.

use std::collections::HashSet;

use landfall_s3::client::ObjectHeaders;
use serde_json::json;

use crate::{
    direct_harness::{App, Place},
    serve_harness::{MIB, content, run},
};

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
        command.args(["-state-dir", state, "-max-size=1GiB"]);
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
    let patience = ["-direct", "-expire-unfinished=1ms", "-sweep-interval=10ms"];
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
