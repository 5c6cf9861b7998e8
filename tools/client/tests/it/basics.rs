//! Uploads over connections that work.

use std::sync::Arc;

use landfall_client::{Algorithm, ChunkSize, Error, Event, HttpVersion, Protocol, Source};
use parking_lot::Mutex;

use crate::{builder, client, client_of, content, in_time, server::Server};

const PROTOCOLS: [Protocol; 2] = [Protocol::Tus, Protocol::Draft];

#[tokio::test]
async fn a_small_upload_is_one_request() {
    for protocol in PROTOCOLS {
        let server = Server::start().await;
        let client = client_of(protocol);
        for size in [1, 5, 1024 * 1024] {
            let bytes = content(size);
            let upload = client.upload(server.endpoint(), Source::bytes(bytes.clone()));
            let completed = in_time(upload.run()).await.unwrap();
            assert_eq!(completed.length, size as u64);
            assert_eq!(completed.bytes_sent, size as u64);
            assert_eq!(server.bytes(&completed.url).await, bytes);
        }
        let methods: Vec<_> = server.seen().into_iter().map(|seen| seen.method).collect();
        assert_eq!(
            methods,
            ["OPTIONS", "POST", "GET", "POST", "GET", "POST", "GET"]
        );
    }
}

#[tokio::test]
async fn an_empty_upload_is_complete() {
    for protocol in PROTOCOLS {
        let server = Server::start().await;
        let client = client_of(protocol);
        let upload = client.upload(server.endpoint(), Source::bytes(""));
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(completed.length, 0);
        let status = client.inspect(completed.url.as_str()).await.unwrap();
        assert!(status.complete, "{status:?}");
    }
}

#[tokio::test]
async fn a_large_file_is_created_and_sent_by_one_append() {
    for protocol in PROTOCOLS {
        let server = Server::start().await;
        let bytes = content(9_000_001);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("größe.bin");
        std::fs::write(&path, &bytes).unwrap();
        let client = client_of(protocol);
        let upload = client
            .upload(server.endpoint(), Source::file(&path))
            .metadata("filename", "größe.bin")
            .metadata("filetype", "image/png");
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(server.bytes(&completed.url).await, bytes);
        assert_eq!((server.count("POST"), server.count("PATCH")), (1, 1));
        let status = client.inspect(completed.url.as_str()).await.unwrap();
        assert!(status.complete);
        assert_eq!(status.offset, 9_000_001);
        if protocol == Protocol::Tus {
            assert_eq!(
                status.metadata.get("filename"),
                Some("größe.bin".as_bytes())
            );
            assert_eq!(status.metadata.get("filetype"), Some(&b"image/png"[..]));
        }
    }
}

#[tokio::test]
async fn chunks_have_the_given_size() {
    for protocol in PROTOCOLS {
        let server = Server::start().await;
        let bytes = content(2_500_000);
        let upload = client_of(protocol)
            .upload(server.endpoint(), Source::bytes(bytes.clone()))
            .chunk_size(ChunkSize::Fixed(1_000_000));
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(server.bytes(&completed.url).await, bytes);
        let seen = server.seen();
        let lengths: Vec<_> = (seen.iter().filter(|seen| seen.method == "PATCH"))
            .map(|seen| seen.header("content-length").unwrap())
            .collect();
        assert_eq!(lengths, ["1000000", "1000000", "500000"]);
    }
}

#[tokio::test]
async fn checksums_are_sent_in_the_head_or_the_trailer() {
    let server = Server::start().await;
    let bytes = content(20_000_000);
    for algorithm in Algorithm::ALL {
        let upload = client()
            .upload(server.endpoint(), Source::bytes(bytes.clone()))
            .checksum(*algorithm);
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(server.bytes(&completed.url).await, bytes, "{algorithm}");
    }
    let patches = || {
        server
            .seen()
            .into_iter()
            .filter(|seen| seen.method == "PATCH")
    };
    assert!(patches().all(|seen| seen.header("upload-checksum").is_some()));
    let before = patches().count();
    let upload = client()
        .upload(server.endpoint(), Source::bytes(bytes.clone()))
        .checksum_trailer(Algorithm::SHA1);
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let mut later = patches().skip(before);
    assert!(later.all(|seen| seen.header("trailer") == Some("Upload-Checksum")));
}

