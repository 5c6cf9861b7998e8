//! Upload URLs behind proxies.

use crate::serve_harness::{Landfall, Request, path_of};

fn forwarded() -> Request {
    Request::post()
        .with("Upload-Length", 5)
        .with("X-Forwarded-For", "203.0.113.9")
        .with("X-Forwarded-Proto", "https")
        .with("X-Forwarded-Host", "uploads.example.com")
}

/// The `Location` for a request, without the id.
#[track_caller]
fn location(server: &Landfall, request: Request) -> String {
    let answer = server.client().ask(request);
    let location = answer.header("Location").unwrap().to_owned();
    let (before, id) = location.rsplit_once('/').unwrap();
    // The upload exists, whatever its external URL is.
    assert!(server.dir().join(id).exists(), "{location}");
    format!("{before}/")
}

fn warnings(server: &Landfall) -> usize {
    let lines = server.lines();
    lines
        .iter()
        .filter(|line| line.contains("--behind-proxy"))
        .count()
}

#[test]
fn an_unexpected_proxy_causes_one_warning() {
    let server = Landfall::start(&[]);
    let plain = Request::post().with("Upload-Length", 5);
    assert_eq!(location(&server, plain), "http://landfall.test/files/");
    assert_eq!(warnings(&server), 0);
    for _ in 0..5 {
        assert_eq!(
            location(&server, forwarded()),
            "http://landfall.test/files/"
        );
    }
    server.says("--behind-proxy");
    assert_eq!(warnings(&server), 1, "{}", server.log());
    let line = server.says("--behind-proxy");
    for words in [
        "level=WARN",
        "127.0.0.1",
        "--public-url",
        "--public-url relative",
    ] {
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn a_trusted_proxy_sets_scheme_and_host() {
    let server = Landfall::start(&["-behind-proxy"]);
    let of = |request| location(&server, request);
    assert_eq!(of(forwarded()), "https://uploads.example.com/files/");
    let post = || Request::post().with("Upload-Length", 5);
    assert_eq!(
        of(post().with(
            "Forwarded",
            "for=192.0.2.1;host=\"a.example:8443\";proto=https"
        )),
        "https://a.example:8443/files/"
    );
    assert_eq!(
        of(forwarded().with("X-Forwarded-Prefix", "/cdn/")),
        "https://uploads.example.com/cdn/files/"
    );
    assert_eq!(
        of(post()
            .with("X-Forwarded-Host", "a.example:443")
            .with("X-Forwarded-Proto", "https")),
        "https://a.example/files/"
    );
    // Malformed values are ignored even then.
    assert_eq!(
        of(post().with("X-Forwarded-Host", "evil.example/x?y=")),
        "http://landfall.test/files/"
    );
    assert_eq!(
        of(post().with("X-Forwarded-Proto", "javascript")),
        "http://landfall.test/files/"
    );
    assert_eq!(warnings(&server), 0);
}

#[test]
fn forwarded_headers_of_untrusted_peers_are_ignored() {
    let server = Landfall::start(&[
        "-behind-proxy",
        "-trusted-proxies",
        "192.0.2.0/24,2001:db8::1",
    ]);
    assert_eq!(
        location(&server, forwarded()),
        "http://landfall.test/files/"
    );
    assert_eq!(
        location(&server, forwarded()),
        "http://landfall.test/files/"
    );
    let line = server.says("--trusted-proxies");
    assert!(line.contains("127.0.0.1"), "{line}");
    let lines = server.lines();
    let told = lines
        .iter()
        .filter(|line| line.contains("--trusted-proxies"));
    assert_eq!(told.count(), 1, "{lines:#?}");

    let server = Landfall::start(&["-behind-proxy", "-trusted-proxies", "127.0.0.1"]);
    assert_eq!(
        location(&server, forwarded()),
        "https://uploads.example.com/files/"
    );
}

#[test]
fn the_public_url_takes_precedence_over_forwarded_headers() {
    let url = "https://cdn.example.com/u/files/";
    let server = Landfall::start(&["-public-url", url]);
    assert_eq!(location(&server, forwarded()), url);
    let plain = Request::post().with("Upload-Length", 5);
    assert_eq!(location(&server, plain), url);
    assert_eq!(warnings(&server), 0);

    // The page may be opened at another address, and must still reach the endpoint.
    let page = server.client().ask(Request::get("/"));
    let policy = page.header("Content-Security-Policy").unwrap();
    let wanted = "; connect-src 'self' https://cdn.example.com; ";
    assert!(policy.contains(wanted), "{policy}");
    assert!(page.text().contains(url), "{}", page.text());

    // Requests can name uploads by their external URLs.
    let mut client = server.client();
    let mut parts = Vec::new();
    for text in ["hello ", "world"] {
        let request = Request::post()
            .with("Upload-Concat", "partial")
            .with("Upload-Length", text.len())
            .with("Content-Type", "application/offset+octet-stream")
            .body(text.as_bytes());
        let answer = client.ask(request);
        parts.push(answer.header("Location").unwrap().to_owned());
    }
    let list = format!("final;{}", parts.join(" "));
    let answer = client.ask(Request::post().with("Upload-Concat", &list));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let joined = answer.header("Location").unwrap();
    let path = path_of(joined).replace("/u/files/", "/files/");
    client.holds(&path, b"hello world");
    assert_eq!(client.head(&path).header("Upload-Concat"), Some(&*list));
}
