use super::*;

fn answered(status: u16, kind: &str, body: &str) -> Answered {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
    }
    Answered {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: Body {
            bytes: Bytes::copy_from_slice(body.as_bytes()),
            is_whole: true,
        },
    }
}

fn judge(
    format: Format,
    hook: HookName,
    (status, kind, body): (u16, &str, &str),
) -> Result<Reaction, Failure> {
    let judge = Judge {
        format,
        limit: 5120,
        stop_code: Some(418),
    };
    judge.judge(hook, &answered(status, kind, body))
}

fn refused(reaction: &Reaction) -> [bool; 4] {
    [
        reaction.reject_upload,
        reaction.reject_termination,
        reaction.reject_access,
        reaction.failed,
    ]
}

const JSON: &str = "application/json";

#[test]
fn version_2_wants_json_and_nothing_else() {
    let judge = |status, kind, body| judge(Format::V2, HookName::PreCreate, (status, kind, body));
    for kind in [JSON, "application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(judge(200, kind, "{}").unwrap(), Reaction::default());
    }
    assert!(
        judge(201, JSON, r#"{"RejectUpload":true}"#)
            .unwrap()
            .reject_upload
    );
    for (status, kind, body, why) in [
        (
            200,
            "",
            "{}",
            "must answer with the Content-Type application/json",
        ),
        (200, "text/plain", "{}", "it is \"text/plain\""),
        (
            204,
            "",
            "",
            "must answer with the Content-Type application/json",
        ),
        (200, JSON, "", "failed to parse hook response"),
        (200, JSON, "ok", "response was: ok"),
        (
            200,
            JSON,
            r#"{"RejectUpload":1}"#,
            "RejectUpload in the answer must be true or false",
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
        let failure = judge(status, kind, body).unwrap_err();
        assert!(failure.text.contains(why), "{failure}");
    }
}

#[test]
fn version_1_looks_at_the_status_alone() {
    let judge = |hook, status, body| judge(Format::V1, hook, (status, "text/html", body));
    for status in [200, 204, 304, 399] {
        let reaction = judge(HookName::PreCreate, status, r#"{"RejectUpload":true}"#).unwrap();
        assert_eq!(reaction, Reaction::default());
    }
    for status in [400, 403, 500, 503] {
        let reaction = judge(HookName::PreFinish, status, "<b>no</b>").unwrap();
        assert_eq!(refused(&reaction), [false, false, false, true]);
        assert_eq!(reaction.reply, ClientResponse::text(status, "<b>no</b>\n"));
    }
    for hook in [HookName::PostFinish, HookName::PostCreate] {
        assert!(judge(hook, 404, "").is_err());
    }
    assert!(judge(HookName::PostReceive, 500, "").is_err());
    assert_eq!(
        judge(HookName::PostReceive, 404, "").unwrap(),
        Reaction::default()
    );
    assert!(!judge(HookName::PreCreate, 418, "").unwrap().stop_upload);
}

#[test]
fn a_status_may_stop_uploads() {
    let stops = |format| {
        let reaction = judge(format, HookName::PostReceive, (418, "", ""));
        reaction.is_ok_and(|reaction| reaction.stop_upload)
    };
    assert!(stops(Format::V1) && stops(Format::Auto) && !stops(Format::V2));
    let other = judge(Format::Auto, HookName::PreCreate, (418, "", "")).unwrap();
    assert!(other.reject_upload && !other.stop_upload);
}

#[test]
fn a_login_page_is_no_consent() {
    let mut answered = answered(302, "", "");
    answered
        .headers
        .insert(header::LOCATION, "/login".parse().unwrap());
    for format in [Format::V1, Format::V2, Format::Auto] {
        let judge = Judge {
            format,
            limit: 5120,
            stop_code: None,
        };
        let failure = judge.judge(HookName::PreCreate, &answered).unwrap_err();
        assert!(
            failure.text.contains("--hooks-http-follow-redirects"),
            "{failure}"
        );
    }
}

#[test]
fn auto_accepts_what_either_accepts() {
    let judge = |kind, body| judge(Format::Auto, HookName::PreCreate, (200, kind, body));
    for (kind, body) in [
        ("", ""),
        ("text/plain", "ok"),
        (JSON, "{}"),
        (JSON, "null"),
        (JSON, "[1]"),
        (JSON, "\"ok\""),
        ("text/html", "{not json"),
        (JSON, r#"{"message":"hook received"}"#),
    ] {
        assert_eq!(judge(kind, body).unwrap(), Reaction::default(), "{body}");
    }
    assert!(judge("", " {\"rejectUpload\":true}").unwrap().reject_upload);
    let failure = judge(JSON, r#"{"RejectUpload":"yes"}"#).unwrap_err();
    assert!(
        failure.text.contains("RejectUpload in the answer must be"),
        "{failure}"
    );
}

#[test]
fn auto_refuses_with_the_status_and_the_body() {
    use HookName::{PreAccess, PreCreate, PreFinish, PreTerminate};
    for (hook, flags) in [
        (PreCreate, [true, false, false, false]),
        (PreFinish, [true, false, false, false]),
        (PreTerminate, [false, true, false, false]),
        (PreAccess, [false, false, true, false]),
    ] {
        let said = (403, JSON, r#"{"detail":"bad token"}"#);
        let reaction = judge(Format::Auto, hook, said).unwrap();
        assert_eq!(refused(&reaction), flags, "{hook}");
        assert_eq!(reaction.reply.status.unwrap(), 403);
        assert_eq!(reaction.reply.body.unwrap(), said.2);
        assert_eq!(reaction.reply.headers[header::CONTENT_TYPE], JSON);
    }
    for (kind, shown) in [
        ("text/plain; charset=utf-8", true),
        ("text/html", true),
        ("application/problem+json", true),
        ("application/octet-stream", false),
        ("", false),
    ] {
        let reply = judge(Format::Auto, PreCreate, (400, kind, "no"))
            .unwrap()
            .reply;
        assert_eq!(
            reply.headers.contains_key(header::CONTENT_TYPE),
            shown,
            "{kind}"
        );
        assert_eq!(reply.body.unwrap(), "no");
    }
    let empty = judge(Format::Auto, PreCreate, (401, "text/plain", "")).unwrap();
    assert_eq!(refused(&empty), [true, false, false, false]);
    assert_eq!((empty.reply.body, empty.reply.headers.len()), (None, 0));
}

#[test]
fn auto_obeys_a_version_2_refusal_in_a_4xx() {
    let said = r#"{"RejectUpload":true,"HTTPResponse":{"StatusCode":422,"Body":"no","Header":{"X-A":"1"}}}"#;
    let reaction = judge(Format::Auto, HookName::PreCreate, (400, JSON, said)).unwrap();
    assert!(reaction.reject_upload);
    assert_eq!(reaction.reply.status.unwrap(), 422);
    assert_eq!(reaction.reply.body.unwrap(), "no");
    assert_eq!(reaction.reply.headers["x-a"], "1");
    // Without a status of its own it is that of the answer.
    let said = r#"{"RejectTermination":true,"HTTPResponse":{"Body":"no"}}"#;
    let reaction = judge(Format::Auto, HookName::PreTerminate, (409, JSON, said)).unwrap();
    assert!(reaction.reject_termination);
    assert_eq!(reaction.reply.status.unwrap(), 409);
    assert_eq!(reaction.reply.body.unwrap(), "no");
}

#[test]
fn no_bytes_are_removed_because_the_endpoint_moved() {
    for status in [401, 404, 405, 407, 413, 414, 415, 431] {
        let said = (status, "text/plain", "not here");
        let reaction = judge(Format::Auto, HookName::PreFinish, said).unwrap();
        assert_eq!(refused(&reaction), [false, false, false, true], "{status}");
        assert_eq!(reaction.reply.body.unwrap(), "not here");
        let reaction = judge(Format::Auto, HookName::PreCreate, said).unwrap();
        assert_eq!(refused(&reaction), [true, false, false, false], "{status}");
    }
    let said = (404, JSON, r#"{"RejectUpload":true}"#);
    let stated = judge(Format::Auto, HookName::PreFinish, said).unwrap();
    assert_eq!(refused(&stated), [true, false, false, false]);
}

#[test]
fn auto_waits_where_it_is_asked_to() {
    for status in [408, 425, 429, 503] {
        let mut answered = answered(status, "", "later");
        answered
            .headers
            .insert(header::RETRY_AFTER, "7".parse().unwrap());
        let judge = Judge {
            format: Format::Auto,
            limit: 5120,
            stop_code: None,
        };
        let failure = judge.judge(HookName::PreCreate, &answered).unwrap_err();
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let date = httpdate::fmt_http_date(tomorrow).parse().unwrap();
        answered.headers.insert(header::RETRY_AFTER, date);
        let failure = judge.judge(HookName::PostFinish, &answered).unwrap_err();
        let wait = failure.retry_after.unwrap().as_secs();
        assert!((86_000..=86_400).contains(&wait), "{wait}");
    }
}

#[test]
fn auto_tells_again_what_was_not_taken() {
    use HookName::{PostCreate, PostExpire, PostFinish, PostReceive, PostTerminate};
    for hook in [PostCreate, PostFinish, PostTerminate, PostExpire] {
        assert!(judge(Format::Auto, hook, (204, "", "")).is_ok());
        for status in [302, 304, 400, 404, 500] {
            assert!(
                judge(Format::Auto, hook, (status, "", "")).is_err(),
                "{hook} {status}"
            );
        }
    }
    let progress = |status, body| judge(Format::Auto, PostReceive, (status, "", body));
    assert_eq!(progress(404, "").unwrap(), Reaction::default());
    assert!(progress(500, "").is_err());
    assert!(progress(200, r#"{"StopUpload":true}"#).unwrap().stop_upload);
}

#[test]
fn events_that_were_taken_are_not_told_again_for_a_wrong_answer() {
    use HookName::{PostFinish, PostReceive, PreFinish};
    for (format, said) in [
        (Format::V2, (204, "", "")),
        (Format::V2, (200, "text/plain", "ok")),
        (Format::Auto, (200, JSON, r#"{"StopUpload":"no"}"#)),
    ] {
        assert_eq!(
            judge(format, PostFinish, said).unwrap(),
            Reaction::default()
        );
        assert!(judge(format, PostReceive, said).is_err());
        assert!(judge(format, PreFinish, said).is_err());
    }
    assert!(judge(Format::V2, PostFinish, (400, JSON, "{}")).is_err());
}

#[test]
fn bodies_beyond_the_limit() {
    let mut answered = answered(200, JSON, "{}");
    answered.body.is_whole = false;
    let judge = |format, answered: &Answered| {
        let judge = Judge {
            format,
            limit: 2,
            stop_code: None,
        };
        judge.judge(HookName::PreCreate, answered)
    };
    for format in [Format::V2, Format::Auto] {
        let failure = judge(format, &answered).unwrap_err();
        assert_eq!(
            failure.text,
            "hook response exceeded maximum size of 2 bytes"
        );
    }
    answered.status = StatusCode::FORBIDDEN;
    let refusal = judge(Format::Auto, &answered).unwrap();
    assert!(refusal.reject_upload);
    assert_eq!(refusal.reply.body, None);
    // It can't be an object, so version 1 wrote it, which has no limit.
    answered.status = StatusCode::OK;
    answered.body.bytes = Bytes::from_static(b"ok");
    assert_eq!(judge(Format::Auto, &answered).unwrap(), Reaction::default());
}

#[test]
fn failures_show_no_more_than_a_line_can_bear() {
    let failure = unexpected(&answered(500, "", &"é".repeat(10_000)));
    assert!(
        failure.text.len() < 800 && failure.text.ends_with('…'),
        "{failure}"
    );
}

#[test]
fn client_errors_but_three_reject_an_event_for_good() {
    for format in [Format::V1, Format::V2, Format::Auto] {
        for status in 300..600 {
            let judged = judge(format, HookName::PostFinish, (status, "", "no"));
            let is_rejected = judged.is_err_and(|failure| failure.is_permanent);
            let is_client_error = (400..500).contains(&status);
            let is_expected = is_client_error && ![408, 425, 429].contains(&status);
            assert_eq!(is_rejected, is_expected, "{format:?} {status}");
        }
    }
}
