//! Connections that break: uploads resume, and no byte is wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use landfall_client::{ChunkSize, Error, Event, Protocol, RetryPolicy, Source};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::{
    builder, client, client_of, content, in_time,
    proxy::{Fault, Proxy},
    server::{Server, first, response},
};

const PROTOCOLS: [Protocol; 2] = [Protocol::Tus, Protocol::Draft];

#[tokio::test]
async fn an_interrupted_upload_resumes_at_the_offset_of_the_server() {
    for protocol in PROTOCOLS {
        for fault in [Fault::Close(3_000_000), Fault::Reset(3_000_000)] {
            let server = Server::start().await;
            let proxy = Proxy::start(server.address, move |number| match number {
                0 => fault,
                _ => Fault::None,
            })
            .await;
            let bytes = content(20_000_000);
            let upload = client_of(protocol).upload(proxy.endpoint(), Source::bytes(bytes.clone()));
            let completed = in_time(upload.run()).await.unwrap();
            assert_eq!(server.bytes(&completed.url).await, bytes);
            assert_eq!((server.count("POST"), server.count("PATCH")), (1, 2));
            let seen = server.seen();
            let offsets: Vec<u64> = (seen.iter().filter(|seen| seen.method == "PATCH"))
                .map(|seen| seen.header("upload-offset").unwrap().parse().unwrap())
                .collect();
            assert_eq!(offsets[0], 0);
            assert!(
                offsets[1] > 2_000_000 && offsets[1] < 3_000_000,
                "{offsets:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_upload_finishes_over_a_connection_that_always_breaks() {
    for protocol in PROTOCOLS {
        let server = Server::start().await;
        let proxy = Proxy::start(server.address, |_| Fault::Reset(150_000)).await;
        let bytes = content(8_000_000);
        let upload = client_of(protocol).upload(proxy.endpoint(), Source::bytes(bytes.clone()));
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(server.bytes(&completed.url).await, bytes);
        assert!(server.count("PATCH") >= 50, "{}", server.count("PATCH"));
    }
}

#[tokio::test]
async fn a_small_upload_whose_creation_failed_is_created_first() {
    // Its bytes pass in pieces then.
    let server = Server::start().await;
    let proxy = Proxy::start(server.address, |_| Fault::Close(40_000)).await;
    let bytes = content(500_000);
    let upload = client().upload(proxy.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
}

#[tokio::test]
async fn lost_responses_do_not_duplicate_bytes() {
    for protocol in PROTOCOLS {
        let server = Server::start().await;
        let proxy = Proxy::start(server.address, |number| match number % 2 {
            0 => Fault::LoseResponse,
            _ => Fault::None,
        })
        .await;
        let bytes = content(3_000_000);
        // One connection per request, so that each second response is lost.
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(
                rustls::ClientConfig::builder_with_provider(
                    rustls::crypto::ring::default_provider().into(),
                )
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
            )
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let client = builder()
            .protocol(protocol)
            .http_client(http)
            .build()
            .unwrap();
        let upload = client
            .upload(proxy.endpoint(), Source::bytes(bytes.clone()))
            .chunk_size(ChunkSize::Fixed(1_000_000));
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(server.bytes(&completed.url).await, bytes);
        // The memory store keeps all bytes of a request whose response is lost.
        assert!(
            completed.bytes_sent <= 3_000_000,
            "{}",
            completed.bytes_sent
        );
    }
}

#[tokio::test]
async fn a_stalled_connection_is_closed_and_the_upload_resumes() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address, |number| match number {
        0 => Fault::Stall(2_000_000),
        _ => Fault::None,
    })
    .await;
    let client = builder()
        .idle_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let bytes = content(20_000_000);
    let upload = client.upload(proxy.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
}

#[tokio::test]
async fn attempts_without_progress_are_bounded() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address, |_| Fault::Refuse).await;
    let policy = RetryPolicy::default()
        .with_max_attempts(5)
        .with_delays(Duration::from_millis(1), Duration::from_millis(2));
    let client = builder().retry(policy).build().unwrap();
    let retries = Arc::new(AtomicU64::new(0));
    let count = retries.clone();
    let upload = client
        .upload(proxy.endpoint(), Source::bytes(content(10)))
        .on_event(move |event| {
            if let Event::Retrying { .. } = event {
                count.fetch_add(1, Relaxed);
            }
        });
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(
        matches!(error, Error::GaveUp { attempts: 5, .. }),
        "{error}"
    );
    assert!(error.is_retryable());
    assert_eq!(retries.load(Relaxed), 4);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let busy = first(1);
    let server = Server::with(
        |_| {},
        move |request| {
            let is_busy = request.method() == "PATCH" && busy();
            is_busy.then(|| response(503, &[("retry-after", "1")]))
        },
    )
    .await;
    let start = std::time::Instant::now();
    let bytes = content(2_000_000);
    let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.bytes(&completed.url).await, bytes);
}

