//! Direct uploads through the whole server, from the request to the job and the object.

use serde_json::json;

use crate::{
    direct_harness::{App, Place, send_form},
    serve_harness::{MIB, assert_same, content, eventually},
};

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
