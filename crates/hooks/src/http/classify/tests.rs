use super::*;

fn raw(status: u16, kind: &str, body: &str) -> RawResponse {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
    }
    RawResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: Body {
            bytes: Bytes::copy_from_slice(body.as_bytes()),
            is_complete: true,
        },
    }
}

fn classifier(format: Format) -> ResponseClassifier {
    ResponseClassifier {
        format,
        endpoint: "http://127.0.0.1:9000/hooks".to_owned(),
        limit: 5120,
        stop_code: Some(418),
        keeps_uploads: false,
    }
}

fn classify(
    format: Format,
    hook: HookName,
    (status, kind, body): (u16, &str, &str),
) -> Result<HookResponse, DeliveryError> {
    classifier(format).classify(hook, &raw(status, kind, body))
}

fn rejections(response: &HookResponse) -> [bool; 4] {
    [
        response.reject_upload,
        response.reject_termination,
        response.reject_access,
        response.failed,
    ]
}

const JSON: &str = "application/json";

#[test]
fn v2_requires_json() {
    let classify =
        |status, kind, body| classify(Format::V2, HookName::PreCreate, (status, kind, body));
    for kind in [JSON, "application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(classify(200, kind, "{}").unwrap(), HookResponse::default());
    }
    assert!(
        classify(201, JSON, r#"{"RejectUpload":true}"#)
            .unwrap()
            .reject_upload
    );
    for (status, kind, body, why) in [
        (
            200,
            "",
            "{}",
            "must respond with the Content-Type application/json",
        ),
        (200, "text/plain", "{}", "it is \"text/plain\""),
        (
            204,
            "",
            "",
            "must respond with the Content-Type application/json",
        ),
        (200, JSON, "", "failed to parse hook response"),
        (200, JSON, "ok", "response was: ok"),
        (
            200,
            JSON,
            r#"{"RejectUpload":1}"#,
            "RejectUpload in the response must be true or false",
        ),
        (
            302,
            JSON,
            "{}",
            "unexpected response code from hook endpoint (302)",
        ),
        (
            400,
            JSON,
            r#"{"RejectUpload":true}"#,
            "(400): {\"RejectUpload\":true}",
        ),
        (
            503,
            "",
            "busy\n",
            "unexpected response code from hook endpoint (503): busy",
        ),
    ] {
        let failure = classify(status, kind, body).unwrap_err();
        assert!(failure.message.contains(why), "{failure}");
    }
}

#[test]
fn v1_uses_the_status_alone() {
    let classify = |hook, status, body| classify(Format::V1, hook, (status, "text/html", body));
    for status in [200, 204, 304, 399] {
        let response = classify(HookName::PreCreate, status, r#"{"RejectUpload":true}"#).unwrap();
        assert_eq!(response, HookResponse::default());
    }
    for (status, body) in [
        (400, "no"),
        (403, r#"{"reason":"no"}"#),
        (404, "no such project"),
        (500, "<b>no</b>"),
        (503, "no"),
    ] {
        let response = classify(HookName::PreFinish, status, body).unwrap();
        assert_eq!(rejections(&response), [false, false, false, true]);
        assert_eq!(
            response.client_response,
            ClientResponse::text(status, format!("{body}\n"))
        );
    }
    for hook in [HookName::PostFinish, HookName::PostCreate] {
        assert!(classify(hook, 404, "").is_err());
    }
    assert!(classify(HookName::PostReceive, 500, "").is_err());
    assert_eq!(
        classify(HookName::PostReceive, 404, "").unwrap(),
        HookResponse::default()
    );
    assert!(!classify(HookName::PreCreate, 418, "").unwrap().stop_upload);
}

#[test]
fn stop_code_stops_uploads() {
    let stops = |format| {
        let response = classify(format, HookName::PostReceive, (418, "", ""));
        response.is_ok_and(|response| response.stop_upload)
    };
    assert!(stops(Format::V1) && stops(Format::Auto) && !stops(Format::V2));
    let other = classify(Format::Auto, HookName::PreCreate, (418, "", "")).unwrap();
    assert!(other.reject_upload && !other.stop_upload);
}

#[test]
fn login_page_is_a_failure() {
    let mut raw = raw(302, "", "");
    raw.headers
        .insert(header::LOCATION, "/login".parse().unwrap());
    for format in [Format::V1, Format::V2, Format::Auto] {
        let failure = classifier(format)
            .classify(HookName::PreCreate, &raw)
            .unwrap_err();
        assert!(
            failure.message.contains("--hooks-http-redirects"),
            "{failure}"
        );
    }
}

#[test]
fn auto_allows_what_either_version_allows() {
    let classify = |status, kind, body| {
        let sent = (status, kind, body);
        classify(Format::Auto, HookName::PreCreate, sent)
    };
    for (status, kind, body) in [
        (200, "", ""),
        (200, "text/html; charset=UTF-8", ""),
        (200, "text/plain", " \r\n"),
        (200, "text/plain", "ok"),
        (200, "text/html", "OK\n"),
        (200, "", "accepted, 3 files"),
        (204, "", ""),
        // Rails' `head :no_content`.
        (204, JSON, ""),
        (200, JSON, "{}"),
        (200, "text/html", " \r\n{}"),
        // FastAPI's response of a function that returns nothing.
        (200, JSON, "null"),
    ] {
        let response = classify(status, kind, body).unwrap();
        assert_eq!(response, HookResponse::default(), "{kind} {body}");
    }
    // Rails' `head :ok` and Express' `res.json()`.
    let mut empty = raw(200, JSON, "");
    empty
        .headers
        .insert(header::CONTENT_LENGTH, "0".parse().unwrap());
    let response = classifier(Format::Auto)
        .classify(HookName::PreCreate, &empty)
        .unwrap();
    assert_eq!(response, HookResponse::default());
    for (kind, body) in [
        ("", " {\"rejectUpload\":true}"),
        ("text/html", "\u{feff}\r\n{\"RejectUpload\":true}"),
        (JSON, "\u{feff}{\"RejectUpload\":true}\n"),
    ] {
        assert!(classify(200, kind, body).unwrap().reject_upload, "{body}");
    }
    let failure = classify(200, JSON, r#"{"RejectUpload":"yes"}"#).unwrap_err();
    let why = "RejectUpload in the response must be";
    assert!(failure.message.contains(why), "{failure}");
}

const DENIAL: &str = r#"{"RejectUpload":true,"HTTPResponse":{"StatusCode":403,"Body":"no"}}"#;

fn utf_16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

/// The bytes of `DENIAL`, compressed by `gzip -n`.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\x0aJ\xcdJM.\x09-\xc8\xc9OLQ\xb2\x2a)*M\xd5Q\xf2\x08\x09\x09\x08J-.\xc8\xcf+N\x05\x0a";

#[test]
fn responses_that_are_not_understood_are_failures() {
    use HookName::{PostReceive, PreAccess, PreCreate, PreFinish, PreGrant, PreTerminate};
    let page = format!("<br />\n<b>Warning</b>: Undefined index in hook.php\n{DENIAL}");
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![
        (JSON, Vec::new()),
        (JSON, b"[1]".into()),
        (JSON, b"\"ok\"".into()),
        (JSON, b"true".into()),
        (JSON, b"false".into()),
        (JSON, b"NaN".into()),
        (JSON, b"ok".into()),
        ("text/json", b"denied".into()),
        ("application/problem+json", b"denied".into()),
        ("", b"[1]".into()),
        ("text/html", b"{not json".into()),
        ("text/plain", b"{'RejectUpload': True}".into()),
        (JSON, br#"{"RejectUpload":NaN}"#.into()),
        (JSON, br#"{"RejectUpload":true} "#.repeat(2)),
        ("text/html", page.clone().into()),
        (
            "text/html",
            format!("\nWarning: no such key\n{DENIAL}").into(),
        ),
        ("text/html", page[..page.len() - DENIAL.len() + 1].into()),
        // The hook died before it could deny, or a proxy sent its login page.
        ("text/html", b"<br />\n<b>Fatal error</b>: no".into()),
        (
            "text/html",
            b"\n <!DOCTYPE html><title>Sign in</title>".into(),
        ),
        ("", GZIP.into()),
    ];
    for (mark, unit) in [
        ("\u{feff}", u16::to_le_bytes as fn(u16) -> _),
        ("", u16::to_be_bytes),
    ] {
        bodies.push(("", utf_16(&format!("{mark}{DENIAL}"), unit)));
        bodies.push((JSON, utf_16(&format!("{mark}{DENIAL}"), unit)));
    }
    for kind in ["", "text/plain", "text/html; charset=utf-8", JSON] {
        bodies.extend((1..DENIAL.len()).map(|end| (kind, DENIAL[..end].into())));
        let marked = format!("\u{feff}{DENIAL}");
        bodies.extend((4..marked.len()).map(|end| (kind, marked.as_bytes()[..end].into())));
    }
    for (kind, body) in bodies {
        let mut raw = raw(200, kind, "");
        raw.body.bytes = body.into();
        for (hook, format) in [
            (PreCreate, Format::Auto),
            (PreFinish, Format::Auto),
            (PreAccess, Format::Auto),
            (PreTerminate, Format::Auto),
            (PreGrant, Format::Auto),
            (PostReceive, Format::Auto),
            (PreCreate, Format::V2),
        ] {
            let outcome = classifier(format).classify(hook, &raw);
            let body = String::from_utf8_lossy(&raw.body.bytes);
            assert!(outcome.is_err(), "{format:?} {hook} {kind:?} {body:?}");
        }
    }
}

#[test]
fn encoded_responses_are_failures() {
    for (format, body) in [
        (Format::Auto, GZIP),
        (Format::V2, GZIP),
        (Format::Auto, b"{}"),
        (Format::V2, b"{}"),
        (Format::Auto, b""),
    ] {
        for (coding, is_understood) in [
            ("gzip", false),
            ("br", false),
            ("identity, gzip", false),
            ("Identity", body == b"{}"),
        ] {
            let mut raw = raw(200, JSON, "");
            raw.headers
                .insert(header::CONTENT_ENCODING, coding.parse().unwrap());
            raw.body.bytes = Bytes::from_static(body);
            let outcome = classifier(format).classify(HookName::PreCreate, &raw);
            assert_eq!(
                outcome.is_ok(),
                is_understood,
                "{format:?} {coding}: {outcome:?}"
            );
        }
    }
}

/// The status of a rate limit reaches the client, as with tusd 1; the upload stays.
#[test]
fn auto_forwards_429() {
    use HookName::{PreAccess, PreCreate, PreFinish, PreTerminate};
    for (hook, flags) in [
        (PreCreate, [true, false, false, false]),
        (PreFinish, [false, false, false, true]),
        (PreTerminate, [false, true, false, false]),
        (PreAccess, [false, false, true, false]),
    ] {
        let mut raw = raw(429, "text/plain", "slow down");
        raw.headers
            .insert(header::RETRY_AFTER, "7".parse().unwrap());
        let response = classifier(Format::Auto).classify(hook, &raw).unwrap();
        assert_eq!(rejections(&response), flags, "{hook}");
        let reply = response.client_response;
        assert_eq!(reply.status.unwrap(), 429);
        assert_eq!(reply.body.unwrap(), "slow down");
        assert_eq!(reply.headers[header::RETRY_AFTER], "7");
    }
}

#[test]
fn auto_rejects_with_status_and_body() {
    use HookName::{PreAccess, PreCreate, PreFinish, PreTerminate};
    for (hook, flags) in [
        (PreCreate, [true, false, false, false]),
        (PreFinish, [true, false, false, false]),
        (PreTerminate, [false, true, false, false]),
        (PreAccess, [false, false, true, false]),
    ] {
        let sent = (403, JSON, r#"{"detail":"bad token"}"#);
        let response = classify(Format::Auto, hook, sent).unwrap();
        assert_eq!(rejections(&response), flags, "{hook}");
        assert_eq!(response.client_response.status.unwrap(), 403);
        assert_eq!(response.client_response.body.unwrap(), sent.2);
        assert_eq!(response.client_response.headers[header::CONTENT_TYPE], JSON);
    }
    for (kind, shown) in [
        ("text/plain; charset=utf-8", true),
        ("text/html", true),
        ("application/problem+json", true),
        ("application/octet-stream", false),
        ("", false),
    ] {
        let reply = classify(Format::Auto, PreCreate, (400, kind, "no"))
            .unwrap()
            .client_response;
        assert_eq!(
            reply.headers.contains_key(header::CONTENT_TYPE),
            shown,
            "{kind}"
        );
        assert_eq!(reply.body.unwrap(), "no");
    }
    let empty = classify(Format::Auto, PreCreate, (401, "text/plain", "")).unwrap();
    assert_eq!(rejections(&empty), [true, false, false, false]);
    assert_eq!(
        (
            empty.client_response.body,
            empty.client_response.headers.len()
        ),
        (None, 0)
    );
}

#[test]
fn auto_parses_a_v2_rejection_in_a_4xx() {
    let sent = r#"{"RejectUpload":true,"HTTPResponse":{"StatusCode":422,"Body":"no","Header":{"X-A":"1"}}}"#;
    let response = classify(Format::Auto, HookName::PreCreate, (400, JSON, sent)).unwrap();
    assert!(response.reject_upload);
    assert_eq!(response.client_response.status.unwrap(), 422);
    assert_eq!(response.client_response.body.unwrap(), "no");
    assert_eq!(response.client_response.headers["x-a"], "1");
    // Without a status in the JSON, the HTTP status applies.
    let sent = r#"{"RejectTermination":true,"HTTPResponse":{"Body":"no"}}"#;
    let response = classify(Format::Auto, HookName::PreTerminate, (409, JSON, sent)).unwrap();
    assert!(response.reject_termination);
    assert_eq!(response.client_response.status.unwrap(), 409);
    assert_eq!(response.client_response.body.unwrap(), "no");
}

const PAGE: &str = "<!DOCTYPE html>\n<html><title>404 Not Found</title></html>";

/// A wrong address, a framework without such a route, a proxy or a sign-in page: it decides nothing, and its page does
/// not reach the client, which would take it for an answer about its upload.
#[test]
fn answers_that_no_hook_gives_are_failures() {
    use HookName::{PreAccess, PreCreate, PreFinish, PreGrant, PreTerminate};
    let html = "text/html; charset=utf-8";
    for (hook, field) in [
        (PreCreate, "RejectUpload"),
        (PreAccess, "RejectAccess"),
        (PreFinish, "RejectUpload"),
        (PreTerminate, "RejectTermination"),
        (PreGrant, "RejectUpload"),
    ] {
        for (format, status, kind, body) in [
            (Format::Auto, 404, html, PAGE),
            (Format::Auto, 404, "text/plain", "404 page not found\n"),
            (Format::Auto, 404, JSON, r#"{"detail":"Not Found"}"#),
            (Format::Auto, 404, "text/plain", "Not Found"),
            (
                Format::Auto,
                404,
                JSON,
                r#"{"statusCode":404,"error":"Not Found","message":"Route POST:/hooks not found"}"#,
            ),
            (Format::Auto, 404, JSON, "{}"),
            (Format::Auto, 404, "", ""),
            (
                Format::Auto,
                405,
                JSON,
                r#"{"detail":"Method Not Allowed"}"#,
            ),
            (Format::Auto, 400, html, PAGE),
            (Format::Auto, 401, html, PAGE),
            (
                Format::Auto,
                403,
                html,
                "\u{feff}\r\n<html>Forbidden</html>",
            ),
            (
                Format::Auto,
                403,
                "application/xml",
                "<?xml version=\"1.0\"?><Error/>",
            ),
            (Format::Auto, 429, html, PAGE),
            (Format::V1, 404, html, PAGE),
            (Format::V1, 403, "", PAGE),
            (Format::V2, 404, html, PAGE),
        ] {
            let failure = classify(format, hook, (status, kind, body)).unwrap_err();
            let shown = crate::error_chain(&failure);
            let kind = match kind {
                "" => "no Content-Type".to_owned(),
                kind => format!("the Content-Type {kind:?}"),
            };
            let found =
                format!("http://127.0.0.1:9000/hooks responded to {hook} with {status} and {kind}");
            assert!(shown.contains(&found), "{shown}");
            assert!(shown.contains("--hooks-http"), "{shown}");
            assert_eq!(shown.contains(field), format != Format::V1, "{shown}");
            assert_eq!(failure.client_visible, format == Format::V2);
            assert!(!failure.message.contains("DOCTYPE") || format == Format::V2);
        }
        // The application says so itself.
        let sent = format!(r#"{{"{field}":true,"HTTPResponse":{{"StatusCode":404,"Body":"no"}}}}"#);
        for status in [200, 404, 405, 422] {
            let response = classify(Format::Auto, hook, (status, JSON, &sent)).unwrap();
            assert_eq!(
                response.client_response.status.unwrap(),
                404,
                "{hook} {status}"
            );
            assert!(
                rejections(&response)[..3].contains(&true),
                "{hook} {status}"
            );
        }
    }
    // PHP gives plain text the type of HTML.
    let response = classify(Format::Auto, PreCreate, (403, html, "no")).unwrap();
    assert!(response.reject_upload);
    // The reasons of an application.
    for (status, kind, body) in [
        (404, JSON, r#"{"detail":"There is no project cellar."}"#),
        (404, "text/plain", "no such project"),
        (405, JSON, r#"{"message":"this project takes links only"}"#),
    ] {
        let response = classify(Format::Auto, PreCreate, (status, kind, body)).unwrap();
        assert!(response.reject_upload, "{body}");
        let reply = response.client_response;
        assert_eq!(reply.status.unwrap(), status);
        assert_eq!(reply.body.unwrap(), body);
    }
    // A compressed page.
    let mut packed = raw(403, html, "");
    packed.body.bytes = Bytes::from_static(GZIP);
    packed
        .headers
        .insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    for format in [Format::Auto, Format::V1] {
        assert!(classifier(format).classify(PreCreate, &packed).is_err());
    }
}

#[test]
fn ambiguous_statuses_do_not_remove_an_upload() {
    for status in [401, 407, 413, 414, 415, 431] {
        let sent = (status, "text/plain", "not here");
        let response = classify(Format::Auto, HookName::PreFinish, sent).unwrap();
        assert_eq!(
            rejections(&response),
            [false, false, false, true],
            "{status}"
        );
        assert_eq!(response.client_response.body.unwrap(), "not here");
        let response = classify(Format::Auto, HookName::PreCreate, sent).unwrap();
        assert_eq!(
            rejections(&response),
            [true, false, false, false],
            "{status}"
        );
    }
    let sent = (404, JSON, r#"{"RejectUpload":true}"#);
    let stated = classify(Format::Auto, HookName::PreFinish, sent).unwrap();
    assert_eq!(rejections(&stated), [true, false, false, false]);
}

#[test]
fn no_status_removes_an_upload_that_is_kept() {
    let classifier = ResponseClassifier {
        keeps_uploads: true,
        ..classifier(Format::Auto)
    };
    for status in [400, 401, 403, 410, 422] {
        let raw = raw(status, "text/plain", "no");
        let response = classifier.classify(HookName::PreFinish, &raw).unwrap();
        assert!(response.failed && !response.reject_upload, "{status}");
        let reply = &response.client_response;
        assert_eq!(reply.status.unwrap().as_u16(), status);
        assert_eq!(reply.body.as_deref(), Some(&b"no"[..]));
        // There is no upload yet.
        let response = classifier.classify(HookName::PreCreate, &raw).unwrap();
        assert!(response.reject_upload && !response.failed, "{status}");
    }
    let stated = raw(422, JSON, r#"{"RejectUpload":true}"#);
    let response = classifier.classify(HookName::PreFinish, &stated).unwrap();
    assert!(response.reject_upload);
}

#[test]
fn auto_honors_retry_after() {
    for status in [408, 425, 503] {
        let mut raw = raw(status, "", "later");
        raw.headers
            .insert(header::RETRY_AFTER, "7".parse().unwrap());
        let classifier = classifier(Format::Auto);
        let failure = classifier.classify(HookName::PreCreate, &raw).unwrap_err();
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let date = httpdate::fmt_http_date(tomorrow).parse().unwrap();
        raw.headers.insert(header::RETRY_AFTER, date);
        let failure = classifier.classify(HookName::PostFinish, &raw).unwrap_err();
        let wait = failure.retry_after.unwrap().as_secs();
        assert!((86_000..=86_400).contains(&wait), "{wait}");
    }
}

#[test]
fn auto_retries_undelivered_events() {
    use HookName::{PostCreate, PostExpire, PostFinish, PostReceive, PostTerminate};
    for hook in [PostCreate, PostFinish, PostTerminate, PostExpire] {
        assert!(classify(Format::Auto, hook, (204, "", "")).is_ok());
        for status in [302, 304, 400, 404, 500] {
            assert!(
                classify(Format::Auto, hook, (status, "", "")).is_err(),
                "{hook} {status}"
            );
        }
    }
    let progress = |status, body| classify(Format::Auto, PostReceive, (status, "", body));
    assert_eq!(progress(404, "").unwrap(), HookResponse::default());
    assert!(progress(500, "").is_err());
    assert!(progress(200, r#"{"StopUpload":true}"#).unwrap().stop_upload);
}

#[test]
fn accepted_events_are_not_retried_after_an_invalid_response() {
    use HookName::{PostFinish, PostReceive, PreFinish};
    for (format, sent) in [
        (Format::V2, (204, "", "")),
        (Format::V2, (200, "text/plain", "ok")),
        (Format::Auto, (200, JSON, r#"{"StopUpload":"no"}"#)),
    ] {
        let response = classify(format, PostFinish, sent).unwrap();
        assert_eq!(response.ignored.is_some(), !sent.2.is_empty(), "{sent:?}");
        let ignored = None;
        assert_eq!(
            HookResponse {
                ignored,
                ..response
            },
            HookResponse::default()
        );
        assert!(classify(format, PostReceive, sent).is_err());
        assert!(classify(format, PreFinish, sent).is_err());
    }
    assert!(classify(Format::V2, PostFinish, (400, JSON, "{}")).is_err());
}

#[test]
fn bodies_above_the_limit() {
    let mut raw = raw(200, JSON, "{}");
    raw.body.is_complete = false;
    let classify = |format, raw: &RawResponse| {
        let classifier = ResponseClassifier {
            limit: 2,
            ..classifier(format)
        };
        classifier.classify(HookName::PreCreate, raw)
    };
    for format in [Format::V2, Format::Auto] {
        let failure = classify(format, &raw).unwrap_err();
        assert_eq!(
            failure.message,
            "hook response exceeded maximum size of 2 bytes"
        );
    }
    raw.status = StatusCode::FORBIDDEN;
    let rejection = classify(Format::Auto, &raw).unwrap();
    assert!(rejection.reject_upload);
    assert_eq!(rejection.client_response.body, None);
    // A denial may follow a warning that fills the limit.
    raw.status = StatusCode::OK;
    raw.headers.clear();
    raw.body.bytes = Bytes::from_static(b"ok");
    assert!(classify(Format::Auto, &raw).is_err());
}

#[test]
fn error_messages_truncate_bodies() {
    let failure = unexpected(&raw(500, "", &"é".repeat(10_000)));
    assert!(
        failure.message.len() < 800 && failure.message.ends_with('…'),
        "{failure}"
    );
}

#[test]
fn client_errors_but_three_are_permanent() {
    for format in [Format::V1, Format::V2, Format::Auto] {
        for status in 300..600 {
            let judged = classify(format, HookName::PostFinish, (status, "", "no"));
            let is_rejected = judged.is_err_and(|failure| failure.is_permanent);
            let is_client_error = (400..500).contains(&status);
            let is_expected = is_client_error && ![408, 425, 429].contains(&status);
            assert_eq!(is_rejected, is_expected, "{format:?} {status}");
        }
    }
}