#[tokio::test]
async fn the_draft_has_content_digests() {
    let server = Server::start().await;
    let sha256 = Algorithm::by_name("sha256").unwrap();
    let client = client_of(Protocol::Draft);
    let upload = client
        .upload(server.endpoint(), Source::bytes(content(3_000_000)))
        .checksum(sha256);
    in_time(upload.run()).await.unwrap();
    let seen = server.seen();
    let patch = seen.iter().find(|seen| seen.method == "PATCH").unwrap();
    assert!(
        patch
            .header("content-digest")
            .unwrap()
            .starts_with("sha-256=:")
    );
    let upload = client
        .upload(server.endpoint(), Source::bytes("a"))
        .checksum(Algorithm::SHA1);
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
}

#[tokio::test]
async fn the_draft_is_used_where_there_is_no_tus() {
    // A server of the draft alone.
    let server = Server::with(
        |_| {},
        |request| {
            let is_tus = request.headers().contains_key("tus-resumable");
            match request.method().as_str() {
                "OPTIONS" => Some(crate::server::response(
                    200,
                    &[("upload-limit", "max-size=10000000")],
                )),
                _ if is_tus => Some(crate::server::response(400, &[])),
                _ => None,
            }
        },
    )
    .await;
    let bytes = content(2_000_000);
    let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let upload = client().upload(server.endpoint(), Source::bytes(content(10_000_001)));
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
}

