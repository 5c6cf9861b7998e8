//! TCP proxies that name their clients by the PROXY protocol.

use std::fs;

use landfall_test_services::ReverseProxy;

use crate::hooks_harness::with_hook;
use crate::serve_harness::{Client, Landfall, Request, eventually, metric, program, run};

const CLIENT: &str = "192.0.2.7";

/// `HAProxy` in TCP mode, for which every client is [`CLIENT`].
fn haproxy(server: &Landfall, options: &str) -> ReverseProxy {
    let address = server.address();
    ReverseProxy::haproxy(&format!(
        "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n\
         frontend uploads\n bind 127.0.0.1:PORT\n tcp-request connection set-src str({CLIENT})\n\
         default_backend landfall\n\
         backend landfall\n option httpchk GET /readyz\n server one {address} {options}\n"
    ))
}

fn through(proxy: &ReverseProxy) -> Client {
    Client::connect(([127, 0, 0, 1], proxy.port()).into())
}

#[test]
fn haproxy_names_its_clients_in_both_versions() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let hook = with_hook("pre-create", "cat >\"$0.json\"");
        let hooks = format!("-hooks-dir={}", hook.path().display());
        let args = [&*hooks, "-proxy-protocol", "-behind-proxy"];
        let server = Landfall::start(&args);
        // Its health checks are LOCAL.
        let proxy = haproxy(
            &server,
            &format!("{version} check inter 100ms check-send-proxy"),
        );
        // These headers are the client's, since the proxy does not know HTTP.
        let request = Request::post()
            .with("Upload-Length", 5)
            .with("X-Forwarded-For", "127.0.0.1")
            .with("X-Forwarded-Proto", "https");
        let mut client = through(&proxy);
        let answer = client.ask(request);
        let location = answer.header("Location").unwrap();
        assert!(location.starts_with("http://landfall.test/"), "{location}");
        let path = answer.created();
        client.resumes_to(&path, b"hello");
        let call = fs::read_to_string(hook.path().join("pre-create.json")).unwrap();
        let call: serde_json::Value = serde_json::from_str(&call).unwrap();
        let address = call["Event"]["HTTPRequest"]["RemoteAddr"].as_str().unwrap();
        assert!(address.starts_with(&format!("{CLIENT}:")), "{call:#}");
        let mut metric = |name| metric(&mut client, name);
        let before = metric("landfall_connections_total");
        eventually("there are no health checks", || {
            metric("landfall_connections_total") > before + 1.0
        });
        assert_eq!(metric("landfall_proxy_header_errors_total"), 0.0);
        server.stop();
    }
}

#[test]
fn an_http_proxy_before_the_tcp_proxy_is_trusted_by_its_address() {
    let args = [
        "-proxy-protocol",
        "-behind-proxy",
        "-trusted-proxies=127.0.0.1,10.0.0.0/8",
    ];
    let server = Landfall::start(&args);
    for (address, scheme) in [("10.0.0.9", "https"), ("192.0.2.7", "http")] {
        let mut client = Client::connect(server.address());
        client.send(format!("PROXY TCP4 {address} 10.0.0.1 4711 443\r\n"));
        let request = Request::post()
            .with("Upload-Length", 5)
            .with("X-Forwarded-Proto", "https");
        let answer = client.ask(request);
        let location = answer.header("Location").unwrap();
        assert!(location.starts_with(&format!("{scheme}://")), "{location}");
    }
    server.stop();
}

#[test]
fn other_peers_and_other_protocols_are_reported() {
    let args = ["-proxy-protocol", "-trusted-proxies=192.0.2.10"];
    let server = Landfall::start(&args);
    for _ in 0..3 {
        let mut client = Client::connect(server.address());
        let _ = client.try_send("PROXY UNKNOWN\r\n");
        client.is_closed();
    }
    let line = server.says("PROXY header");
    assert!(
        line.contains("127.0.0.1") && line.contains("trusted proxy"),
        "{line}"
    );
    let lines = server.lines();
    let told = lines.iter().filter(|line| line.contains("PROXY header"));
    assert_eq!(told.count(), 1, "{lines:#?}");
    server.stop();

    let server = Landfall::start(&["-proxy-protocol"]);
    let mut client = Client::connect(server.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.is_closed();
    server.says("there is no PROXY header");
    let port = server.address().port().to_string();
    let args = [
        "health",
        "-host=127.0.0.1",
        "-port",
        &port,
        "-proxy-protocol",
    ];
    let (code, output, error) = run(program().args(args));
    assert_eq!((code, &*output), (Some(0), "ok\n"), "{error}");
    server.stop();
}
