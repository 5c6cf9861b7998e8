//! Redirects and the address policy.

use landfall_hooks::{DeliveryError, HookName, HookResponse, Transport};
use landfall_hooks::{
    format::Format,
    http::{Http, HttpSettings},
};

use super::{
    receiver::{Receiver, answer, json},
    sample, settings,
};

fn to(status: u16, location: &str) -> super::receiver::Act {
    answer(status, &format!("Location: {location}\r\n"), "")
}

fn following(url: String) -> HttpSettings {
    let mut settings = settings(url);
    settings.follow_redirects = true;
    settings
}

async fn deliver(settings: HttpSettings) -> Result<HookResponse, DeliveryError> {
    Http::new(settings)
        .unwrap()
        .deliver(&sample(HookName::PreCreate))
        .await
}

#[tokio::test]
async fn are_not_followed_by_default() {
    let receiver = Receiver::start(|_, _| to(307, "/there")).await;
    for format in [Format::Auto, Format::V1, Format::V2] {
        let mut settings = settings(receiver.url("/"));
        settings.format = format;
        let failure = deliver(settings).await.unwrap_err();
        assert!(
            failure
                .message
                .ends_with("redirects are not followed, see --hooks-http-redirects"),
            "{failure}"
        );
    }
    assert_eq!(receiver.seen().len(), 3);
}