#[tokio::test]
async fn a_retry_after_beyond_the_limit_ends_the_upload() {
    let server = Server::with(
        |_| {},
        |request| (request.method() == "POST").then(|| response(503, &[("retry-after", "86400")])),
    )
    .await;
    let upload = client().upload(server.endpoint(), Source::bytes(content(10)));
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(
        matches!(error, Error::GaveUp { attempts: 1, .. }),
        "{error}"
    );
    let wait = error.rejection().unwrap().retry_after;
    assert_eq!(wait, Some(Duration::from_secs(86400)));
}

#[tokio::test]
async fn bursts_of_errors_are_survived() {
    for status in [408, 409, 423, 425, 429, 460, 500, 502, 503, 504] {
        let fails = first(4);
        let server = Server::with(
            |_| {},
            move |request| {
                let is_append = matches!(request.method().as_str(), "PATCH" | "HEAD");
                (is_append && fails()).then(|| response(status, &[]))
            },
        )
        .await;
        let bytes = content(1_500_000);
        let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(server.bytes(&completed.url).await, bytes, "{status}");
    }
}

#[tokio::test]
async fn chunks_are_halved_for_a_proxy_that_limits_bodies_and_the_limit_is_remembered() {
    let server = Server::with(
        |_| {},
        |request| {
            let length = request.headers().get("content-length");
            let length: u64 = length.map_or(0, |value| value.to_str().unwrap().parse().unwrap());
            (length > 1_000_000).then(|| response(413, &[("connection", "close")]))
        },
    )
    .await;
    let client = client();
    let reduced = Arc::new(Mutex::new(Vec::new()));
    let events = reduced.clone();
    let bytes = content(5_000_000);
    let upload = client
        .upload(server.endpoint(), Source::bytes(bytes.clone()))
        .on_event(move |event| {
            if let Event::ChunkSizeReduced { bytes } = event {
                events.lock().push(bytes);
            }
        });
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let last = *reduced.lock().last().unwrap();
    assert!(last <= 1_000_000 && last > 100_000, "{last}");
    let before = server.count("PATCH") as u64;
    let upload = client.upload(server.endpoint(), Source::bytes(bytes.clone()));
    in_time(upload.run()).await.unwrap();
    let needed = 5_000_000_u64.div_ceil(last);
    assert_eq!(server.count("PATCH") as u64 - before, needed);
}

#[tokio::test]
async fn a_body_that_no_size_makes_acceptable_is_rejected() {
    let server = Server::with(
        |_| {},
        |request| (request.method() == "PATCH").then(|| response(413, &[])),
    )
    .await;
    let upload = client().upload(server.endpoint(), Source::bytes(content(5_000_000)));
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(
        matches!(error, Error::Rejected(_)) && !error.is_retryable(),
        "{error}"
    );
    assert!(server.count("PATCH") < 12);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Random cuts, resets and lost responses, in any order and for every kind of upload.
    #[test]
    fn random_cuts_change_no_byte(
        cuts in proptest::collection::vec((0..4_u8, 500..900_000_u64), 1..12),
        size in 0..3_000_000_usize,
        chunk in prop_oneof![Just(None), (50_000..1_000_000_u64).prop_map(Some)],
        kind in 0..5_u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(in_time(async {
            let server = Server::start().await;
            let proxy = Proxy::start(server.address, move |number| match cuts.get(number) {
                None => Fault::None,
                Some((0, bytes)) => Fault::Close(*bytes),
                Some((1, bytes)) => Fault::Reset(*bytes),
                Some((2, _)) => Fault::LoseResponse,
                Some(_) => Fault::Refuse,
            })
            .await;
            let bytes = content(size);
            let protocol = if kind == 1 { Protocol::Draft } else { Protocol::Tus };
            let client = client_of(protocol);
            let source = match kind {
                2 => Source::stream(std::io::Cursor::new(bytes.clone()), None),
                _ => Source::bytes(bytes.clone()),
            };
            let mut upload = client.upload(proxy.endpoint(), source);
            if let Some(chunk) = chunk {
                upload = upload.chunk_size(ChunkSize::Fixed(chunk));
            }
            if kind == 3 {
                upload = upload.parallel(3);
            }
            if kind == 4 {
                upload = upload.checksum(landfall_client::Algorithm::SHA1);
            }
            let completed = upload.run().await.unwrap();
            assert_eq!(completed.length, size as u64);
            assert!(server.bytes(&completed.url).await == bytes, "other bytes");
        }));
    }
}
