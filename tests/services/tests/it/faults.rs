//! The proxy injects faults into calls. The service is moto, which accepts unsigned calls.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use landfall_test_services::{
    Moto, Proxy,
    proxy::{Fault, Operation, Rule},
};
use tokio::net::TcpStream;

/// A bucket behind a proxy.
struct Target {
    proxy: Proxy,
    bucket: String,
}

#[derive(Debug)]
struct HttpResponse {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Target {
    fn new() -> Self {
        let moto = Moto::shared();
        Self {
            proxy: Proxy::start(&moto.access()),
            bucket: moto.bucket("faults"),
        }
    }

    /// The answer to one call; `None` when its connection broke.
    async fn call(&self, method: Method, key: &str, body: &str) -> Option<HttpResponse> {
        let endpoint = self.proxy.endpoint();
        self.call_at(&endpoint, method, key, body).await
    }

    /// The same past the proxy.
    async fn really(&self, method: Method, key: &str) -> HttpResponse {
        let endpoint = Moto::shared().access().endpoint;
        self.call_at(&endpoint, method, key, "").await.unwrap()
    }

    async fn call_at(
        &self,
        endpoint: &str,
        method: Method,
        key: &str,
        body: &str,
    ) -> Option<HttpResponse> {
        let authority = endpoint.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(authority).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("/{}/{key}", self.bucket))
            .header("Host", authority)
            // moto requires a signature but does not check it.
            .header("Authorization", "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(HttpResponse {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        })
    }

    async fn put_object(&self, key: &str, body: &str) -> Option<u16> {
        Some(self.call(Method::PUT, key, body).await?.status)
    }

    /// Returns the content of an object.
    async fn holds(&self, key: &str) -> Option<String> {
        let answer = self.really(Method::GET, key).await;
        (answer.status == 200).then_some(answer.body)
    }
}

#[tokio::test]
async fn passes_and_records() {
    let place = Target::new();
    assert_eq!(place.put_object("a/b%20c.part", "hello").await, Some(200));
    let got = place.call(Method::GET, "a/b%20c.part", "").await.unwrap();
    assert_eq!((got.status, got.body.as_str()), (200, "hello"));
    let head = place.call(Method::HEAD, "a/b%20c.part", "").await.unwrap();
    assert_eq!(head.headers["content-length"], "5");
    let started = place.call(Method::POST, "big?uploads=", "").await.unwrap();
    let id = started.body.split_once("<UploadId>").unwrap().1;
    let id = id.split_once('<').unwrap().0;
    let part = format!("big?partNumber=7&uploadId={id}");
    assert_eq!(place.put_object(&part, "part").await, Some(200));
    place
        .call(Method::GET, &format!("big?uploadId={id}"), "")
        .await;
    place
        .call(Method::DELETE, &format!("big?uploadId={id}"), "")
        .await;
    place.call(Method::GET, "?list-type=2", "").await;

    let calls = place.proxy.calls();
    let operations: Vec<_> = calls.iter().map(|call| call.operation).collect();
    use Operation::*;
    assert_eq!(
        operations,
        [
            PutObject,
            GetObject,
            HeadObject,
            CreateMultipartUpload,
            UploadPart,
            ListParts,
            AbortMultipartUpload,
            ListObjects
        ]
    );
    assert_eq!(calls[0].key, "a/b c.part");
    assert_eq!(calls[0].bucket, place.bucket);
    assert_eq!(calls[0].bytes, 5);
    assert_eq!(calls[4].parameter("partNumber"), Some("7"));
    assert_eq!(calls[7].key, "");
    for (n, call) in calls.iter().enumerate() {
        assert_eq!(call.number, n + 1);
        assert!(call.answered && call.status.is_some(), "{call}");
    }
    assert_eq!(place.proxy.count(UploadPart), 1);
    place.proxy.forget();
    assert_eq!(place.put_object("c", "").await, Some(200));
    assert_eq!(place.proxy.calls()[0].number, 9);
}

#[tokio::test]
async fn answers_in_place_of_the_service() {
    let place = Target::new();
    place.proxy.inject(Rule::any().once(), Fault::SLOW_DOWN);
    let answer = place.call(Method::PUT, "a", "1").await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("<Code>SlowDown</Code>"));
    assert_eq!(place.holds("a").await, None);

    place
        .proxy
        .inject(Rule::any().once(), Fault::INTERNAL_ERROR_AFTER);
    assert_eq!(place.put_object("a", "2").await, Some(500));
    assert_eq!(place.holds("a").await.as_deref(), Some("2"));
    let calls = place.proxy.calls();
    assert_eq!((calls[0].status, calls[1].status), (None, Some(200)));
}

#[tokio::test]
async fn cuts() {
    let place = Target::new();
    for (fault, holds) in [
        (Fault::CutBefore, false),
        (Fault::CutInside, false),
        (Fault::CutAfter, true),
    ] {
        let key = format!("{fault:?}");
        place.proxy.inject(Rule::any().once(), fault);
        assert_eq!(
            place.put_object(&key, &"x".repeat(100_000)).await,
            None,
            "{fault:?}"
        );
        assert_eq!(place.holds(&key).await.is_some(), holds, "{fault:?}");
        assert!(!place.proxy.calls().last().unwrap().answered);
    }
    place
        .proxy
        .inject(Rule::on(Operation::GetObject).once(), Fault::CutAnswer);
    assert!(place.call(Method::GET, "CutAfter", "").await.is_none());
    assert!(place.call(Method::GET, "CutAfter", "").await.is_some());
}

