//! Downloads: ranges, resumption, digests.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use landfall_client::{Error, Event, Source};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWrite;
use url::Url;

use crate::{
    builder, client, content, in_time,
    proxy::{Fault, Proxy},
    server::{Server, response},
};

/// A writer whose bytes a test can read.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        // Partial writes.
        let size = bytes.len().min(10_007);
        self.0.lock().extend_from_slice(&bytes[..size]);
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn stored(server: &Server, bytes: &Bytes) -> Url {
    let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
    in_time(upload.run()).await.unwrap().url
}

/// Returns the URL through a proxy.
fn through(proxy: &Proxy, url: &Url) -> Url {
    let mut url = url.clone();
    url.set_port(Some(proxy.address.port())).unwrap();
    url
}

fn entries(dir: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn files_are_downloaded_in_one_or_several_ranges() {
    let server = Server::start().await;
    for size in [0, 1, 1_048_576, 1_048_577, 9_000_001] {
        let bytes = content(size);
        let url = stored(&server, &bytes).await;
        for parallel in [1, 4] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let download = client().download(url.as_str(), &path).parallel(parallel);
            let done = in_time(download.run()).await.unwrap();
            assert_eq!(
                (done.length, done.bytes_received),
                (size as u64, size as u64)
            );
            assert!(std::fs::read(&path).unwrap() == bytes);
            assert_eq!(entries(&dir), ["file"]);
        }
        let memory = Memory::default();
        let done = in_time(client().download_to(url.as_str(), memory.clone()).run())
            .await
            .unwrap();
        assert_eq!(done.length, size as u64);
        assert!(*memory.0.lock() == bytes);
    }
}

#[tokio::test]
async fn interrupted_downloads_continue() {
    let server = Server::start().await;
    let bytes = content(4_000_000);
    let url = stored(&server, &bytes).await;
    // Cuts after the bytes of requests, so that many small requests are made over few connections.
    for parallel in [1, 3] {
        let proxy = Proxy::start(server.address, |number| match number % 3 {
            2 => Fault::None,
            _ => Fault::CutResponse(600_000),
        })
        .await;
        let url = through(&proxy, &url);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let download = client().download(url.as_str(), &path).parallel(parallel);
        let done = in_time(download.run()).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        // What had arrived was not requested again.
        assert_eq!(done.bytes_received, 4_000_000);
        let memory = Memory::default();
        let done = in_time(client().download_to(url.as_str(), memory.clone()).run())
            .await
            .unwrap();
        assert!(*memory.0.lock() == bytes);
        assert_eq!(done.bytes_received, 4_000_000);
    }
}

#[tokio::test]
async fn another_run_continues_and_a_changed_file_starts_anew() {
    let server = Server::start().await;
    let bytes = content(30_000_000);
    let url = stored(&server, &bytes).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for changes in [false, true] {
        let received = Arc::new(Mutex::new(0));
        let slow = builder().rate_limit(40_000_000).build().unwrap();
        let seen = received.clone();
        let download = slow
            .download(url.as_str(), &path)
            .parallel(2)
            .on_event(move |event| {
                if let Event::Progress(progress) = event {
                    *seen.lock() = progress.acknowledged;
                }
            });
        let mut run = Box::pin(download.run());
        while *received.lock() < 18_000_000 {
            let ended = tokio::time::timeout(Duration::from_millis(1), &mut run).await;
            assert!(ended.is_err(), "the download ended");
        }
        drop(run);
        assert!(!path.exists());
        if changes {
            let state = dir.path().join("file.part-state");
            let text = std::fs::read_to_string(&state).unwrap();
            std::fs::write(&state, text.replace("\\\"", "\\\"0")).unwrap();
        }
        let done = in_time(client().download(url.as_str(), &path).run())
            .await
            .unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        match changes {
            false => assert!(done.bytes_received < 20_000_000, "{done:?}"),
            true => assert!(done.bytes_received >= 30_000_000, "{done:?}"),
        }
        std::fs::remove_file(&path).unwrap();
        assert!(entries(&dir).is_empty());
    }
}

#[tokio::test]
async fn the_digest_is_verified() {
    let bytes = content(3_000_000);
    let digest = |bytes: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(bytes));
        format!("sha-256=:{text}:")
    };
    for (text, is_valid) in [(digest(&bytes), true), (digest(b"other"), false)] {
        let server = Server::start().await;
        let client = builder()
            .protocol(landfall_client::Protocol::Draft)
            .build()
            .unwrap();
        let upload = client.upload(server.endpoint(), Source::bytes(bytes.clone()));
        let value = digest(&bytes).parse().unwrap();
        let upload = upload.header("repr-digest".parse().unwrap(), value);
        let url = in_time(upload.run()).await.unwrap().url;
        // A server whose file has changed on the disk.
        let target = url.to_string();
        let claim = text.clone();
        let broken = Server::with(
            |_| {},
            move |_| {
                let headers = [("repr-digest", claim.as_str()), ("etag", "\"a\"")];
                Some(response(200, &headers).map(|_| "not these bytes"))
            },
        )
        .await;
        let source = if is_valid { target } else { broken.endpoint() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let result = in_time(client.download(&source, &path).run()).await;
        let memory = Memory::default();
        let written = in_time(client.download_to(&source, memory.clone()).run()).await;
        match is_valid {
            true => {
                assert!(result.unwrap().verified && written.unwrap().verified);
                assert!(std::fs::read(&path).unwrap() == bytes && *memory.0.lock() == bytes);
            }
            false => {
                assert!(matches!(result, Err(Error::DigestMismatch)), "{result:?}");
                assert!(matches!(written, Err(Error::DigestMismatch)), "{written:?}");
                assert!(entries(&dir).is_empty());
            }
        }
    }
}

#[tokio::test]
async fn missing_files_and_unwritable_targets_are_errors() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}unknown", server.endpoint());
    let error = in_time(client().download(&url, dir.path().join("a")).run()).await;
    assert!(matches!(error, Err(Error::Gone(_))), "{error:?}");
    let error = in_time(client().download(&url, dir.path().join("no/a")).run()).await;
    assert!(matches!(error, Err(Error::Target(_))), "{error:?}");
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start_again() {
    let server = Server::with(|_| {}, |_| Some(response(200, &[]).map(|_| "whole"))).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let done = in_time(
        client()
            .download(server.endpoint(), &path)
            .parallel(3)
            .run(),
    )
    .await;
    assert_eq!(done.unwrap().length, 5);
    assert_eq!(std::fs::read(&path).unwrap(), b"whole");
}
