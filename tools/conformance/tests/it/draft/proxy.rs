//! The checks of proxies: interim responses that a proxy drops, that the server does not send, or that arrive.

use std::future::pending;
use std::io;

use landfall_conformance::proxy::{Finding, Options, run};
use landfall_console::Severity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::mutant::Mutant;
use super::reference::{Server, Sizes};

/// Returns the finding on interim responses at a URL.
async fn find(url: &Url, upstream: Option<&Url>) -> Finding {
    let options = Options {
        endpoint: url.clone(),
        headers: Vec::new(),
        size: 1000,
        slow: None,
        timeout: std::time::Duration::from_secs(30),
        upstream: upstream.cloned(),
    };
    let mut findings = Vec::new();
    run(options, pending(), &mut |finding| findings.push(finding)).await;
    let of_interim = |finding: &&Finding| finding.check == "interim responses";
    let found = findings.iter().rfind(of_interim);
    found.unwrap_or_else(|| panic!("{findings:#?}")).clone()
}

#[track_caller]
fn expect(finding: &Finding, severity: Severity, text: &str, remedy: &str) {
    assert_eq!(finding.severity, severity, "{finding}");
    assert!(finding.text.contains(text), "{finding}");
    let advice = finding.remedy.as_deref().unwrap_or_default();
    assert!(advice.contains(remedy), "{finding}");
}

async fn start(mutant: Option<Mutant>) -> Url {
    Server::start(Sizes::default(), mutant).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_104_arrives() {
    let found = find(&start(None).await, None).await;
    expect(&found, Severity::Ok, "before the final response", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_drops_104_is_found_by_the_server_itself() {
    let server = start(None).await;
    let proxy = dropping_proxy(&server, false).await;
    let (alone, compared) = tokio::join!(find(&proxy, None), find(&proxy, Some(&server)));
    expect(&alone, Severity::Note, "no 104 arrives", "--upstream");
    let text = "the server sends 104, and the proxy drops it";
    expect(&compared, Severity::Warn, text, "HAProxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_drops_104_in_one_version_of_http_is_found() {
    let proxy = dropping_proxy(&start(None).await, true).await;
    let server = start(Some(Mutant::NoInterimOverHttp2)).await;
    let (by_http1, by_http2) = tokio::join!(find(&proxy, None), find(&server, None));
    let text = "over HTTP/2, but not over HTTP/1.1";
    expect(&by_http1, Severity::Warn, text, "HAProxy");
    let text = "over HTTP/1.1, but not over HTTP/2";
    expect(&by_http2, Severity::Warn, text, "HAProxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_no_104_is_told_from_a_proxy_that_drops_it() {
    let silent = start(Some(Mutant::NoInterim)).await;
    let cautious = start(Some(Mutant::NoInterimThroughProxies)).await;
    let proxy = dropping_proxy(&cautious, false).await;
    let (silent, cautious) =
        tokio::join!(find(&silent, Some(&silent)), find(&proxy, Some(&cautious)));
    expect(&silent, Severity::Note, "the server sends no 104", "");
    let text = "none to requests that have passed a proxy";
    expect(&cautious, Severity::Note, text, "--rufh-104 on");
}

/// Starts a proxy that drops 104 over HTTP/1.1, and returns its URL. Connections of HTTP/2 it passes as they are, or
/// closes.
async fn dropping_proxy(server: &Url, passes_http2: bool) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut url = server.clone();
    let port = listener.local_addr().unwrap().port();
    url.set_port(Some(port)).unwrap();
    let upstream = server.port().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // An error is the end of the connection.
            tokio::spawn(pass(client, upstream, passes_http2));
        }
    });
    url
}

async fn pass(client: TcpStream, upstream: u16, passes_http2: bool) -> io::Result<()> {
    let mut start = [0; 3];
    client.peek(&mut start).await?;
    let is_http2 = start == *b"PRI";
    if is_http2 && !passes_http2 {
        return Ok(());
    }
    let server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    let (mut requests, mut to_client) = client.into_split();
    let (mut responses, mut to_server) = server.into_split();
    let forward = async {
        tokio::io::copy(&mut requests, &mut to_server).await?;
        to_server.shutdown().await
    };
    let back = async {
        if !is_http2 {
            let rest = without_interim(&mut responses).await?;
            to_client.write_all(&rest).await?;
        }
        tokio::io::copy(&mut responses, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(forward, back).map(drop)
}

/// Reads responses until one is not 104, and returns its first bytes.
async fn without_interim(
    responses: &mut (impl tokio::io::AsyncRead + Unpin),
) -> io::Result<Vec<u8>> {
    const INTERIM: &[u8] = b"HTTP/1.1 104";
    let mut received = Vec::new();
    loop {
        let compared = received.len().min(INTERIM.len());
        if received[..compared] != INTERIM[..compared] {
            return Ok(received);
        }
        match received.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(end) if compared == INTERIM.len() => drop(received.drain(..end + 4)),
            _ if responses.read_buf(&mut received).await? == 0 => return Ok(received),
            _ => {}
        }
    }
}
