//! The application's own check.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::HeaderMap;
use landfall_access::auth::{
    AuthError, AuthMethod as _, ExternalOrigin, ForwardAuth, ForwardAuthSettings,
};
use landfall_state::queue::{GrantLimits, Principal};
use serde_json::json;

use super::{
    CLIENT,
    fake_server::{FakeServer, answer},
    request, unknown,
};
use crate::harness::until;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn application(there: &FakeServer) -> ForwardAuth {
    ForwardAuth::new(ForwardAuthSettings::new(&there.url)).unwrap()
}

/// Accepts only the session `good`.
fn sessions(headers: &HeaderMap) -> axum::response::Response {
    match headers.get("cookie").map(|cookie| cookie.to_str().unwrap()) {
        Some("session=good") => answer(200, JSON, json!({"subject": "ann"}).to_string()),
        Some("session=banned") => answer(403, &[], "you are banned\n"),
        _ => answer(
            401,
            &[("www-authenticate", "Session realm=\"app\"")],
            "who?",
        ),
    }
}

async fn asks(
    application: &ForwardAuth,
    method: &str,
    headers: &[(&str, &str)],
) -> Result<Option<Principal>, AuthError> {
    application
        .authenticate(&request(method, headers), Some(CLIENT))
        .await
}

async fn with_cookie(application: &ForwardAuth, cookie: &str) -> Result<Principal, AuthError> {
    let found = asks(application, "GET", &[("cookie", cookie)]).await;
    found.map(|principal| principal.expect("a cookie is the application's business"))
}

