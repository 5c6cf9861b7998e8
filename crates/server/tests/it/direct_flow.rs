//! Direct uploads through the whole server, from the request to the job and the object.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    direct_harness::{App, Place, escaped, send, send_form},
    serve_harness::{MIB, Request, assert_same, content, eventually},
};

fn file_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap()
}

/// The key at the end of a public address.
fn key_of(url: &Value) -> String {
    let url = url.as_str().unwrap();
    url[url.find("/uploads/").unwrap() + 1..].to_owned()
}

#[test]
fn signed_put_and_complete() {
    let place = Place::on_garage();
    let server = place.server(&["-verbose", "-max-size=1MiB"]);
    let key = place.key(&["app", "-subject=ann"]);
    let app = App::new(&server, &key);
    let ask = json!({
        "file_name": " My File.PDF ", "file_type": "application/pdf", "file_size": 5, "request_id": "1"
    });
    let signed = app.post("/api/sign_s3", ask);
    assert_eq!(signed["file_type"], "application/pdf");
    let object = key_of(&signed["url"]);
    assert_eq!(file_name(&object), "my_file.pdf");
    assert_eq!(app.job()["state"], "started");

    // Nothing is there yet.
    let early = app.ask(
        "POST",
        "/api/complete_s3",
        Some(json!({"url": signed["url"]})),
    );
    assert_eq!(early.status, 409, "{}", early.text());
    let url = signed["signed_request"].as_str().unwrap();
    let kind = ("Content-Type", "application/pdf");
    for (headers, body) in [
        (&[("Content-Type", "text/html")][..], &b"12345"[..]),
        (&[kind], b"123456"),
    ] {
        let refused = send("PUT", url, headers, body);
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    let sent = send("PUT", url, &[kind], b"12345");
    assert_eq!(sent.status, 200, "{}", sent.text());

    let done = app.post("/api/complete_s3", json!({"key": object}));
    assert_eq!(done["size"], 5, "{done}");
    let job = app.job();
    assert_eq!(job["state"], "completed", "{job}");
    assert_eq!((&job["size"], &job["offset"]), (&json!(5), &json!(5)));
    assert_eq!(job["request_id"], "1");
    let again = app.post("/api/complete_s3", json!({"request_id": "1"}));
    assert_eq!(again, done);
    assert_same(&place.bucket.object(&object).unwrap(), b"12345");

    // The log contains neither credentials nor signatures.
    let stranger = place.key(&["other"]);
    let stranger = App::new(&server, &stranger);
    let theirs = stranger.ask("POST", "/api/complete_s3", Some(json!({"key": object})));
    assert_eq!(theirs.status, 404, "{}", theirs.text());
    server.says("DirectResponseOutgoing");
    let log = server.log();
    assert!(!log.contains(&key[4..]), "{log}");
    assert!(!log.contains("X-Amz-Signature"), "{log}");
    server.stop();
}

#[test]
fn a_post_policy_limits_the_upload() {
    let place = Place::on_garage();
    let server = place.server(&["-max-size=1MiB"]);
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);
    let query = "filename=caf%C3%A9.png&type=image%2Fpng&metadata%5Bname%5D=caf%C3%A9.png";
    let form = app.get(&format!("/s3/params?{query}"));
    assert_eq!(form["method"], "POST");
    let large = send_form(&form, &content(1, MIB + 1));
    assert_eq!(large.status, 400, "{}", large.text());
    let file = content(2, 3000);
    let sent = send_form(&form, &file);
    assert_eq!(sent.status, 201, "{}", sent.text());
    // No client reports it: the server finds it by a check.
    app.reaches("completed");
    let object = form["fields"]["key"].as_str().unwrap();
    assert_same(&place.bucket.object(object).unwrap(), &file);
    assert_eq!(
        place.bucket.head(object).content_type.as_deref(),
        Some("image/png")
    );
    eventually("no completion is counted", || {
        server.metric("landfall_direct_completed_total") == 1.0
    });
    server.stop();
}

#[test]
fn a_multipart_upload_with_the_requests_of_uppy() {
    let place = Place::on_garage();
    let server = place.server(&["-max-size=1GiB"]);
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);
    let whole = content(3, 11 * MIB + 7);
    let upload = app.begin("film.mp4", json!({"name": "film.mp4", "type": "video/mp4"}));
    assert_eq!(file_name(&upload.key), "film.mp4");
    let pieces: Vec<&[u8]> = whole.chunks(5 * MIB as usize).collect();
    let mut tags = vec![upload.send(1, pieces[0])];
    let listed = app.get(&upload.path(""));
    assert_eq!(listed[0]["PartNumber"], 1, "{listed}");
    eventually("no progress is seen", || {
        std::thread::sleep(Duration::from_millis(50));
        app.job()["offset"] == 5 * MIB
    });
    tags.push(upload.send(2, pieces[1]));
    tags.push(upload.send(3, pieces[2]));
    let done = upload.complete(&tags);
    assert_eq!(done.status, 200, "{}", done.text());
    let answer: Value = serde_json::from_slice(&done.body).unwrap();
    assert_eq!(answer["key"], upload.key);
    assert_eq!(app.job()["state"], "completed");
    assert_same(&place.bucket.object(&upload.key).unwrap(), &whole);
    assert_eq!(upload.complete(&tags).status, 200);

    // The same with a token in the path, for clients without headers.
    let path = format!("/t/{key}{}", upload.path("/complete"));
    let parts = json!({"parts": [{"PartNumber": 1, "ETag": tags[0]}]}).to_string();
    let request = Request::new("POST", &path)
        .with("Content-Type", "application/json")
        .body(parts.as_bytes());
    assert_eq!(server.client().ask(request).status, 200);
    server.stop();
}

