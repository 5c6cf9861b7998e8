//! Limits of each client address.

use crate::serve_harness::{Landfall, Request};

fn from(request: Request, address: &str) -> Request {
    request.with("X-Forwarded-For", address)
}

#[test]
fn requests_and_uploads_of_one_forwarded_address_are_limited() {
    let server = Landfall::start(&[
        "-behind-proxy",
        "-max-requests-per-address=20",
        "-max-connections-per-address=4",
    ]);
    let mut client = server.client();
    let path = client.create(1000);
    let mut running = Vec::new();
    for _ in 0..2 {
        let path = server.client().create(1000);
        let mut client = server.client();
        client.begin(from(Request::patch(&path, 0), "192.0.2.1"), 1000);
        client.send([1; 10]);
        running.push((client, path));
    }
    for (_, path) in &running {
        server.client().reaches(path, 10);
    }
    let patch = |address| from(Request::patch(&path, 0).body(b"hello"), address);
    let answer = server.client().ask(patch("192.0.2.1"));
    assert_eq!(
        (answer.status, answer.header("Retry-After")),
        (503, Some("1"))
    );
    assert_eq!(
        server.metric("landfall_address_uploads_rejected_total"),
        1.0
    );
    assert_eq!(server.client().ask(patch("192.0.2.2")).status, 204);
    let line = server.says("limit per client address reached");
    assert!(
        line.contains("address=192.0.2.1 limit=2 setting=--max-connections-per-address"),
        "{line}"
    );
    // The page of the upload can read it, and may ask before it.
    let origin = "https://app.example";
    let answer = server
        .client()
        .ask(patch("192.0.2.1").with("Origin", origin));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(origin));
    assert_eq!(answer.header("Vary"), Some("Origin"));
    drop(running);

    let head = || from(Request::new("HEAD", &path), "192.0.2.3");
    let statuses: Vec<_> = (0..60)
        .map(|_| server.client().ask(head()).status)
        .collect();
    assert!(
        statuses[..20].iter().all(|status| *status == 200),
        "{statuses:?}"
    );
    assert!(statuses.contains(&423), "{statuses:?}");
    let other = from(Request::new("HEAD", &path), "192.0.2.4");
    assert_eq!(server.client().ask(other).status, 200);
    assert!(server.metric("landfall_address_requests_rejected_total") >= 1.0);
}

#[test]
fn no_address_is_limited_with_the_defaults_of_tusd() {
    let server = Landfall::start(&["-compat=tusd", "-behind-proxy"]);
    let mut statuses = std::collections::BTreeMap::<_, u32>::new();
    let mut client = server.client();
    for _ in 0..1200 {
        let answer = client.ask(from(Request::new("HEAD", "/files/unknown"), "192.0.2.1"));
        *statuses.entry(answer.status).or_default() += 1;
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [(404, 1200)]);
}
