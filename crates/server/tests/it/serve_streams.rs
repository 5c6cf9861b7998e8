//! Tests of every version of HTTP with streams: uploads in both protocols, resumed over another version, and cut
//! at random.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};

use crate::serve_harness::{MIB, content, path_of};
use crate::serve_tls::Https;

/// The version of the IETF draft in these tests.
pub(crate) const DRAFT: (&str, &str) = ("upload-draft-interop-version", "8");

/// A client of a version of HTTP with streams. Dropping it closes its connection.
pub(crate) trait StreamClient: Sized {
    /// A request whose content is being sent.
    type Exchange;

    async fn connect(https: &Https) -> Self;

    async fn begin(&mut self, request: Request<()>) -> Self::Exchange;

    /// The server may have ended the stream, or the client lost the connection.
    async fn send(exchange: &mut Self::Exchange, data: Bytes, is_end: bool);

    /// The next response, which may be an interim one.
    async fn head(exchange: &mut Self::Exchange) -> Response<()>;

    fn reset(exchange: Self::Exchange);

    /// Closes the connection, whose requests are running.
    fn kill(&mut self);

    async fn open(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Self::Exchange {
        let uri = format!("https://landfall.test{path}");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.begin(request.body(()).unwrap()).await
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response<()> {
        let mut exchange = self.open(method, path, fields).await;
        Self::send(&mut exchange, Bytes::copy_from_slice(body), true).await;
        Self::head(&mut exchange).await
    }

    /// By tus.
    async fn offset(&mut self, path: &str) -> u64 {
        loop {
            let fields = [("tus-resumable", "1.0.0")];
            let response = self.ask(Method::HEAD, path, &fields, b"").await;
            // The request that was cut may still store its last bytes.
            if response.status() != 423 {
                assert_eq!(response.status(), 200);
                return number(&response, "upload-offset");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn number(response: &Response<()>, name: &str) -> u64 {
    response.headers()[name].to_str().unwrap().parse().unwrap()
}

pub(crate) async fn stop(https: Https) {
    let stopped = tokio::task::spawn_blocking(move || https.server.stop());
    stopped.await.unwrap();
}

pub(crate) fn location(response: &Response<()>) -> String {
    path_of(response.headers()["location"].to_str().unwrap())
}

pub(crate) async fn uploads_are_resumed_over_http1<C: StreamClient>(https: Https) -> Https {
    let bytes = content(1, 5 * MIB);
    let mut client = C::connect(&https).await;
    let length = bytes.len().to_string();
    let fields = [
        ("tus-resumable", "1.0.0"),
        ("upload-length", &length),
        ("content-type", "application/offset+octet-stream"),
    ];
    let created = client
        .ask(Method::POST, "/files/", &fields, &bytes[..2_000_000])
        .await;
    assert_eq!(created.status(), 201);
    assert_eq!(number(&created, "upload-offset"), 2_000_000);
    let path = location(&created);
    assert_eq!(client.offset(&path).await, 2_000_000);
    drop(client);
    let over_tcp = tokio::task::spawn_blocking(move || {
        let mut client = https.client();
        client.resumes_to(&path, &bytes);
        client.holds(&path, &bytes);
        let metrics = client.ask(crate::serve_harness::Request::get("/metrics"));
        let metrics = metrics.text();
        let handshakes = "landfall_tls_handshakes_total 2";
        assert!(metrics.contains(handshakes), "{metrics}");
        https
    });
    over_tcp.await.unwrap()
}

/// What Apple's URLSession uploads, and the fields that the application has given it, which all of its requests have.
const FILE: &[u8] = b"helloworld";
const FILE_FIELDS: [(&str, &str); 2] = [
    ("content-type", "video/quicktime"),
    (
        "repr-digest",
        "sha-256=:k2oYXKqiZrucvpgengXLeM1zKwsygOuURBK7b4+PB68=:",
    ),
];
const URLSESSION: (&str, &str) = ("upload-draft-interop-version", "6");

/// A client like Apple's URLSession: the whole file in one request, and after an interruption HEAD and one PATCH.
struct UrlSession<'a, C> {
    https: &'a Https,
    client: C,
    path: String,
}

impl<C: StreamClient> UrlSession<'_, C> {
    async fn send(&mut self, method: Method, offset: usize, end: usize) -> C::Exchange {
        let (length, start) = ((FILE.len() - offset).to_string(), offset.to_string());
        let mut fields = vec![
            URLSESSION,
            ("upload-complete", "?1"),
            ("content-length", &length),
            FILE_FIELDS[1],
        ];
        let path = match method {
            Method::PATCH => {
                fields.push(("upload-offset", &start));
                fields.push(("content-type", "application/partial-upload"));
                self.path.clone()
            }
            _ => {
                fields.push(FILE_FIELDS[0]);
                "/files/".to_owned()
            }
        };
        let mut exchange = self.client.open(method.clone(), &path, &fields).await;
        if method != Method::PATCH {
            let announced = C::head(&mut exchange).await;
            assert_eq!(announced.status().as_u16(), 104);
            assert_eq!(announced.headers()[URLSESSION.0], URLSESSION.1);
            self.path = location(&announced);
        }
        let part = Bytes::from_static(&FILE[offset..end]);
        C::send(&mut exchange, part, end == FILE.len()).await;
        exchange
    }

    async fn cut(&mut self, exchange: C::Exchange, is_killed: bool) {
        // Some bytes arrive before.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if is_killed {
            self.client.kill();
            self.client = C::connect(self.https).await;
        }
        C::reset(exchange);
    }

    /// The offset, by the second of two HEADs: the first one is cut, too.
    async fn offset(&mut self) -> usize {
        let fields = [
            URLSESSION,
            FILE_FIELDS[0],
            FILE_FIELDS[1],
            ("content-length", "0"),
        ];
        let path = self.path.clone();
        C::reset(self.client.open(Method::HEAD, &path, &fields).await);
        let response = loop {
            let response = self.client.ask(Method::HEAD, &path, &fields, b"").await;
            let is_pending = response.status() == 204
                && response.headers()["upload-complete"] == "?0"
                && number(&response, "upload-offset") as usize == FILE.len();
            // The digest of the whole is being verified, or all bytes are stored and the completion runs.
            if response.status() != 503 && !is_pending {
                break response;
            }
            assert!(is_pending || response.headers()["retry-after"] == "1");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(response.status(), 204, "{response:?}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let offset = number(&response, "upload-offset") as usize;
        let is_complete = response.headers()["upload-complete"] == "?1";
        assert_eq!(is_complete, offset == FILE.len(), "{response:?}");
        offset
    }
}

/// The creation and then the PATCH are cut after each byte, the last one included, whose response is lost.
pub(crate) async fn an_upload_by_urlsession_is_cut_at_every_byte<C: StreamClient>(https: Https) {
    let mut paths = Vec::new();
    for is_killed in [false, true] {
        for first in 0..=FILE.len() {
            for second in first..=FILE.len() {
                let client = C::connect(&https).await;
                let mut session = UrlSession {
                    https: &https,
                    client,
                    path: String::new(),
                };
                let exchange = session.send(Method::POST, 0, first).await;
                session.cut(exchange, is_killed).await;
                let offset = session.offset().await;
                assert!(offset <= first, "{offset} of {first}");
                let exchange = session.send(Method::PATCH, offset, second).await;
                session.cut(exchange, is_killed).await;
                let offset = session.offset().await;
                assert!(offset <= second, "{offset} of {second}");
                let mut exchange = session.send(Method::PATCH, offset, FILE.len()).await;
                let last = C::head(&mut exchange).await;
                assert!(last.status().is_success(), "{last:?}");
                assert_eq!(last.headers()["upload-complete"], "?1");
                paths.push(session.path);
            }
        }
    }
    tokio::task::spawn_blocking(move || {
        for path in paths {
            https.client().holds(&path, FILE);
        }
        https.server.stop();
    })
    .await
    .unwrap();
}

/// `LANDFALL_LONG=1` cuts 10,000 times.
pub(crate) async fn bytes_are_right_after_random_cuts<C: StreamClient>(https: Https) {
    let cuts = match std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1") {
        true => 10_000,
        false => 200,
    };
    let seed = 7_u64;
    let mut state = seed;
    // Marsaglia's xorshift.
    let mut random = move |below: u64| {
        for shift in [13, -7, 17] {
            state ^= if shift > 0 {
                state << shift
            } else {
                state >> -shift
            };
        }
        state % below
    };
    let bytes = content(seed, 40 * MIB);
    let mut client = C::connect(&https).await;
    let length = bytes.len().to_string();
    let fields = [("tus-resumable", "1.0.0"), ("upload-length", &*length)];
    let mut uploads = Vec::new();
    let (mut path, mut acknowledged) = (String::new(), 0);
    for cut in 0..cuts {
        if path.is_empty() {
            path = location(&client.ask(Method::POST, "/files/", &fields, b"").await);
        }
        let offset = client.offset(&path).await;
        assert!(
            offset >= acknowledged,
            "cut {cut}: {offset} < {acknowledged}"
        );
        acknowledged = offset;
        let start = offset.to_string();
        let patch = [
            ("tus-resumable", "1.0.0"),
            ("upload-offset", &*start),
            ("content-type", "application/offset+octet-stream"),
        ];
        let rest = &bytes[offset as usize..];
        let size = (random(1_000_000) as usize).min(rest.len());
        let mut exchange = client.open(Method::PATCH, &path, &patch).await;
        C::send(&mut exchange, Bytes::copy_from_slice(&rest[..size]), false).await;
        match random(4) {
            0 => {
                client.kill();
                client = C::connect(&https).await;
            }
            1 => tokio::time::sleep(Duration::from_millis(2)).await,
            _ => {}
        }
        C::reset(exchange);
        if client.offset(&path).await == bytes.len() as u64 {
            uploads.push(std::mem::take(&mut path));
            acknowledged = 0;
        }
    }
    if !path.is_empty() {
        let offset = client.offset(&path).await;
        let start = offset.to_string();
        let patch = [
            ("tus-resumable", "1.0.0"),
            ("upload-offset", &*start),
            ("content-type", "application/offset+octet-stream"),
        ];
        let last = client
            .ask(Method::PATCH, &path, &patch, &bytes[offset as usize..])
            .await;
        assert_eq!(last.status(), 204);
        uploads.push(path);
    }
    assert!(!uploads.is_empty());
    tokio::task::spawn_blocking(move || {
        for path in uploads {
            https.client().holds(&path, &bytes);
        }
        https.server.stop();
    })
    .await
    .unwrap();
}
