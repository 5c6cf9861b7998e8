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
        "-max-uploads-per-address=2",
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
        (429, Some("1"))
    );
    assert_eq!(
        server.metric("landfall_address_uploads_rejected_total"),
        1.0
    );
    assert_eq!(server.client().ask(patch("192.0.2.2")).status, 204);
    drop(running);

    let head = || from(Request::new("HEAD", &path), "192.0.2.3");
    let statuses: Vec<_> = (0..60)
        .map(|_| server.client().ask(head()).status)
        .collect();
    assert!(
        statuses[..20].iter().all(|status| *status == 200),
        "{statuses:?}"
    );
    assert!(statuses.contains(&429), "{statuses:?}");
    let other = from(Request::new("HEAD", &path), "192.0.2.4");
    assert_eq!(server.client().ask(other).status, 200);
    assert!(server.metric("landfall_address_requests_rejected_total") >= 1.0);
}
