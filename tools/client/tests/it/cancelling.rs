//! Futures that are dropped at any point, pauses and cancellation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use landfall_client::{Error, Event, FileFingerprints, Protocol, Source};

use crate::{builder, client, content, in_time, server::Server};

/// Polls a future so many times, then drops it.
async fn poll_times<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = Box::pin(future);
    let mut polls = 0;
    std::future::poll_fn(move |cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test]
async fn an_upload_that_is_dropped_at_any_point_resumes() {
    let bytes = content(2_500_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, &bytes).unwrap();
    for protocol in [Protocol::Tus, Protocol::Draft] {
        for parts in [1, 2] {
            let server = Server::start().await;
            let mut polls = 1;
            let mut drops = 0;
            // Each point at which a fresh run waits, and in later rounds those of resumed runs.
            let completed = in_time(async {
                loop {
                    let store = FileFingerprints::new(dir.path().join("records"));
                    let client = builder()
                        .protocol(protocol)
                        .fingerprints(store)
                        .build()
                        .unwrap();
                    let upload = client
                        .upload(server.endpoint(), Source::file(&path))
                        .parallel(parts);
                    match poll_times(upload.run(), polls).await {
                        Some(result) => return result.unwrap(),
                        None => drops += 1,
                    }
                    polls += 1;
                }
            })
            .await;
            assert!(drops > 3);
            assert!(server.bytes(&completed.url).await == bytes);
        }
    }
}

#[tokio::test]
async fn a_future_does_nothing_before_it_is_polled() {
    let server = Server::start().await;
    drop(client().upload(server.endpoint(), Source::bytes("a")).run());
    let mut never = Box::pin(
        client()
            .upload("http://127.0.0.1:1/", Source::bytes("a"))
            .run(),
    );
    let _ = never.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_paused_upload_sends_nothing_and_continues() {
    let server = Server::start().await;
    let bytes = content(4_000_000);
    for is_stream in [false, true] {
        let source = match is_stream {
            false => Source::bytes(bytes.clone()),
            true => Source::stream(std::io::Cursor::new(bytes.clone()), None),
        };
        let pauses = Arc::new(AtomicUsize::new(0));
        let count = pauses.clone();
        let upload = client()
            .upload(server.endpoint(), source)
            .rate_limit(8_000_000)
            .on_event(move |event| {
                if matches!(event, Event::Paused | Event::Continued) {
                    count.fetch_add(1, Relaxed);
                }
            });
        let control = upload.control();
        let task = tokio::spawn(upload.run());
        let begin = server.count("PATCH");
        while server.count("PATCH") == begin {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        control.pause();
        while pauses.load(Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let requests = server.seen().len();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!task.is_finished());
        assert_eq!(server.seen().len(), requests);
        control.resume();
        let completed = in_time(task).await.unwrap().unwrap();
        assert_eq!(pauses.load(Relaxed), 2);
        assert!(server.bytes(&completed.url).await == bytes);
    }
}

#[tokio::test]
async fn a_cancelled_upload_ends_even_if_it_is_paused() {
    let server = Server::start().await;
    for pauses in [false, true] {
        let upload = client()
            .upload(server.endpoint(), Source::bytes(content(2_000_000)))
            .rate_limit(100_000);
        let control = upload.control();
        let task = tokio::spawn(upload.run());
        tokio::time::sleep(Duration::from_millis(50)).await;
        if pauses {
            control.pause();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        control.cancel();
        control.resume();
        let error = in_time(task).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
    }
}
