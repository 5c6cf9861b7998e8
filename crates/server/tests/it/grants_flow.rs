//! Grants and their uploads, through the whole server.

use std::fs;

use serde_json::json;

use crate::{
    grants_harness::{Caller, add_key, json as parsed},
    serve_harness::{Landfall, Request, eventually, program, run},
};

fn create(token: &str, length: usize) -> Request {
    Request::post()
        .with("Upload-Length", length)
        .with("Upload-Token", token)
}

/// The IETF draft creates and completes the same uploads as tus.
#[test]
fn a_granted_upload_of_the_draft_is_created_and_completed() {
    let server = Landfall::start(&["-require-grant"]);
    let key = add_key(server.dir(), &["app"]);
    let app = Caller::new(&server, &key);
    let ask = json!({"id": "1", "filename": "a.txt", "filesize": 3});
    let (status, granted) = app.grant(&ask);
    assert_eq!(status, 201);
    let token = granted["upload_token"].as_str().unwrap();
    let send = |token: &str, content: &str| {
        let mut client = server.client();
        client.send(format!(
            "POST /files/ HTTP/1.1\r\nHost: landfall.test\r\nUpload-Draft-Interop-Version: 10\r\n\
             Upload-Complete: ?1\r\nContent-Length: {}\r\n{token}\r\n{content}",
            content.len()
        ));
        loop {
            let answer = client.answer();
            if answer.status != 104 {
                return answer;
            }
        }
    };
    let token = format!("Upload-Token: {token}\r\n");
    assert_eq!(send("", "abc").status, 401);
    // Another size than that of the grant.
    assert_eq!(send(&token, "abcd").status, 413);
    assert_eq!(app.job("1")["state"], "received");
    let answer = send(&token, "abc");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("Upload-Complete"), Some("?1"));
    let job = app.job("1");
    assert_eq!(
        (&job["state"], &job["offset"]),
        (&json!("completed"), &json!(3))
    );
    server.stop();
}

#[test]
fn hooks_receive_the_job() {
    let hooks = crate::hooks_harness::with_hook("post-finish", "cat > \"$0.told\"; sleep 1");
    let dir = hooks.path().to_str().unwrap();
    let server = Landfall::start(&["-grants", "-hooks-dir", dir]);
    let key = add_key(server.dir(), &["app", "-subject=ann"]);
    let app = Caller::new(&server, &key);
    let (_, granted) = app.grant(&json!({
        "id": "1", "filename": "a.txt", "filesize": 0, "mode": "url"
    }));
    // An empty file is complete when it is created.
    assert_eq!(app.job("1")["state"], "completed", "{granted}");
    let told = hooks.path().join("post-finish.told");
    eventually("post-finish isn't told", || {
        fs::read_to_string(&told).is_ok_and(|text| text.contains("\"request_id\":\"1\""))
    });
    let text = fs::read_to_string(&told).unwrap();
    assert!(
        text.contains("\"subject\":\"ann\"") && !text.contains("lft_"),
        "{text}"
    );
    // Uploads without a grant resume where they are allowed.
    let free = server
        .client()
        .ask(Request::post().with("Upload-Length", 3));
    assert_eq!(free.status, 201);
}

#[test]
fn a_manual_sweep_updates_jobs() {
    let server = Landfall::start(&["-require-grant"]);
    let key = add_key(server.dir(), &["app"]);
    let app = Caller::new(&server, &key);
    let (_, granted) = app.grant(&json!({"id": "1", "filename": "a", "filesize": 3}));
    let token = granted["upload_token"].as_str().unwrap();
    assert_eq!(server.client().ask(create(token, 3)).status, 201);
    assert_eq!(app.job("1")["state"], "started");
    // Uploads expire at whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut sweep = program();
    sweep.args([
        "sweep",
        "-require-grant",
        "-expire-unfinished=10ms",
        "-upload-dir",
    ]);
    let (code, out, told) = run(sweep.arg(server.dir()));
    assert_eq!(code, Some(0), "{told}");
    assert!(out.contains("unfinished and expired"), "{out}");
    assert_eq!(app.job("1")["state"], "expired");
}

#[test]
fn clients_behind_a_trusted_proxy_are_distinguished() {
    let server = Landfall::start(&["-require-grant", "-behind-proxy"]);
    let guess = |address: &str| {
        // Guesses with a common prefix are counted together for all addresses.
        let digits = address.replace(['.', ',', ' '], "");
        let request = create(&format!("lft_{digits:0<43}"), 3).with("X-Forwarded-For", address);
        server.client().ask(request).status
    };
    while guess("192.0.2.1") == 401 {}
    assert_eq!(guess("192.0.2.1"), 429);
    // Forwarded headers of the client itself are ignored.
    assert_eq!(guess("192.0.2.9, 192.0.2.1"), 429);
    assert_eq!(guess("192.0.2.2"), 401);
    // Guesses of keys and of tokens count together.
    let request = Request::get("/uploadjobs")
        .with("Authorization", "Bearer lfk_0")
        .with("X-Forwarded-For", "192.0.2.1");
    let answer = server.client().ask(request);
    assert_eq!(answer.status, 429);
    assert!(answer.number("Retry-After") >= 1);
    assert_eq!(parsed(&answer)["status"], 429);
}