#[tokio::test]
async fn what_it_is_asked_and_what_it_answers() {
    let there = FakeServer::start(sessions).await;
    let mut settings = ForwardAuthSettings::new(&there.url);
    settings.external_origin = ExternalOrigin::new(|_| (true, Some("out.example".into())));
    let application = ForwardAuth::new(settings).unwrap();
    let headers = [
        ("cookie", "session=good"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-original-uri", "/lie"),
        ("x-landfall-subject", "root"),
        ("x-secret", "1"),
    ];
    let principal = asks(&application, "POST", &headers).await.unwrap().unwrap();
    assert_eq!(principal.subject, "ann");
    assert!(principal.by_cookie);
    let seen = there.seen().pop().unwrap();
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.uri, "/there?secret=1");
    let said = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(said("cookie"), Some("session=good"));
    assert_eq!(said("authorization"), None);
    assert_eq!(said("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(said("x-forwarded-host"), Some("out.example"));
    assert_eq!(said("x-forwarded-proto"), Some("https"));
    assert_eq!(said("x-original-method"), Some("POST"));
    assert_eq!(said("x-original-uri"), Some("/uploadjobs?x=1"));
    assert_eq!(said("accept"), Some("application/json"));
    // The client's own values of these headers are not forwarded.
    assert_eq!((said("x-landfall-subject"), said("x-secret")), (None, None));
    assert!(said("host").unwrap().starts_with("127.0.0.1:"));

    let (challenge, is_guess) = unknown(with_cookie(&application, "session=x").await.unwrap_err());
    assert_eq!(
        (challenge.as_str(), is_guess),
        ("Session realm=\"app\"", false)
    );
    let banned = with_cookie(&application, "session=banned").await;
    assert_eq!(banned, Err(AuthError::Forbidden("you are banned".into())));
}

#[tokio::test]
async fn nobody_is_asked_about_nothing() {
    let there = FakeServer::start(sessions).await;
    let application = application(&there);
    for headers in [
        &[][..],
        &[("cookie", "")],
        &[("authorization", "Bearer lft_token")],
        &[("authorization", "bearer lfk_key")],
        &[("x-csrf-token", "a")],
    ] {
        assert_eq!(
            asks(&application, "POST", headers).await,
            Ok(None),
            "{headers:?}"
        );
    }
    assert_eq!(there.asked(), 0);
    // Landfall's own tokens don't leave, whatever comes with them.
    let both = [
        ("authorization", "Bearer lft_token"),
        ("cookie", "session=good"),
    ];
    let principal = asks(&application, "GET", &both).await.unwrap().unwrap();
    assert!(principal.by_cookie);
    assert!(!there.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn what_browsers_send_by_themselves_proves_no_intent() {
    let there = FakeServer::start(|_| answer(204, &[("remote-user", "ann")], "")).await;
    let application = application(&there);
    for (headers, by_cookie) in [
        (&[("cookie", "a=1")][..], true),
        (&[("authorization", "Bearer opaque")], false),
        // The application may have looked at the cookie alone.
        (&[("authorization", "Token abc"), ("cookie", "a=1")], true),
        (&[("authorization", "Bearer x"), ("cookie", "a=1")], true),
        (&[("authorization", "Basic YTpi")], true),
        (&[("authorization", "basic YTpi"), ("cookie", "a=1")], true),
        (&[("authorization", "Negotiate abc")], true),
        (&[("authorization", "Digest abc")], true),
    ] {
        let principal = asks(&application, "POST", headers).await.unwrap().unwrap();
        assert_eq!(principal.by_cookie, by_cookie, "{headers:?}");
    }
}

#[tokio::test]
async fn cookies_of_http_2_come_one_by_one() {
    let there = FakeServer::start(|_| answer(204, &[("remote-user", "ann")], "")).await;
    let application = application(&there);
    let headers = [("cookie", "a=1"), ("cookie", "b=2")];
    assert!(asks(&application, "GET", &headers).await.is_ok());
    assert_eq!(there.seen()[0].headers["cookie"], "a=1; b=2");
}

#[tokio::test]
async fn subjects_and_limits() {
    let subject = |there: &FakeServer, status, headers: &[(&'static str, &str)], body: String| {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        there.now(move |_| {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            answer(status, &headers, body.clone())
        });
    };
    let there = FakeServer::start(sessions).await;
    let application = application(&there);
    let mut number = 0;
    let mut ask = async || {
        number += 1;
        with_cookie(&application, &format!("n={number}")).await
    };
    for (headers, body, expected) in [
        (
            &[("x-landfall-subject", "a"), ("remote-user", "b")][..],
            "",
            "a",
        ),
        (
            &[("x-auth-request-user", "a"), ("remote-user", "b")],
            "<html>",
            "a",
        ),
        (&[("remote-user", "J\u{f6}rg")], "", "J\u{f6}rg"),
        (&[("remote-user", "b")], "{\"subject\": \"a\"}", "a"),
        (&[("remote-user", "b")], "{\"name\": \"a\"}", "b"),
        (
            &[],
            "{\"subject\": 42, \"email\": \"a@b\", \"roles\": []}",
            "42",
        ),
    ] {
        subject(&there, 200, headers, body.into());
        assert_eq!(ask().await.unwrap().subject, expected, "{headers:?} {body}");
    }
    let said = json!({"subject": "ann", "name": "Ann", "max_size": 10, "allowed_types": ["a/*"],
        "max_active": 1, "rate_limit": "5/h", "quota": 100, "require_size": true, "admin": true});
    subject(&there, 201, JSON, said.to_string());
    let principal = ask().await.unwrap();
    assert!(principal.is_admin);
    let expected = GrantLimits {
        max_size: Some(10),
        allowed_types: vec!["a/*".into()],
        max_active: Some(1),
        rate_limit: Some("5/h".parse().unwrap()),
        quota: Some(100),
        require_size: true,
    };
    assert_eq!(principal.limits, expected);
    // Invalid limits of the application are an error.
    for (headers, body) in [
        (&[][..], String::new()),
        (&[], "{}".into()),
        (&[], "{\"subject\": \"\"}".into()),
        (&[("remote-user", "b")], "{\"subject\": null}".into()),
        (&[("remote-user", "")], String::new()),
        (&[], json!({"subject": "a\u{7}"}).to_string()),
        (&[], json!({"subject": "a", "max_size": "10"}).to_string()),
        (&[], json!({"subject": "a", "admin": "yes"}).to_string()),
        (
            &[],
            json!({"subject": "a", "allowed_types": "image/png"}).to_string(),
        ),
        (
            &[],
            json!({"subject": "a", "pad": "x".repeat(65 << 10)}).to_string(),
        ),
    ] {
        subject(&there, 200, headers, body.clone());
        assert_eq!(
            ask().await,
            Err(AuthError::Unavailable),
            "{headers:?} {body:.100}"
        );
    }
    for (body, expected) in [
        ("{\"message\": \"no plan\"}", "no plan"),
        ("no\r\nplan\n", "no  plan"),
        ("<html>no</html>", "the application doesn't allow it"),
        ("", "the application doesn't allow it"),
        ("[1]", "the application doesn't allow it"),
    ] {
        subject(&there, 403, &[], body.into());
        assert_eq!(
            ask().await,
            Err(AuthError::Forbidden(expected.into())),
            "{body}"
        );
    }
    subject(&there, 403, &[], "x".repeat(1000));
    assert_eq!(ask().await, Err(AuthError::Forbidden("x".repeat(300))));
    for status in [302, 307, 400, 404, 429, 500, 503] {
        subject(
            &there,
            status,
            &[("location", "/login"), ("remote-user", "a")],
            String::new(),
        );
        assert_eq!(ask().await, Err(AuthError::Unavailable), "{status}");
    }
    assert!(there.seen().iter().all(|seen| seen.uri.path() == "/there"));
}

/// Its limits would be lost.
#[tokio::test]
async fn answers_that_are_not_understood_are_failures() {
    const BODY: &str = "{\"subject\": \"ann\", \"max_size\": 10}";
    let there = FakeServer::start(sessions).await;
    let application = application(&there);
    let mut number = 0;
    let page = format!("<br />\n<b>Warning</b>: no such index\n{BODY}");
    let wide: Vec<u8> = BODY.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![
        ("application/json", "[1]".into()),
        ("application/json", "\"ann\"".into()),
        ("application/json", "ann".into()),
        ("text/html", page.into()),
        ("text/plain", format!("Warning: x\n{BODY}").into()),
        ("text/plain", wide),
        (
            "application/json",
            BODY.replace("10}", "10,\"max_size\":20}").into(),
        ),
    ];
    bodies.extend((1..BODY.len()).map(|end| ("application/json", BODY[..end].into())));
    for (kind, body) in bodies {
        number += 1;
        let shown = String::from_utf8_lossy(&body).into_owned();
        there.now(move |_| {
            let headers = [("remote-user", "ann"), ("content-type", kind)];
            answer(200, &headers, body.clone())
        });
        let found = with_cookie(&application, &format!("n={number}")).await;
        assert_eq!(found, Err(AuthError::Unavailable), "{kind} {shown:?}");
    }
    there.now(|_| {
        let headers = [("remote-user", "ann"), ("content-encoding", "gzip")];
        answer(200, &headers, b"\x1f\x8b".to_vec())
    });
    let found = with_cookie(&application, "encoded=1").await;
    assert_eq!(found, Err(AuthError::Unavailable));
    // Two users at once.
    there.now(|_| answer(200, &[("remote-user", "ann"), ("remote-user", "bob")], ""));
    let found = with_cookie(&application, "two=1").await;
    assert_eq!(found, Err(AuthError::Unavailable));
    // Other pages say nothing.
    there.now(|_| {
        answer(
            200,
            &[("remote-user", "ann")],
            "<html><style>a{}</style></html>",
        )
    });
    assert_eq!(
        with_cookie(&application, "page=1").await.unwrap().subject,
        "ann"
    );
    there.now(|_| answer(200, &[], format!("\u{feff}{BODY}")));
    let marked = with_cookie(&application, "marked=1").await.unwrap();
    assert_eq!(marked.limits.max_size, Some(10));
}

#[tokio::test]
async fn answers_are_remembered_for_a_while() {
    let there = FakeServer::start(sessions).await;
    let mut settings = ForwardAuthSettings::new(&there.url);
    settings.cache = Duration::from_secs(600);
    let long = ForwardAuth::new(settings.clone()).unwrap();
    settings.cache = Duration::from_millis(200);
    let short = ForwardAuth::new(settings).unwrap();
    for _ in 0..10 {
        assert!(with_cookie(&long, "session=good").await.is_ok());
    }
    assert_eq!(there.asked(), 1);
    // It may allow to look and not to change.
    let cookie = [("cookie", "session=good")];
    assert!(asks(&long, "POST", &cookie).await.is_ok());
    assert!(asks(&long, "POST", &cookie).await.is_ok());
    assert_eq!(there.asked(), 2);
    // A logout takes effect when the cached response expires.
    assert!(with_cookie(&short, "session=good").await.is_ok());
    there.now(|_| answer(401, &[], ""));
    assert!(with_cookie(&long, "session=good").await.is_ok());
    until(async || with_cookie(&short, "session=good").await.is_err()).await;
}

#[tokio::test]
async fn cached_answers_are_bound_to_all_that_is_sent() {
    // Tenants share a session cookie, but have different hosts and paths.
    let there = FakeServer::start(|headers| {
        let sent = |name: &str| {
            headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        };
        let subject = [
            "x-forwarded-host",
            "x-forwarded-for",
            "x-original-uri",
            "x-forwarded-proto",
        ]
        .map(sent)
        .join(" ");
        answer(200, JSON, json!({ "subject": subject }).to_string())
    })
    .await;
    let mut settings = ForwardAuthSettings::new(&there.url);
    settings.cache = Duration::from_secs(600);
    settings.external_origin = ExternalOrigin::new(|request| {
        let host = request.headers["host"].to_str().unwrap();
        (request.headers.contains_key("x-tls"), Some(host.to_owned()))
    });
    let application = ForwardAuth::new(settings).unwrap();
    let other = std::net::IpAddr::from([192, 0, 2, 8]);
    for (host, tls, uri, client, expected) in [
        (
            "a.example",
            false,
            "/uploadjobs",
            CLIENT,
            "a.example 192.0.2.7 /uploadjobs http",
        ),
        (
            "b.example",
            false,
            "/uploadjobs",
            CLIENT,
            "b.example 192.0.2.7 /uploadjobs http",
        ),
        (
            "a.example",
            true,
            "/uploadjobs",
            CLIENT,
            "a.example 192.0.2.7 /uploadjobs https",
        ),
        (
            "a.example",
            false,
            "/uploadjobs/7?x=1",
            CLIENT,
            "a.example 192.0.2.7 /uploadjobs/7?x=1 http",
        ),
        (
            "a.example",
            false,
            "/uploadjobs",
            other,
            "a.example 192.0.2.8 /uploadjobs http",
        ),
    ] {
        let mut parts = request("GET", &[("cookie", "session=good")]);
        parts.headers.insert("host", host.parse().unwrap());
        if tls {
            parts.headers.insert("x-tls", "1".parse().unwrap());
        }
        parts.uri = uri.parse().unwrap();
        let asked = there.asked();
        for _ in 0..2 {
            let principal = application.authenticate(&parts, Some(client)).await;
            assert_eq!(principal.unwrap().unwrap().subject, expected);
        }
        assert_eq!(there.asked(), asked + 1, "{expected}");
    }
}

#[tokio::test]
async fn made_up_cookies_do_not_keep_the_application_busy_for_others() {
    let there = FakeServer::start(sessions).await;
    let mut settings = ForwardAuthSettings::new(&there.url);
    settings.cache = Duration::ZERO;
    // Nothing waits that long: the requests are dropped at the end.
    settings.timeout = Duration::from_secs(600);
    let application = Arc::new(ForwardAuth::new(settings).unwrap());
    assert!(with_cookie(&application, "session=good").await.is_ok());
    there.be_silent();
    let mut waiting = tokio::task::JoinSet::new();
    let mut send = |cookie: String, client: [u8; 4]| {
        let application = application.clone();
        waiting.spawn(async move {
            let request = request("GET", &[("cookie", &cookie)]);
            application
                .authenticate(&request, Some(client.into()))
                .await
        });
    };
    let at_application = |cookie: &str| {
        let seen = there.seen();
        let sent = seen.iter().filter(|seen| seen.headers["cookie"] == cookie);
        sent.count()
    };
    // One address occupies a few calls with unknown credentials …
    for number in 0..200 {
        send(format!("n={number}"), [192, 0, 2, 7]);
    }
    send("session=new".into(), [198, 51, 100, 1]);
    until(async || at_application("session=new") == 1).await;
    assert!(there.most_at_once() <= 5, "{}", there.most_at_once());
    // … and all addresses together none with known credentials.
    for number in 0..100 {
        send(format!("m={number}"), [203, 0, 113, number]);
    }
    until(async || there.most_at_once() >= 32).await;
    send("session=good".into(), [192, 0, 2, 7]);
    until(async || at_application("session=good") == 2).await;
    assert_eq!(there.most_at_once(), 33);
}

#[tokio::test]
async fn refusals_are_remembered_for_a_second() {
    let there = FakeServer::start(sessions).await;
    let mut settings = ForwardAuthSettings::new(&there.url);
    settings.cache = Duration::from_secs(600);
    let application = ForwardAuth::new(settings).unwrap();
    for attempt in 0.. {
        let (begun, asked) = (Instant::now(), there.asked());
        for _ in 0..3 {
            assert!(with_cookie(&application, "session=bad").await.is_err());
        }
        // On a machine that stalls the second may be over before the third.
        if begun.elapsed() < Duration::from_millis(900) {
            assert_eq!(there.asked(), asked + 1);
            break;
        }
        assert!(attempt < 20, "too slow to prove anything");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    there.now(|_| answer(200, &[("remote-user", "ann")], ""));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(with_cookie(&application, "session=bad").await.is_ok());
}

#[tokio::test]
async fn nothing_is_remembered_if_it_is_told_so() {
    let there = FakeServer::start(sessions).await;
    let mut settings = ForwardAuthSettings::new(&there.url);
    settings.cache = Duration::ZERO;
    let application = ForwardAuth::new(settings).unwrap();
    for _ in 0..3 {
        assert!(with_cookie(&application, "session=good").await.is_ok());
    }
    assert_eq!(there.asked(), 3);
}

#[tokio::test]
async fn who_asks_at_the_same_time_shares_one_question() {
    let there = FakeServer::start(sessions).await;
    let application = application(&there);
    let all = (0..50).map(|_| with_cookie(&application, "session=good"));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(there.asked(), 1);
    // Two who say the same in different headers aren't one.
    let token = [("authorization", "session=good")];
    assert!(asks(&application, "GET", &token).await.is_err());
    assert_eq!(there.asked(), 2);
}

#[tokio::test]
async fn whoever_goes_leaves_the_question_to_the_others() {
    let there = FakeServer::start(sessions).await;
    let application = Arc::new(application(&there));
    let impatient = tokio::spawn({
        let application = application.clone();
        async move { with_cookie(&application, "session=good").await }
    });
    tokio::task::yield_now().await;
    let patient = tokio::spawn({
        let application = application.clone();
        async move { with_cookie(&application, "session=good").await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    impatient.abort();
    assert!(patient.await.unwrap().is_ok());
}

#[tokio::test]
async fn silence_and_absence() {
    let there = FakeServer::start(sessions).await;
    let mut settings = ForwardAuthSettings::new(&there.url);
    settings.timeout = Duration::from_millis(300);
    let application = ForwardAuth::new(settings).unwrap();
    there.be_silent();
    let begun = Instant::now();
    assert_eq!(
        with_cookie(&application, "session=good").await,
        Err(AuthError::Unavailable)
    );
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // More than there may be questions at a time: all end in time.
    let begun = Instant::now();
    let all = (0..200).map(|number| {
        let cookie = format!("n={number}");
        let application = &application;
        async move { with_cookie(application, &cookie).await }
    });
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer, Err(AuthError::Unavailable));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    drop(there);
    assert_eq!(
        with_cookie(&application, "session=good").await,
        Err(AuthError::Unavailable)
    );
}

#[tokio::test]
async fn a_crowd_is_let_through_a_few_at_a_time() {
    let there = FakeServer::start(sessions).await;
    let application = application(&there);
    let all = (0..300).map(|number| {
        let cookie = format!("session=good; n={number}");
        let application = &application;
        async move { with_cookie(application, &cookie).await }
    });
    for answer in futures_util::future::join_all(all).await {
        assert!(unknown(answer.unwrap_err()).0.contains("app"));
    }
    assert_eq!(there.asked(), 300);
    let most = there.most_at_once();
    assert!((2..=64).contains(&most), "{most}");
}

#[tokio::test]
async fn secrets_are_in_no_log() {
    let lines = Lines::default();
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let lines = lines.clone();
            move || lines.clone()
        })
        .finish();
    let guard = tracing::subscriber::set_default(log);
    let there = FakeServer::start(sessions).await;
    let application = application(&there);
    let headers = [
        ("cookie", "session=hush1"),
        ("authorization", "Basic hush2"),
    ];
    assert!(asks(&application, "POST", &headers).await.is_err());
    there.now(|_| answer(500, &[], "hush3"));
    assert!(asks(&application, "PUT", &headers).await.is_err());
    there.now(|_| {
        answer(
            200,
            JSON,
            json!({"subject": "a", "rate_limit": "hush4"}).to_string(),
        )
    });
    assert!(asks(&application, "DELETE", &headers).await.is_err());
    drop(there);
    assert!(asks(&application, "PATCH", &headers).await.is_err());
    drop(guard);
    let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let ours = told.lines().filter(|line| line.contains("landfall_access"));
    assert_eq!(ours.clone().count(), 3, "{told}");
    assert!(
        ours.clone()
            .all(|line| line.contains("forward auth failed"))
    );
    for secret in ["hush", "secret=1"] {
        assert!(!told.contains(secret), "{told}");
    }
    assert!(!format!("{application:?}").contains("hush"));
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