#[tokio::test]
async fn are_followed_like_go() {
    let receiver = Receiver::start(|_, received| {
        let path = received.line().split(' ').nth(1).unwrap();
        match path.strip_prefix("/from/") {
            Some(status) => to(status.parse().unwrap(), "../there?x=1#y"),
            None => json(r#"{"RejectUpload":true}"#),
        }
    })
    .await;
    for (nth, (status, method)) in [
        (301, "GET"),
        (302, "GET"),
        (303, "GET"),
        (307, "POST"),
        (308, "POST"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut settings = following(receiver.url(&format!("/from/{status}")));
        settings.secrets = vec!["secret".parse().unwrap()];
        assert!(deliver(settings).await.unwrap().reject_upload);
        let seen = receiver.seen();
        let [first, second] = &seen[2 * nth..] else {
            panic!("{} requests", seen.len());
        };
        assert_eq!(second.line(), format!("{method} /there?x=1 HTTP/1.1"));
        if method == "POST" {
            assert_eq!(second.body, first.body);
            assert_eq!(
                second.header("webhook-signature"),
                first.header("webhook-signature")
            );
        } else {
            assert!(second.body.is_empty());
            assert_eq!(second.header("content-type"), None);
        }
        assert_eq!(second.header("hook-name"), Some("pre-create"));
    }
}

#[tokio::test]
async fn stop_after_the_limit() {
    let receiver = Receiver::start(|_, _| to(307, "/again")).await;
    let failure = deliver(following(receiver.url("/"))).await.unwrap_err();
    assert_eq!(
        failure.message,
        "the hook endpoint redirects more than 10 times"
    );
    assert_eq!(receiver.seen().len(), 11);
}

#[tokio::test]
async fn without_location_are_responses() {
    let receiver = Receiver::start(|_, _| answer(302, "", "")).await;
    assert!(deliver(following(receiver.url("/"))).await.is_err());
    let mut settings = following(receiver.url("/"));
    settings.format = Format::V1;
    assert_eq!(deliver(settings).await.unwrap(), HookResponse::default());
}

#[tokio::test]
async fn to_invalid_targets_are_failures() {
    for location in [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://[::1",
    ] {
        let receiver = Receiver::start(move |_, _| to(302, location)).await;
        let failure = deliver(following(receiver.url("/"))).await.unwrap_err();
        assert!(
            failure
                .message
                .starts_with("invalid redirect of the hook endpoint: ")
        );
        assert_eq!(receiver.seen().len(), 1);
    }
}

#[tokio::test]
async fn to_private_addresses_are_denied_in_any_spelling() {
    let inside = Receiver::start(|_, _| json(r#"{"RejectUpload":true}"#)).await;
    let port = inside.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "0x7f.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "0",
    ] {
        let location = format!("http://{host}:{port}/inside");
        let receiver = Receiver::start(move |_, _| to(307, &location)).await;
        let failure = deliver(following(receiver.url("/"))).await.unwrap_err();
        assert!(
            failure.message.contains("neither public nor allowed"),
            "{host}: {failure}"
        );
        // A retry would fail, too.
        assert_eq!(receiver.seen().len(), 1, "{host}");
    }
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn to_allowed_networks_carry_no_secrets() {
    let inside = Receiver::start(|_, _| json(r#"{"RejectUpload":true}"#)).await;
    for host in ["127.0.0.1", "localhost"] {
        let location = format!("http://a:b@{host}:{}/inside", inside.address.port());
        let receiver = Receiver::start(move |_, _| to(307, &location)).await;
        let mut settings = following(receiver.url("/").replace("//", "//me:secret@"));
        settings.redirect_allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        settings.secrets = vec!["secret".parse().unwrap()];
        settings.forward_headers = vec!["Tus-Resumable".into()];
        assert!(deliver(settings).await.unwrap().reject_upload, "{host}");
        let first = &receiver.seen()[0];
        for name in ["authorization", "tus-resumable", "webhook-signature"] {
            assert!(first.header(name).is_some(), "{name}");
        }
    }
    let seen = inside.seen();
    assert_eq!(seen.len(), 2);
    for second in seen {
        assert!(!second.body.is_empty());
        for name in ["authorization", "tus-resumable", "webhook-signature"] {
            assert_eq!(second.header(name), None, "{name}");
        }
        assert!(second.header("webhook-id").is_some());
    }
}

#[tokio::test]
async fn to_another_origin_carry_no_credentials_in_the_body() {
    let other = Receiver::start(|_, _| json("{}")).await;
    for status in [307, 308] {
        let location = other.url("/other");
        let receiver = Receiver::start(move |_, _| to(status, &location)).await;
        for format in [Format::Auto, Format::V1, Format::V2] {
            let mut settings = following(receiver.url("/"));
            settings.redirect_allow = vec!["127.0.0.1/32".parse().unwrap()];
            settings.format = format;
            let mut message = sample(HookName::PreCreate);
            for name in [
                "Authorization",
                "Cookie",
                "Proxy-Authorization",
                "X-Api-Key",
            ] {
                let values = vec![format!("{name}-secret")];
                message.request.headers.insert(name.to_owned(), values);
            }
            Http::new(settings)
                .unwrap()
                .deliver(&message)
                .await
                .unwrap();
            let seen = receiver.seen();
            let first = String::from_utf8(seen.last().unwrap().body.to_vec()).unwrap();
            // The configured endpoint needs them.
            assert_eq!(first.matches("-secret").count() % 4, 0, "{first}");
            assert!(first.contains("Cookie-secret"), "{first}");
            let seen = other.seen();
            let second = String::from_utf8(seen.last().unwrap().body.to_vec()).unwrap();
            assert!(!second.contains("secret"), "{status}: {second}");
            assert!(second.contains("Tus-Resumable"), "{second}");
        }
    }
    assert_eq!(other.seen().len(), 6);
}

#[tokio::test]
async fn back_to_the_origin_carry_no_secrets() {
    // The other origin chose the target, so the request is not signed.
    let home = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let back = home.clone();
    let away = Receiver::start(move |_, _| to(307, back.get().unwrap())).await;
    let location = away.url("/away");
    let receiver = Receiver::start(move |nth, _| match nth {
        0 => to(307, &location),
        _ => json("{}"),
    })
    .await;
    home.set(receiver.url("/back")).unwrap();
    let mut settings = following(receiver.url("/"));
    settings.redirect_allow = vec!["127.0.0.1/32".parse().unwrap()];
    settings.secrets = vec!["secret".parse().unwrap()];
    deliver(settings).await.unwrap();
    let seen = receiver.seen();
    assert!(seen[0].header("webhook-signature").is_some());
    assert_eq!(seen[1].line(), "POST /back HTTP/1.1");
    assert_eq!(seen[1].header("webhook-signature"), None);
}
