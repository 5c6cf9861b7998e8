//! CORS headers by the settings.

use crate::serve_harness::{Answer, Landfall, Request};

const ORIGIN: &str = "https://app.example.com";

fn preflight(server: &Landfall, origin: &str) -> Answer {
    let request = Request::new("OPTIONS", "/files/")
        .with("Origin", origin)
        .with("Access-Control-Request-Method", "PATCH")
        .with("Access-Control-Request-Headers", "upload-offset, x-tenant");
    server.client().ask(request)
}

/// Returns whether a header lists a name.
#[track_caller]
fn lists(answer: &Answer, header: &str, name: &str) -> bool {
    let list = answer
        .header(header)
        .unwrap_or_else(|| panic!("{answer:?}"));
    list.split(',').any(|n| n.trim().eq_ignore_ascii_case(name))
}

#[test]
fn all_origins_are_allowed_by_default() {
    let server = Landfall::start(&[]);
    let answer = preflight(&server, ORIGIN);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(ORIGIN));
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
    assert_eq!(answer.header("Access-Control-Max-Age"), Some("86400"));
    for method in ["POST", "HEAD", "PATCH", "OPTIONS", "GET", "DELETE"] {
        assert!(lists(&answer, "Access-Control-Allow-Methods", method));
    }
    for header in [
        "Authorization",
        "Content-Type",
        "Tus-Resumable",
        "Upload-Length",
        "Upload-Offset",
        "Upload-Metadata",
        "Upload-Concat",
        "Upload-Defer-Length",
        "Upload-Checksum",
        "X-HTTP-Method-Override",
        "X-Request-ID",
    ] {
        assert!(
            lists(&answer, "Access-Control-Allow-Headers", header),
            "{header}"
        );
    }

    let post = Request::post()
        .with("Upload-Length", 5)
        .with("Origin", ORIGIN);
    let created = server.client().ask(post);
    assert_eq!(created.header("Access-Control-Allow-Origin"), Some(ORIGIN));
    assert_eq!(created.header("Vary"), Some("Origin"));
    for header in [
        "Location",
        "Upload-Offset",
        "Upload-Length",
        "Upload-Expires",
    ] {
        assert!(
            lists(&created, "Access-Control-Expose-Headers", header),
            "{header}"
        );
    }
    // A refusal can be read by the page too.
    let missing = Request::new("HEAD", "/files/unknown").with("Origin", ORIGIN);
    let missing = server.client().ask(missing);
    assert_eq!(missing.status, 404);
    assert_eq!(missing.header("Access-Control-Allow-Origin"), Some(ORIGIN));
    // Without an origin, nothing of it.
    let plain = server
        .client()
        .ask(Request::post().with("Upload-Length", 5));
    assert_eq!(plain.header("Access-Control-Allow-Origin"), None);
}

#[test]
fn cors_headers_follow_the_settings() {
    let server = Landfall::start(&[
        "-cors-allow-origin",
        "^https://[a-z]+\\.example\\.com$",
        "-cors-allow-credentials",
        "-cors-allow-headers",
        "X-Tenant,X-Trace",
        "-cors-allow-methods",
        "PUT",
        "-cors-expose-headers",
        "X-Shown",
        "-cors-max-age",
        "60",
    ]);
    let answer = preflight(&server, ORIGIN);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("Access-Control-Allow-Credentials"),
        Some("true")
    );
    assert_eq!(answer.header("Access-Control-Max-Age"), Some("60"));
    assert!(lists(&answer, "Access-Control-Allow-Headers", "X-Tenant"));
    assert!(lists(&answer, "Access-Control-Allow-Headers", "X-Trace"));
    assert!(lists(
        &answer,
        "Access-Control-Allow-Headers",
        "Upload-Offset"
    ));
    assert!(lists(&answer, "Access-Control-Allow-Methods", "PUT"));
    let post = |origin| {
        Request::post()
            .with("Upload-Length", 5)
            .with("Origin", origin)
    };
    let answer = server.client().ask(post(ORIGIN));
    assert_eq!(answer.status, 201);
    assert!(lists(&answer, "Access-Control-Expose-Headers", "X-Shown"));
    assert!(lists(&answer, "Access-Control-Expose-Headers", "Location"));

    let before = std::fs::read_dir(server.dir()).unwrap().count();
    for origin in [
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "null",
    ] {
        for answer in [
            preflight(&server, origin),
            server.client().ask(post(origin)),
        ] {
            answer.refuses(403, "ERR_ORIGIN_NOT_ALLOWED");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
        }
    }
    assert_eq!(std::fs::read_dir(server.dir()).unwrap().count(), before);
}

#[test]
fn cors_can_be_disabled() {
    let server = Landfall::start(&["-disable-cors"]);
    let answer = preflight(&server, ORIGIN);
    assert_eq!(answer.status, 200);
    let post = Request::post()
        .with("Upload-Length", 5)
        .with("Origin", ORIGIN);
    let created = server.client().ask(post);
    assert_eq!(created.status, 201);
    for answer in [&answer, &created] {
        let mut names = answer.headers.iter().map(|(name, _)| name.to_lowercase());
        assert!(
            !names.any(|name| name.starts_with("access-control-")),
            "{answer:?}"
        );
    }
}