#[tokio::test]
async fn an_older_version_of_the_draft_is_found() {
    let accepted = "6".parse().unwrap();
    let server = Server::with(|config| config.interop_versions = accepted, |_| None).await;
    let bytes = content(2_000_000);
    let upload = client_of(Protocol::Draft).upload(server.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let seen = server.seen();
    let patch = seen.iter().find(|seen| seen.method == "PATCH").unwrap();
    assert_eq!(patch.header("upload-draft-interop-version"), Some("6"));
}

#[tokio::test]
async fn requests_have_at_most_the_content_that_the_draft_allows() {
    let server = Server::with(
        |config| config.limits.max_append_size = Some(700_000),
        |_| None,
    )
    .await;
    let bytes = content(2_000_000);
    let upload = client_of(Protocol::Draft).upload(server.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    assert_eq!((server.count("POST"), server.count("PATCH")), (1, 3));
}

#[tokio::test]
async fn deferred_lengths_are_declared_at_the_end() {
    let server = Server::start().await;
    let bytes = content(3_000_000);
    let upload = client()
        .upload(server.endpoint(), Source::bytes(bytes.clone()))
        .deferred_length(true)
        .chunk_size(ChunkSize::Fixed(1_000_000));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let seen = server.seen();
    let lengths = seen.iter().filter_map(|seen| seen.header("upload-length"));
    assert_eq!(lengths.collect::<Vec<_>>(), ["3000000"]);
}

#[tokio::test]
async fn capabilities_are_those_of_the_server() {
    let server = Server::with(|config| config.limits.max_size = Some(1 << 30), |_| None).await;
    let found = client().options(server.endpoint()).await.unwrap();
    assert!(found.tus && found.has("concatenation") && found.has("checksum-trailer"));
    assert_eq!(found.max_size, Some(1 << 30));
    assert_eq!(found.draft.unwrap().max_size, Some(1 << 30));
    assert_eq!(found.checksum_algorithms, Algorithm::ALL);
}

#[tokio::test]
async fn terminated_uploads_are_gone() {
    for protocol in PROTOCOLS {
        let server = Server::start().await;
        let client = client_of(protocol);
        let upload = client.upload(server.endpoint(), Source::bytes("abc"));
        let url = in_time(upload.run()).await.unwrap().url;
        client.terminate(url.as_str()).await.unwrap();
        let error = client.inspect(url.as_str()).await.unwrap_err();
        assert!(
            matches!(error, Error::Gone(_)) && !error.is_retryable(),
            "{error}"
        );
        client.terminate(url.as_str()).await.unwrap();
    }
}

#[tokio::test]
async fn events_end_with_the_whole_progress() {
    let server = Server::start().await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let upload = client()
        .upload(server.endpoint(), Source::bytes(content(3_000_000)))
        .on_event(move |event| seen.lock().push(event));
    in_time(upload.run()).await.unwrap();
    let events = events.lock();
    assert!(
        matches!(events.first(), Some(Event::Created { .. })),
        "{events:?}"
    );
    let Some(Event::Progress(last)) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((last.bytes, last.acknowledged), (3_000_000, 3_000_000));
    assert_eq!(last.total, Some(3_000_000));
}

#[tokio::test]
async fn the_rate_limit_is_kept() {
    let server = Server::start().await;
    let start = std::time::Instant::now();
    let upload = client()
        .upload(server.endpoint(), Source::bytes(content(1_200_000)))
        .rate_limit(2_000_000);
    in_time(upload.run()).await.unwrap();
    // The first tenth of a second is not delayed.
    assert!(start.elapsed().as_millis() >= 400, "{:?}", start.elapsed());
}

#[tokio::test]
async fn several_uploads_share_connections() {
    let server = Server::start().await;
    let client = client();
    let uploads = (0..50).map(|number| {
        let upload = client.upload(server.endpoint(), Source::bytes(content(1000 + number)));
        async move { upload.run().await.unwrap().length }
    });
    let lengths = in_time(futures_util::future::join_all(uploads)).await;
    assert_eq!(lengths, (1000..1050).collect::<Vec<_>>());
}

#[tokio::test]
async fn credentials_are_renewed_and_stay_with_the_endpoint() {
    let server = Server::with(
        |_| {},
        |request| {
            let value = request.headers().get("authorization");
            let is_valid = value.is_some_and(|value| value == "Bearer 2");
            (!is_valid && request.method() != "GET").then(|| crate::server::response(401, &[]))
        },
    )
    .await;
    let client = builder()
        .authentication(|rejected| async move {
            let next = if rejected.is_some() {
                "Bearer 2"
            } else {
                "Bearer 1"
            };
            Ok(next.parse()?)
        })
        .build()
        .unwrap();
    let bytes = content(2_000_000);
    let upload = client.upload(server.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let used: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.header("authorization").map(str::to_owned))
        .collect();
    let rejected = used.iter().flatten().filter(|value| *value == "Bearer 1");
    assert_eq!(rejected.count(), 1, "{used:?}");

    // Another host gets neither credentials nor headers.
    let other = Server::start().await;
    let location = format!("http://{}/files/unknown", other.address);
    let redirecting = Server::with(
        |_| {},
        move |request| {
            let headers = [("location", location.as_str()), ("tus-resumable", "1.0.0")];
            (request.method() == "POST").then(|| crate::server::response(201, &headers))
        },
    )
    .await;
    let upload = client
        .upload(redirecting.endpoint(), Source::bytes(content(2_000_000)))
        .header("x-secret".parse().unwrap(), "1".parse().unwrap());
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(matches!(error, Error::Gone(_)), "{error}");
    assert!(
        redirecting
            .seen()
            .iter()
            .all(|seen| seen.header("x-secret").is_some())
    );
    assert!(!other.seen().is_empty());
    let leaked = |seen: &crate::server::Seen| {
        seen.header("authorization").is_some() || seen.header("x-secret").is_some()
    };
    assert!(!other.seen().iter().any(leaked));
}

#[tokio::test]
async fn uploads_pass_over_http_2() {
    let server = Server::start().await;
    let client = builder().http_version(HttpVersion::Http2).build().unwrap();
    let bytes = content(5_000_000);
    let upload = client
        .upload(server.endpoint(), Source::bytes(bytes.clone()))
        .parallel(2)
        .checksum_trailer(Algorithm::SHA1);
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let seen = server.seen();
    assert!(
        seen.iter()
            .all(|seen| seen.version == http::Version::HTTP_2 || seen.method == "GET")
    );
}

#[tokio::test]
async fn redirects_keep_method_and_content() {
    let target = Server::start().await;
    let endpoint = target.endpoint();
    let server = Server::with(
        |_| {},
        move |_| Some(crate::server::response(308, &[("location", &endpoint)])),
    )
    .await;
    let bytes = content(1000);
    let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(target.bytes(&completed.url).await, bytes);
}
