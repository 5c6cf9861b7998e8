//! Proxies.

use std::net::SocketAddr;

use landfall_hooks::http::{Http, HttpSettings, Proxies};
use landfall_hooks::{HookName, Transport};

use super::{
    receiver::{Act, Receiver, answer, json},
    sample, settings, tls,
};

/// A name that only the proxy resolves.
const NAME: &str = "hooks.invalid";

fn through(proxy: SocketAddr, url: &str) -> HttpSettings {
    let mut settings = settings(url);
    let proxy = format!("http://user:word@{proxy}");
    settings.proxies = Proxies::new(&proxy, &proxy, "direct.invalid");
    settings
}

#[tokio::test]
async fn gets_absolute_urls_on_a_reused_connection() {
    let proxy = Receiver::start(|_, _| json(r#"{"RejectUpload":true}"#)).await;
    let http = Http::new(through(proxy.address, &format!("http://{NAME}:8000/hook"))).unwrap();
    for nth in 0..2 {
        let response = http.deliver(&sample(HookName::PreCreate)).await.unwrap();
        assert!(response.reject_upload);
        let received = &proxy.seen()[nth];
        assert_eq!(
            received.line(),
            format!("POST http://{NAME}:8000/hook HTTP/1.1")
        );
        assert_eq!(
            received.header("host"),
            Some(format!("{NAME}:8000").as_str())
        );
        assert_eq!(
            received.header("proxy-authorization"),
            Some("Basic dXNlcjp3b3Jk")
        );
        assert_eq!(received.connection, 0);
    }
}

#[tokio::test]
async fn is_bypassed_for_local_hosts() {
    let proxy = Receiver::start(|_, _| answer(502, "", "")).await;
    let receiver = Receiver::start(|_, _| json("{}")).await;
    for url in [
        receiver.url("/"),
        format!("http://localhost:{}/", receiver.address.port()),
    ] {
        let http = Http::new(through(proxy.address, &url)).unwrap();
        http.deliver(&sample(HookName::PreCreate)).await.unwrap();
    }
    let http = Http::new(through(proxy.address, "http://direct.invalid/")).unwrap();
    let failure = http
        .deliver(&sample(HookName::PreCreate))
        .await
        .unwrap_err();
    assert!(
        failure.message.starts_with("could not connect"),
        "{failure}"
    );
    assert!(proxy.seen().is_empty());
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|one| one.header("proxy-authorization").is_none())
    );
}

#[tokio::test]
async fn tunnels_tls() {
    let endpoint = tls::Endpoint::start(&["h2", "http/1.1"]).await;
    let address = endpoint.address;
    let proxy = Receiver::start(move |_, _| Act::Tunnel(address)).await;
    let mut settings = through(proxy.address, &format!("https://{NAME}/hook"));
    settings.skip_verify = true;
    let http = Http::new(settings).unwrap();
    assert!(
        http.deliver(&sample(HookName::PreCreate))
            .await
            .unwrap()
            .reject_upload
    );
    let received = &proxy.seen()[0];
    assert_eq!(received.line(), format!("CONNECT {NAME}:443 HTTP/1.1"));
    assert_eq!(
        received.header("proxy-authorization"),
        Some("Basic dXNlcjp3b3Jk")
    );
    let seen = endpoint.seen();
    assert!(!seen[0].headers().contains_key("proxy-authorization"));
    assert_eq!(seen[0].version(), hyper::Version::HTTP_2);
}

#[tokio::test]
async fn rejection_is_a_failure() {
    let proxy = Receiver::start(|_, _| answer(403, "", "")).await;
    let http = Http::new(through(proxy.address, &format!("https://{NAME}/hook"))).unwrap();
    let failure = http
        .deliver(&sample(HookName::PreCreate))
        .await
        .unwrap_err();
    assert!(
        failure.message.starts_with("could not connect"),
        "{failure}"
    );
}

#[tokio::test]
async fn cannot_bypass_the_address_policy() {
    let elsewhere = "Location: http://inside.invalid/\r\n";
    let proxy = Receiver::start(move |_, _| answer(307, elsewhere, "")).await;
    let mut settings = through(proxy.address, &format!("http://{NAME}/"));
    settings.follow_redirects = true;
    let http = Http::new(settings).unwrap();
    let failure = http
        .deliver(&sample(HookName::PreCreate))
        .await
        .unwrap_err();
    assert!(failure.message.contains("through a proxy"), "{failure}");
    assert_eq!(proxy.seen().len(), 1);
}
