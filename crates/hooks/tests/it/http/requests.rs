//! Requests.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use landfall_hooks::{HookName, Transport};
use landfall_hooks::{
    format::{self, Format},
    http::Http,
};
use sha2::Sha256;

use super::{
    http,
    receiver::{Receiver, answer, json},
    sample, settings,
};

#[tokio::test]
async fn each_format_has_its_body_and_headers() {
    let receiver = Receiver::start(|_, _| json("{}")).await;
    for (nth, format) in [Format::Auto, Format::V1, Format::V2]
        .into_iter()
        .enumerate()
    {
        let mut settings = settings(receiver.url("/hook?a=b"));
        settings.format = format;
        let message = sample(HookName::PostFinish);
        Http::new(settings)
            .unwrap()
            .deliver(&message)
            .await
            .unwrap();
        let received = &receiver.seen()[nth];
        assert_eq!(received.line(), "POST /hook?a=b HTTP/1.1");
        assert_eq!(received.body, format::body(format, &message));
        assert_eq!(received.header("hook-name"), Some("post-finish"));
        assert_eq!(received.all("content-type"), ["application/json"]);
        assert_eq!(
            received.header("host"),
            Some(receiver.address.to_string().as_str())
        );
        assert_eq!(received.header("webhook-id"), Some(message.id.as_str()));
        let sequence = message.sequence.to_string();
        assert_eq!(
            received.header("landfall-sequence"),
            Some(sequence.as_str())
        );
        let stated: u64 = received
            .header("webhook-timestamp")
            .unwrap()
            .parse()
            .unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert!((now - 5..=now).contains(&stated));
        assert_eq!(received.header("webhook-signature"), None);
        assert_eq!(received.header("authorization"), None);
        // Go's spelling.
        assert!(
            received.head.contains("\r\nWebhook-Id: "),
            "{}",
            received.head
        );
    }
}

#[tokio::test]
async fn requests_are_signed_with_each_secret() {
    let receiver = Receiver::start(|_, _| json("{}")).await;
    let mut settings = settings(receiver.url("/"));
    settings.secrets = vec!["whsec_c2VjcmV0".parse().unwrap(), "other".parse().unwrap()];
    let message = sample(HookName::PreCreate);
    Http::new(settings)
        .unwrap()
        .deliver(&message)
        .await
        .unwrap();

    let received = &receiver.seen()[0];
    let timestamp = received.header("webhook-timestamp").unwrap();
    let signatures = ["secret", "other"].map(|key| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(format!("{}.{timestamp}.", message.id).as_bytes());
        mac.update(&received.body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    });
    assert_eq!(
        received.header("webhook-signature"),
        Some(signatures.join(" ").as_str())
    );
}

#[tokio::test]
async fn url_credentials_become_basic_authentication() {
    let receiver = Receiver::start(|_, _| json("{}")).await;
    let url = receiver
        .url("/hook")
        .replace("http://", "http://me:p%40ss@");
    let http = http(url);
    assert!(!format!("{http:?}").contains("p%40ss"), "{http:?}");
    http.deliver(&sample(HookName::PreCreate)).await.unwrap();
    let received = &receiver.seen()[0];
    assert_eq!(received.header("authorization"), Some("Basic bWU6cEBzcw=="));
    assert_eq!(
        received.header("host"),
        Some(receiver.address.to_string().as_str())
    );
}

#[tokio::test]
async fn headers_are_forwarded_in_any_case_with_all_values() {
    let receiver = Receiver::start(|_, _| json("{}")).await;
    let url = receiver.url("/").replace("http://", "http://me:secret@");
    let mut settings = settings(url);
    settings.forward_headers = [
        "authorization",
        " X-Many ",
        "",
        "x-many",
        "X-Absent",
        "HOST",
        "Content-Length",
        "content-type",
        "hook-name",
        "Transfer-Encoding",
        "Webhook-Signature",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut message = sample(HookName::PreCreate);
    let headers = &mut message.request.headers;
    for (name, values) in [
        ("Authorization", vec!["Bearer abc"]),
        ("X-Many", vec!["1", "2", "\u{e9}", "a\r\nb: c"]),
        ("X-Other", vec!["no"]),
        ("Host", vec!["elsewhere"]),
        ("Content-Length", vec!["3"]),
        ("Content-Type", vec!["text/plain"]),
        ("Hook-Name", vec!["post-finish"]),
        ("Transfer-Encoding", vec!["chunked"]),
        ("Webhook-Signature", vec!["v1,forged"]),
    ] {
        let values = values.into_iter().map(str::to_owned).collect();
        headers.insert(name.to_owned(), values);
    }
    Http::new(settings)
        .unwrap()
        .deliver(&message)
        .await
        .unwrap();
    let received = &receiver.seen()[0];
    // The client's header, as configured.
    assert_eq!(received.all("authorization"), ["Bearer abc"]);
    assert_eq!(received.all("x-many"), ["1", "2", "\u{e9}"]);
    assert_eq!(received.header("x-other"), None);
    assert_eq!(received.all("host"), [receiver.address.to_string()]);
    assert_eq!(received.all("content-type"), ["application/json"]);
    assert_eq!(received.all("hook-name"), ["pre-create"]);
    assert_eq!(received.header("transfer-encoding"), None);
    assert_eq!(received.header("webhook-signature"), None);
}

#[tokio::test]
async fn responses_are_parsed() {
    let said = r#"{"RejectUpload":true,"HTTPResponse":{"StatusCode":401,"Body":"no"}}"#;
    let receiver = Receiver::start(move |nth, _| match nth {
        0 => json(said),
        _ => answer(403, "Content-Type: text/plain\r\n", "bad token"),
    })
    .await;
    let http = http(receiver.url("/"));
    for (status, body) in [(401, "no"), (403, "bad token")] {
        let response = http.deliver(&sample(HookName::PreCreate)).await.unwrap();
        assert!(response.reject_upload);
        assert_eq!(response.client_response.status.unwrap(), status);
        assert_eq!(response.client_response.body.unwrap(), body);
    }
}

#[tokio::test]
async fn invalid_settings_are_rejected() {
    let refused = |change: fn(&mut landfall_hooks::http::HttpSettings)| {
        let mut settings = settings("http://localhost/");
        change(&mut settings);
        Http::new(settings).unwrap_err().to_string()
    };
    let error = refused(|settings| settings.url = "//me:secret@host".into());
    assert!(
        error.contains("invalid URL") && !error.contains("secret"),
        "{error}"
    );
    let error = refused(|settings| settings.forward_headers = vec!["a b".into()]);
    assert!(error.contains("invalid name of a header"), "{error}");
    let error = refused(|settings| settings.max_concurrency = 0);
    assert!(error.contains("must be greater than 0"), "{error}");
    let error = refused(|settings| settings.timeout = std::time::Duration::ZERO);
    assert!(error.contains("must be greater than 0"), "{error}");
}
