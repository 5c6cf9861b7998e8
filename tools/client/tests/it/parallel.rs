//! Parallel uploads by concatenation.

use landfall_client::{Event, Source};

use crate::{
    client, content, in_time,
    proxy::{Fault, Proxy},
    server::{Server, response},
};

#[tokio::test]
async fn parts_are_uploaded_and_concatenated() {
    let server = Server::start().await;
    let bytes = content(10_000_003);
    let upload = client()
        .upload(server.endpoint(), Source::bytes(bytes.clone()))
        .metadata("filename", "a")
        .parallel(4);
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(completed.length, 10_000_003);
    assert_eq!(server.bytes(&completed.url).await, bytes);
    let seen = server.seen();
    let concats: Vec<_> = seen
        .iter()
        .filter_map(|seen| seen.header("upload-concat"))
        .collect();
    assert_eq!(concats[..4], ["partial"; 4]);
    assert!(
        concats[4].starts_with("final;http://") && concats.len() == 5,
        "{concats:?}"
    );
}

#[tokio::test]
async fn parts_are_created_without_content_so_that_they_can_resume() {
    let server = Server::start().await;
    let bytes = content(4 << 20);
    let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
    let completed = in_time(upload.parallel(4).run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    assert_eq!(server.count("PATCH"), 4);
}

#[tokio::test]
async fn parts_resume_each_at_its_offset() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address, |_| Fault::Reset(400_000)).await;
    let bytes = content(6_000_000);
    let upload = client()
        .upload(proxy.endpoint(), Source::bytes(bytes.clone()))
        .parallel(4);
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
}

#[tokio::test]
async fn one_upload_is_made_where_parts_are_not_possible() {
    let without = Server::with(|config| config.disable_concatenation = true, |_| None).await;
    let with = Server::start().await;
    for (server, size) in [(&without, 6_000_000), (&with, 1_500_000)] {
        let bytes = content(size);
        let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
        let completed = in_time(upload.parallel(4).run()).await.unwrap();
        assert_eq!(server.bytes(&completed.url).await, bytes);
        assert_eq!(server.count("POST"), 1);
    }
}

#[tokio::test]
async fn a_failed_concatenation_is_repeated() {
    let fails = crate::server::first(3);
    let server = Server::with(
        |_| {},
        move |request| {
            let concat = request.headers().get("upload-concat");
            let is_final = concat.is_some_and(|value| value.as_bytes().starts_with(b"final"));
            (is_final && fails()).then(|| response(502, &[]))
        },
    )
    .await;
    let bytes = content(3_000_000);
    let retries = std::sync::Arc::new(parking_lot::Mutex::new(0));
    let count = retries.clone();
    let upload = client()
        .upload(server.endpoint(), Source::bytes(bytes.clone()))
        .parallel(2)
        .on_event(move |event| {
            if let Event::Retrying { .. } = event {
                *count.lock() += 1;
            }
        });
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, bytes);
    assert_eq!(*retries.lock(), 3);
}
