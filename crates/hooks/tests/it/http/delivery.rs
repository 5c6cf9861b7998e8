//! Attempts, limits and connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use landfall_hooks::{HookName, HookResponse, Transport};
use landfall_hooks::{format::Format, http::Http};
use landfall_test_services::free_port;
use tokio::net::TcpListener;

use super::{
    http,
    receiver::{Act, Receiver, answer, json},
    sample, settings,
};

#[tokio::test]
async fn server_errors_and_connection_errors_are_retried() {
    let receiver = Receiver::start(|nth, _| match nth {
        0 => answer(503, "", "busy"),
        1 => Act::SayAndClose(String::new()),
        _ => json(r#"{"RejectUpload":true}"#),
    })
    .await;
    let response = http(receiver.url("/"))
        .deliver(&sample(HookName::PreCreate))
        .await;
    assert!(response.unwrap().reject_upload);
    let seen = receiver.seen();
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter()
            .all(|one| one.header("webhook-id") == seen[0].header("webhook-id"))
    );
}

#[tokio::test]
async fn retries_stop_after_the_last_attempt() {
    let receiver = Receiver::start(|_, _| answer(500, "", "broken")).await;
    for (attempts, expected) in [(0, 1), (1, 1), (3, 3)] {
        let before = receiver.seen().len();
        let mut settings = settings(receiver.url("/"));
        settings.attempts = attempts;
        let outcome = Http::new(settings)
            .unwrap()
            .deliver(&sample(HookName::PreFinish))
            .await;
        let failure = outcome.unwrap_err();
        assert_eq!(
            failure.message,
            "unexpected response code from hook endpoint (500): broken"
        );
        assert_eq!(receiver.seen().len() - before, expected);
    }
}

#[tokio::test]
async fn rejections_and_events_are_sent_once() {
    let receiver = Receiver::start(|_, received| match received.header("hook-name") {
        Some("pre-create") => answer(403, "", "no"),
        _ => answer(500, "", "broken"),
    })
    .await;
    let http = http(receiver.url("/"));
    assert!(
        http.deliver(&sample(HookName::PreCreate))
            .await
            .unwrap()
            .reject_upload
    );
    assert_eq!(receiver.seen().len(), 1);
    for hook in [
        HookName::PostCreate,
        HookName::PostFinish,
        HookName::PostTerminate,
    ] {
        let before = receiver.seen().len();
        assert!(http.deliver(&sample(hook)).await.is_err());
        assert_eq!(receiver.seen().len() - before, 1, "{hook}");
    }
    let before = receiver.seen().len();
    assert!(http.deliver(&sample(HookName::PostReceive)).await.is_err());
    assert_eq!(receiver.seen().len() - before, 3);
}

#[tokio::test]
async fn v1_forwards_the_last_server_error() {
    let receiver = Receiver::start(|_, _| answer(503, "X-Hook: a\r\n", "come back")).await;
    let mut settings = settings(receiver.url("/"));
    settings.format = Format::V1;
    let http = Http::new(settings).unwrap();
    let response = http.deliver(&sample(HookName::PreCreate)).await.unwrap();
    assert_eq!(receiver.seen().len(), 3);
    assert!(response.failed);
    assert_eq!(
        response.client_response,
        landfall::hook::ClientResponse::text(503, "come back\n")
    );
}