#[tokio::test]
async fn waits() {
    let place = Target::new();
    let time = Duration::from_millis(150);
    for (fault, at_once) in [
        (Fault::Delay(time), false),
        (Fault::DelayAnswer(time), true),
    ] {
        let key = format!("at-once-{at_once}");
        place.proxy.inject(Rule::any().once(), fault);
        let started = Instant::now();
        let (status, holds) = tokio::join!(place.put_object(&key, "x"), async {
            tokio::time::sleep(time / 2).await;
            place.holds(&key).await.is_some()
        });
        assert_eq!(status, Some(200));
        assert_eq!(holds, at_once, "{fault:?}");
        assert!(started.elapsed() >= time);
    }
}

#[tokio::test]
async fn repeats() {
    let place = Target::new();
    place.proxy.inject(Rule::any().once(), Fault::Duplicate);
    place.call(Method::POST, "a?uploads=", "").await.unwrap();
    let pending = place.really(Method::GET, "?uploads=").await.body;
    assert_eq!(pending.matches("<UploadId>").count(), 2);
    assert_eq!(place.proxy.calls().len(), 1);

    // Longer than two calls take on a busy machine.
    let late = Duration::from_secs(2);
    place.proxy.inject(Rule::any().once(), Fault::Echo(late));
    assert_eq!(place.put_object("b", "old").await, Some(200));
    assert_eq!(place.put_object("b", "new").await, Some(200));
    assert_eq!(place.holds("b").await.as_deref(), Some("new"));
    while place.holds("b").await.as_deref() != Some("old") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn kills_between_calls() {
    let place = Target::new();
    place.proxy.kill_after(2);
    assert_eq!(place.put_object("a", "1").await, Some(200));
    assert_eq!(place.put_object("b", "1").await, Some(200));
    assert!(!place.proxy.is_dead());
    assert_eq!(place.put_object("c", "1").await, None);
    assert!(place.proxy.is_dead());
    place.proxy.killed().await;
    assert_eq!(place.put_object("d", "1").await, None);
    place.proxy.revive();
    assert!(!place.proxy.is_dead());
    assert_eq!(place.holds("c").await, None);

    place.proxy.kill_during(2);
    assert_eq!(place.put_object("e", "1").await, Some(200));
    assert_eq!(place.put_object("f", "1").await, None);
    assert_eq!(place.put_object("g", "1").await, None);
    assert_eq!(place.holds("f").await.as_deref(), Some("1"));
    assert_eq!(place.holds("g").await, None);
}

/// Otherwise a task that a dead node has left behind would be a call of the next one, and kill it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_from_a_killed_node_later() {
    let place = Arc::new(Target::new());
    place.proxy.kill_during(1);
    let (_, killed) = place.proxy.run(async |access| {
        let (left, endpoint) = (place.clone(), access.endpoint.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            left.call_at(&endpoint, Method::PUT, "late", "1").await
        });
        place
            .call_at(&access.endpoint, Method::PUT, "first", "1")
            .await
    });
    assert!(killed);
    assert!(!place.proxy.is_dead());
    assert_eq!(place.holds("first").await.as_deref(), Some("1"));

    place.proxy.kill_during(2);
    let (ended, killed) = place.proxy.run(async |access| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        place
            .call_at(&access.endpoint, Method::PUT, "next", "1")
            .await
    });
    assert_eq!(ended.flatten().unwrap().status, 200);
    assert!(!killed);
    assert_eq!(place.holds("late").await, None);
}

#[tokio::test]
async fn a_kill_silences_calls_in_flight() {
    let place = Target::new();
    let delay = Fault::DelayAnswer(Duration::from_millis(100));
    place.proxy.inject(Rule::any().once(), delay);
    let (slow, ()) = tokio::join!(place.put_object("slow", "x"), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        place.proxy.kill();
        place.proxy.revive();
    });
    assert_eq!(slow, None);
    assert_eq!(place.holds("slow").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn rules_choose() {
    let place = Target::new();
    let rule = Rule::on(Operation::PutObject)
        .key_ends(".part")
        .skip(1)
        .times(2);
    place.proxy.inject(rule, Fault::INTERNAL_ERROR);
    place.proxy.inject(
        Rule::any().matching(|call| call.bytes > 3),
        Fault::SLOW_DOWN,
    );
    let mut found = Vec::new();
    for (key, body) in [
        ("a.info", "x"),
        ("a.part", "x"),
        ("b.part", "x"),
        ("c.part", "four"),
        ("d.part", "x"),
        ("a.info", "four"),
    ] {
        found.push(place.put_object(key, body).await.unwrap());
    }
    assert_eq!(found, [200, 200, 500, 500, 200, 503]);
    let second = "k?partNumber=2&uploadId=u";
    place.proxy.revive();
    place
        .proxy
        .inject(Rule::on(Operation::UploadPart).part(2), Fault::SLOW_DOWN);
    assert_eq!(place.put_object(second, "x").await, Some(503));
    assert_ne!(
        place.put_object("k?partNumber=12&uploadId=u", "x").await,
        Some(503)
    );
}

#[tokio::test]
async fn random_faults_repeat_with_their_seed() {
    let place = Target::new();
    let rates = [(Fault::SLOW_DOWN, 0.3), (Fault::CutBefore, 0.3)];
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        place.proxy.inject_at_random(seed, &rates);
        let mut run = Vec::new();
        for _ in 0..30 {
            run.push(place.put_object("a", "x").await);
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    for outcome in [None, Some(200), Some(503)] {
        assert!(runs[0].contains(&outcome), "{outcome:?} never came");
    }
}