#[test]
fn cancelling_leaves_nothing_in_the_bucket() {
    let place = Place::on_garage();
    let server = place.server(&["-max-size=1GiB", "-admin-key=0123456789abcdef"]);
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);
    let part = content(4, 5 * MIB);

    let upload = app.begin("one.bin", json!({}));
    upload.send(1, &part);
    let request = app.job()["request_id"].as_str().unwrap().to_owned();
    let cancelled = app.gets(200, "DELETE", &format!("/uploadjobs/{request}"), None);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert_eq!(place.bucket.multiparts(), Vec::<String>::new());
    let gone = app.ask("GET", &upload.path("/2"), None);
    assert!(matches!(gone.status, 404 | 409 | 410), "{}", gone.text());

    // By an admin.
    let operator = App::new(&server, "0123456789abcdef");
    let upload = app.begin("two.bin", json!({}));
    upload.send(1, &part);
    let list = operator.get("/admin/api/uploads?search=two.bin");
    let row = &list["uploads"][0];
    assert_eq!(row["transfer"], "direct", "{row}");
    assert!(row["upload_id"].as_str().unwrap().starts_with("direct-"));
    let row = operator.gets(
        200,
        "DELETE",
        &format!("/admin/api/uploads/{}", row["id"]),
        None,
    );
    assert_eq!(row["state"], "cancelled");
    assert_eq!(place.bucket.multiparts(), Vec::<String>::new());

    // By its client.
    let upload = app.begin("three.bin", json!({}));
    upload.send(1, &part);
    let dropped = app.gets(200, "DELETE", &upload.path(""), None);
    assert_eq!(dropped, json!({}));
    assert_eq!(place.bucket.multiparts(), Vec::<String>::new());
    let all = app.get("/uploadjobs?state=cancelled");
    assert_eq!(all.as_array().unwrap().len(), 3, "{all}");
    server.stop();
}

#[test]
fn with_require_grant_a_token_creates_one_upload() {
    let place = Place::on_garage();
    let server = place.server(&["-require-grant", "-verbose", "-max-size=1MiB"]);
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);
    let ask = json!({"id": "1", "filename": "a.txt", "filesize": 3, "filetype": "text/plain"});
    let granted = app.gets(201, "POST", "/uploadjobs", Some(ask));
    let token = granted["upload_token"].as_str().unwrap().to_owned();

    let unauthorized = server
        .client()
        .ask(Request::get("/s3/params?filename=a.txt"));
    assert_eq!(unauthorized.status, 401, "{}", unauthorized.text());
    let path = format!("/t/{token}/s3/params?filename=a.txt&type=text%2Fplain");
    let form = server.client().ask(Request::get(&path));
    assert_eq!(form.status, 200, "{}", form.text());
    let form: Value = serde_json::from_slice(&form.body).unwrap();
    // Only the granted size is accepted.
    assert_eq!(send_form(&form, b"abcd").status, 400);
    assert_eq!(send_form(&form, b"abc").status, 201);
    let job = app.reaches("completed");
    assert_eq!(job["request_id"], "1");
    let object = form["fields"]["key"].as_str().unwrap();
    assert_same(&place.bucket.object(object).unwrap(), b"abc");
    let more = server.client().ask(Request::get(&path));
    assert!(matches!(more.status, 409 | 410), "{}", more.text());
    let log = server.log();
    assert!(
        !log.contains(&token[4..]) && !log.contains(&key[4..]),
        "{log}"
    );
    server.stop();
}

#[test]
fn policies_apply_to_direct_uploads() {
    let place = Place::on_garage();
    let server = place.server(&[
        "-grants-allowed-types=image/*",
        "-grants-max-size=1KiB",
        "-grants-max-active=1",
    ]);
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);
    for (ask, status) in [
        (
            json!({"file_name": "a.pdf", "file_type": "application/pdf"}),
            422,
        ),
        (
            json!({"file_name": "a.png", "file_type": "", "file_size": 2000}),
            422,
        ),
        (json!({"file_name": "", "file_type": ""}), 400),
        (json!({"file_name": "a.png", "file_type": "image/png"}), 200),
        (json!({"file_name": "b.png", "file_type": "image/png"}), 429),
    ] {
        let answer = app.ask("POST", "/api/sign_s3", Some(ask.clone()));
        assert_eq!(answer.status, status, "{ask}: {}", answer.text());
    }
    assert!(server.metric("landfall_direct_rejected_total") >= 2.0);
    server.stop();
}

#[test]
fn bucket_notifications_complete_uploads() {
    let place = Place::on_garage();
    let secret = "0123456789abcdef";
    let server = place.server(&[
        "-max-size=1MiB",
        "-direct-poll-interval=1h",
        "-direct-notifications-secret",
        secret,
    ]);
    let key = place.key(&["app"]);
    let app = App::new(&server, &key);
    let signed = app.post(
        "/api/sign_s3",
        json!({"file_name": "a b.txt", "file_type": "text/plain"}),
    );
    let url = signed["signed_request"].as_str().unwrap();
    let sent = send("PUT", url, &[("Content-Type", "text/plain")], b"abc");
    assert_eq!(sent.status, 200, "{}", sent.text());
    let told = json!({"Records": [{
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": place.bucket.name},
            "object": {"key": escaped(&key_of(&signed["url"])).replace("%2F", "/"), "size": 3},
        },
    }]});
    let bucket =
        |secret: &str| App::new(&server, secret).ask("POST", "/api/s3_events", Some(told.clone()));
    assert_eq!(bucket("fedcba9876543210").status, 401);
    let heard = bucket(secret);
    assert_eq!(heard.status, 200, "{}", heard.text());
    assert_eq!(app.job()["state"], "completed");
    server.stop();
}
