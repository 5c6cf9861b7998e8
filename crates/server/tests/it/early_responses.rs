//! Responses that come before the request body: the connection either goes on with the next request
//! or has been said to close. Over raw sockets, on every route of the program.

use std::{io::Read, thread, time::Duration};

use crate::{
    direct_harness::Place,
    serve_harness::{Client, Landfall},
};

/// A method, a path, and headers.
type Route<'a> = (&'a str, &'a str, &'a str);

/// Sends a head, and its body in later packets; then another request, if the connection stays.
fn probe(server: &Landfall, method: &str, path: &str, extra: &str, framing: Framing) {
    let what = format!("{method} {path} {framing:?}");
    let mut client: Client = server.client();
    let (header, body) = framing.encode();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\n{extra}{header}\r\n\r\n"
    ));
    // So that the response can precede the body.
    thread::sleep(Duration::from_millis(15));
    let middle = body.len() / 2;
    let sent = client.try_send(&body[..middle]).is_ok() && client.try_send(&body[middle..]).is_ok();
    let answer = client.answer();
    assert!(
        answer.status >= 300 || answer.status == 200,
        "{what}: {answer:?}"
    );
    // No cache stores it, whichever layer responded.
    let caching = answer.header("Cache-Control");
    assert!(
        matches!(caching, Some("no-store" | "no-cache")),
        "{what}: {answer:?}"
    );
    if answer.header("Connection") == Some("close") {
        let mut more = Vec::new();
        let _ = client.stream.read_to_end(&mut more);
        assert_eq!(String::from_utf8_lossy(&more), "", "{what}");
        return;
    }
    assert!(sent, "{what}: cut without Connection: close");
    client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    let next = client.try_answer();
    assert!(
        matches!(&next, Ok(Some(next)) if next.status == 200 && next.text() == "ok\n"),
        "{what}: cut without Connection: close after {answer:?}: {next:?}"
    );
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Sized(usize),
    Chunked(usize),
}

impl Framing {
    fn encode(self) -> (String, Vec<u8>) {
        match self {
            Self::Sized(n) => (format!("Content-Length: {n}"), vec![b'x'; n]),
            Self::Chunked(n) => {
                let mut body = Vec::new();
                for _ in 0..4 {
                    body.extend(format!("{:x}\r\n", n / 4).bytes());
                    body.extend(vec![b'x'; n / 4]);
                    body.extend(b"\r\n");
                }
                body.extend(b"0\r\n\r\n");
                ("Transfer-Encoding: chunked".to_owned(), body)
            }
        }
    }
}

#[test]
fn an_early_response_keeps_the_connection_in_sync_or_closes_it() {
    let server = Landfall::start(&["-grants", "-admin-key", "0123456789abcdef0123456789abcdef"]);
    let tus = "Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n";
    let json = "Content-Type: application/json\r\n";
    let routes = [
        ("POST", "/nothing", ""),
        ("POST", "/healthz", ""),
        ("POST", "/", ""),
        ("POST", "/metrics", ""),
        ("GET", "/healthz", ""),
        ("PATCH", "/files/unknown", tus),
        ("PATCH", "/files/unknown", ""),
        ("POST", "/files/", "Tus-Resumable: 0.2.2\r\n"),
        (
            "POST",
            "/files/",
            "Tus-Resumable: 1.0.0\r\nUpload-Length: no\r\n",
        ),
        ("POST", "/uploadjobs", json),
        ("DELETE", "/uploadjobs/unknown", json),
        ("POST", "/admin", json),
        (
            "POST",
            "/admin/login",
            "Content-Type: application/x-www-form-urlencoded\r\n",
        ),
        ("POST", "/admin/api/unknown", json),
        ("POST", "/api/sign_s3", json),
        ("POST", "/s3/multipart", json),
    ];
    probe_all(&server, &routes);
}

/// Once with a key and once without.
#[test]
fn early_responses_of_direct_uploads_keep_the_connection_in_sync() {
    let place = Place::on_garage();
    let server = place.server(&[]);
    let key = place.key(&["app", "-subject=ann"]);
    let json = "Content-Type: application/json\r\n";
    let with_key = format!("{json}Authorization: Bearer {key}\r\n");
    let paths = [
        ("POST", "/api/sign_s3"),
        ("POST", "/api/complete_s3"),
        ("POST", "/api/progress_s3"),
        ("POST", "/api/s3_events"),
        ("POST", "/api/unknown"),
        ("GET", "/s3/params?filename=a"),
        ("GET", "/s3/sts"),
        ("POST", "/s3/presign"),
        ("POST", "/s3/multipart"),
        ("GET", "/s3/multipart/unknown?key=a"),
        ("DELETE", "/s3/multipart/unknown?key=a"),
        ("GET", "/s3/multipart/unknown/batch?key=a&partNumbers=1"),
        ("GET", "/s3/multipart/unknown/7?key=a"),
        ("POST", "/s3/multipart/unknown/complete?key=a"),
        ("PUT", "/s3/multipart"),
        ("POST", "/s3/unknown"),
        ("POST", "/t/lft_unknown/s3/multipart"),
    ];
    let routes: Vec<_> = paths
        .iter()
        .flat_map(|(method, path)| [(*method, *path, json), (*method, *path, &with_key)])
        .collect();
    probe_all(&server, &routes);
    server.stop();
}

fn probe_all(server: &Landfall, routes: &[Route<'_>]) {
    thread::scope(|scope| {
        for (method, path, extra) in routes {
            scope.spawn(move || {
                for framing in [
                    Framing::Sized(10),
                    Framing::Sized(5_000),
                    Framing::Sized(65_536),
                    Framing::Sized(300_000),
                    Framing::Chunked(40),
                    Framing::Chunked(40_000),
                    Framing::Chunked(400_000),
                ] {
                    for _ in 0..3 {
                        probe(server, method, path, extra, framing);
                    }
                }
            });
        }
    });
}

#[test]
fn a_rejected_small_body_keeps_the_connection() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    for _ in 0..20 {
        client.send("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("Connection")), (404, None));
        client.send(vec![b'x'; 3000]);
    }
    // Its client may send the next request instead of the body: the connection must end.
    client.send(
        "POST /nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3000\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (404, Some("close"))
    );
    client.is_closed();
}
