//! Sources that are read once.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use landfall_client::{ChunkSize, Error, Protocol, Source};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};

use crate::{
    client, client_of, content, in_time,
    proxy::{Fault, Proxy},
    server::{Server, response},
};

/// Yields its bytes in pieces of growing size.
struct Pieces(Bytes, usize);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.1 = self.1 * 2 % 30_011 + 1;
        let size = self.1.min(self.0.len()).min(buffer.remaining());
        let piece = self.0.split_to(size);
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn streams_of_known_and_unknown_length_are_uploaded() {
    for protocol in [Protocol::Tus, Protocol::Draft] {
        let server = Server::start().await;
        for size in [0, 1, 1_000_000, 3_000_000, 3_000_001] {
            for is_known in [false, true] {
                let bytes = content(size);
                let length = is_known.then_some(size as u64);
                let upload = client_of(protocol)
                    .upload(
                        server.endpoint(),
                        Source::stream(Pieces(bytes.clone(), 1), length),
                    )
                    .chunk_size(ChunkSize::Fixed(1_000_000));
                let completed = in_time(upload.run()).await.unwrap();
                assert_eq!(completed.length, size as u64);
                assert!(
                    server.bytes(&completed.url).await == bytes,
                    "{size} {is_known}"
                );
            }
        }
    }
}

#[tokio::test]
async fn interrupted_streams_resume_from_memory() {
    for protocol in [Protocol::Tus, Protocol::Draft] {
        let server = Server::start().await;
        let proxy = Proxy::start(server.address, |_| Fault::Reset(300_000)).await;
        let bytes = content(4_000_000);
        let upload = client_of(protocol)
            .upload(
                proxy.endpoint(),
                Source::stream(Pieces(bytes.clone(), 7), None),
            )
            .chunk_size(ChunkSize::Fixed(1_000_000));
        let completed = in_time(upload.run()).await.unwrap();
        assert!(server.bytes(&completed.url).await == bytes);
    }
}

#[tokio::test]
async fn streams_of_another_length_are_errors() {
    let server = Server::start().await;
    for length in [1_999_999, 2_000_001] {
        let source = Source::stream(std::io::Cursor::new(content(2_000_000)), Some(length));
        let error = in_time(client().upload(server.endpoint(), source).run()).await;
        assert!(matches!(error, Err(Error::SourceChanged(_))), "{error:?}");
    }
}

#[tokio::test]
async fn bytes_of_a_slow_stream_arrive_before_the_chunk_is_full() {
    let server = Server::start().await;
    let (mut writer, reader) = tokio::io::duplex(64);
    let upload = client().upload(server.endpoint(), Source::stream(reader, None));
    let task = tokio::spawn(upload.run());
    writer.write_all(b"first ").await.unwrap();
    while server.count("PATCH") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.write_all(b"last").await.unwrap();
    drop(writer);
    let completed = in_time(task).await.unwrap().unwrap();
    assert_eq!(server.bytes(&completed.url).await, "first last");
}

#[tokio::test]
async fn a_stream_cannot_be_started_anew() {
    let server = Server::with(
        |_| {},
        |request| {
            let is_later = request
                .headers()
                .get("upload-offset")
                .is_some_and(|at| at != "0");
            is_later.then(|| response(404, &[]))
        },
    )
    .await;
    let source = Source::stream(std::io::Cursor::new(content(3_000_000)), None);
    let upload = client().upload(server.endpoint(), source);
    let upload = upload.chunk_size(ChunkSize::Fixed(1_000_000));
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(matches!(error, Error::Gone(_)), "{error}");
}

#[tokio::test]
async fn unknown_lengths_need_the_extension() {
    let server = Server::with(
        |_| {},
        |request| (request.method() == "OPTIONS").then(|| response(404, &[])),
    )
    .await;
    let source = Source::stream(std::io::Cursor::new(content(9_000_000)), None);
    let error = in_time(client().upload(server.endpoint(), source).run()).await;
    assert!(matches!(error, Err(Error::Unsupported(_))), "{error:?}");
}