#[tokio::test]
async fn refused_connection_is_a_failure() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    for format in [Format::Auto, Format::V1, Format::V2] {
        let mut settings = settings(&url);
        settings.format = format;
        let http = Http::new(settings).unwrap();
        let failure = http
            .deliver(&sample(HookName::PreCreate))
            .await
            .unwrap_err();
        assert!(
            failure
                .message
                .starts_with("could not connect to the hook endpoint: "),
            "{failure}"
        );
        let failure = http.check().await.unwrap_err();
        assert!(
            failure.message.starts_with("could not connect"),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn check_connects() {
    let receiver = Receiver::start(|_, _| Act::Hang).await;
    http(receiver.url("/")).check().await.unwrap();
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn timeout_covers_all_attempts_and_delays() {
    let receiver = Receiver::start(|nth, _| match nth {
        0 => answer(500, "", "broken"),
        _ => Act::Hang,
    })
    .await;
    let mut settings = settings(receiver.url("/"));
    settings.timeout = Duration::from_millis(400);
    let begun = Instant::now();
    let failure = Http::new(settings)
        .unwrap()
        .deliver(&sample(HookName::PreCreate))
        .await;
    let took = begun.elapsed();
    let text = failure.unwrap_err().message;
    assert!(
        text.starts_with("the hook endpoint did not respond within 400ms; previous error: "),
        "{text}"
    );
    assert!(text.ends_with("(500): broken"), "{text}");
    assert!(
        took >= Duration::from_millis(400) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test]
async fn attempt_that_would_be_too_late_is_skipped() {
    let receiver = Receiver::start(|_, _| answer(500, "", "broken")).await;
    let mut settings = settings(receiver.url("/"));
    settings.backoff = Duration::MAX;
    let begun = Instant::now();
    let failure = Http::new(settings)
        .unwrap()
        .deliver(&sample(HookName::PreCreate))
        .await;
    assert!(failure.unwrap_err().message.ends_with("(500): broken"));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn slow_body_times_out() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let receiver = Receiver::start(move |_, _| Act::Say(head.to_owned())).await;
    let deliver = async |format| {
        let mut settings = settings(receiver.url("/"));
        settings.timeout = Duration::from_millis(1500);
        settings.format = format;
        Http::new(settings)
            .unwrap()
            .deliver(&sample(HookName::PreCreate))
            .await
    };
    for format in [Format::Auto, Format::V2] {
        let failure = deliver(format).await.unwrap_err();
        assert!(
            failure.message.contains("did not respond within 1.5s"),
            "{failure}"
        );
    }
    // Only the status counts there.
    assert_eq!(deliver(Format::V1).await.unwrap(), HookResponse::default());
}

#[tokio::test]
async fn truncated_body_is_a_failure() {
    let broken = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
    let receiver = Receiver::start(move |nth, _| match nth {
        0 | 1 => Act::SayAndClose(broken.to_owned()),
        _ => json(r#"{"RejectUpload":true}"#),
    })
    .await;
    let response = http(receiver.url("/"))
        .deliver(&sample(HookName::PreCreate))
        .await;
    assert!(response.unwrap().reject_upload);
    assert_eq!(receiver.seen().len(), 3);
}

/// With a length, in chunks, or reset; tusd 1 reads the body, too.
#[tokio::test]
async fn a_sender_that_dies_has_not_allowed() {
    for head in ["Content-Length: 22", "Transfer-Encoding: chunked"] {
        for (kind, start) in [
            ("text/plain", ""),
            ("text/plain", "2\r\nok"),
            ("application/json", "15\r\n{}"),
        ] {
            let cut = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{head}\r\n\r\n{start}");
            let receiver = Receiver::start(move |_, _| Act::SayAndClose(cut.clone())).await;
            for format in [Format::Auto, Format::V2, Format::V1] {
                for hook in [
                    HookName::PreCreate,
                    HookName::PreFinish,
                    HookName::PreAccess,
                ] {
                    let mut settings = settings(receiver.url("/"));
                    (settings.format, settings.attempts) = (format, 1);
                    let outcome = Http::new(settings).unwrap().deliver(&sample(hook)).await;
                    let failure = outcome.unwrap_err();
                    let what = "failed to read the hook endpoint's response";
                    assert!(failure.message.contains(what), "{failure}");
                }
            }
        }
    }
}

/// With `--hooks-failure-mode allow`, a failure would let the client in.
#[tokio::test]
async fn a_denial_by_status_needs_no_body() {
    let cut = "HTTP/1.1 403 Forbidden\r\nContent-Length: 22\r\n\r\n{";
    let receiver = Receiver::start(move |_, _| Act::SayAndClose(cut.to_owned())).await;
    for (format, is_rejection) in [(Format::Auto, true), (Format::V1, false)] {
        let mut settings = settings(receiver.url("/"));
        settings.format = format;
        let http = Http::new(settings).unwrap();
        let response = http.deliver(&sample(HookName::PreCreate)).await.unwrap();
        assert_eq!(
            (response.reject_upload, response.failed),
            (is_rejection, !is_rejection)
        );
        assert_eq!(response.client_response.status.unwrap(), 403);
    }
}

#[tokio::test]
async fn responses_in_any_framing_are_read() {
    const BODY: &str = r#"{"RejectUpload":true}"#;
    let (start, end) = BODY.split_at(5);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{start}\r\n{:x};a=b\r\n{end}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        start.len(),
        end.len(),
    );
    let old = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{BODY}");
    let ended = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{BODY}");
    let interim = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\ncontent-type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let receiver = Receiver::start(move |nth, _| match nth {
        0 => Act::Say(chunked.clone()),
        1 => Act::SayAndClose(old.clone()),
        2 => Act::SayAndClose(ended.clone()),
        _ => Act::Say(interim.clone()),
    })
    .await;
    let mut settings = settings(receiver.url("/"));
    settings.format = Format::V2;
    settings.attempts = 1;
    let http = Http::new(settings).unwrap();
    for shape in [
        "chunked",
        "HTTP/1.0",
        "ended by close",
        "after an interim answer",
    ] {
        let response = http.deliver(&sample(HookName::PreCreate)).await;
        assert!(response.unwrap().reject_upload, "{shape}");
    }
}

#[tokio::test]
async fn responses_above_the_limit_are_not_read() {
    let large = format!(r#"{{{}"RejectUpload":true}}"#, " ".repeat(5120));
    let receiver = Receiver::start(move |_, _| json(&large)).await;
    for format in [Format::Auto, Format::V2] {
        let mut settings = settings(receiver.url("/"));
        settings.format = format;
        let http = Http::new(settings).unwrap();
        let failure = http
            .deliver(&sample(HookName::PreCreate))
            .await
            .unwrap_err();
        assert_eq!(
            failure.message,
            "hook response exceeded maximum size of 5120 bytes"
        );
    }
    assert_eq!(receiver.seen().len(), 2);
    let mut settings = settings(receiver.url("/"));
    settings.size_limit = 6000;
    let http = Http::new(settings).unwrap();
    let response = http.deliver(&sample(HookName::PreCreate)).await.unwrap();
    assert!(response.reject_upload);
}

#[tokio::test]
async fn endless_ignored_body_is_dropped() {
    let endless = format!(
        "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(40)
    );
    let receiver = Receiver::start(move |_, _| Act::Say(endless.clone())).await;
    let mut settings = settings(receiver.url("/"));
    settings.format = Format::V1;
    let http = Http::new(settings).unwrap();
    let response = http.deliver(&sample(HookName::PreCreate)).await.unwrap();
    assert_eq!(response.client_response.body.unwrap().len(), (1 << 20) + 1);
}

#[tokio::test]
async fn connections_are_reused() {
    let receiver = Receiver::start(|_, _| json("{}")).await;
    let http = http(receiver.url("/"));
    for _ in 0..5 {
        http.deliver(&sample(HookName::PreCreate)).await.unwrap();
    }
    assert!(receiver.seen().iter().all(|one| one.connection == 0));
}

#[tokio::test]
async fn closed_connection_is_replaced_without_a_duplicate() {
    // The server closes without announcing it.
    let receiver = Receiver::start(|_, _| {
        Act::SayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".into())
    })
    .await;
    let mut settings = settings(receiver.url("/"));
    settings.attempts = 1;
    let http = Http::new(settings).unwrap();
    for _ in 0..20 {
        http.deliver(&sample(HookName::PreCreate)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(receiver.seen().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_are_limited() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (running, record) = (now.clone(), most.clone());
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (running, record) = (running.clone(), record.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |_| {
                    let (running, record) = (running.clone(), record.clone());
                    async move {
                        record.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok::<_, hyper::Error>(hyper::Response::new(String::new()))
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            });
        }
    });
    let mut settings = settings(url);
    settings.max_concurrency = 3;
    let http = Arc::new(Http::new(settings).unwrap());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let http = http.clone();
        calls.spawn(async move { http.deliver(&sample(HookName::PreCreate)).await.unwrap() });
    }
    assert_eq!(calls.join_all().await.len(), 30);
    assert_eq!(most.load(Ordering::SeqCst), 3);
    serving.abort();
}

#[test]
fn connections_belong_to_their_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let home = runtime();
    let receiver = home.block_on(Receiver::start(|_, _| json("{}")));
    let mut settings = settings(receiver.url("/"));
    settings.attempts = 1;
    let http = Http::new(settings).unwrap();
    let serving = std::thread::scope(|scope| {
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        let server = scope.spawn(move || {
            let _ = home.block_on(wait);
            home
        });
        for _ in 0..3 {
            let passing = runtime();
            passing
                .block_on(http.deliver(&sample(HookName::PreCreate)))
                .unwrap();
        }
        done.send(()).unwrap();
        server.join().unwrap()
    });
    assert_eq!(receiver.seen().len(), 3);
    drop(serving);
}
