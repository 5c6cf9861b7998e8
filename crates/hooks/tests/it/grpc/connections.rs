//! Connections: late servers, interruptions and limits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use landfall_hooks::Transport;
use landfall_hooks::grpc::{Grpc, Proxies};
use landfall_test_services::{free_port, until};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time,
};
use tonic::Status;

use super::{generated::HookResponse, message, server::Server, settings};

fn stop() -> HookResponse {
    HookResponse {
        stop_upload: true,
        ..HookResponse::default()
    }
}

#[tokio::test]
async fn calls_share_one_connection() {
    let server = Server::answering(stop()).await;
    let grpc = Arc::new(Grpc::new(settings(server.target())).unwrap());
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let grpc = grpc.clone();
        calls.spawn(async move { grpc.deliver(&message()).await.unwrap().stop_upload });
    }
    assert!(calls.join_all().await.into_iter().all(|stopped| stopped));
    assert_eq!(server.calls().len(), 100);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_proxy_tunnels_the_connection() {
    let server = Server::answering(stop()).await;
    let target = ("127.0.0.1", server.port);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let (seen, head) = oneshot::channel();
    let tunnel = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut client, mut head) = (BufReader::new(client), String::new());
        while client.read_line(&mut head).await.unwrap() > 2 {}
        seen.send(head).unwrap();
        let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
        client.write_all(answer).await.unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    });
    let mut settings = settings("grpc.invalid:50051");
    settings.proxies = Proxies::new("", &format!("user:word@{proxy}"), "");
    let grpc = Grpc::new(settings).unwrap();
    assert!(grpc.deliver(&message()).await.unwrap().stop_upload);
    let head = head.await.unwrap().to_lowercase();
    assert!(
        head.starts_with("connect grpc.invalid:50051 http/1.1"),
        "{head}"
    );
    assert!(
        head.contains("proxy-authorization: basic dxnlcjp3b3jk"),
        "{head}"
    );
    tunnel.abort();
}

#[tokio::test]
async fn server_may_start_later() {
    let port = free_port();
    let grpc = Grpc::new(settings(format!("127.0.0.1:{port}"))).unwrap();
    let failure = grpc.deliver(&message()).await.unwrap_err();
    assert!(failure.message.starts_with("gRPC Unavailable"), "{failure}");
    assert!(failure.message.contains("refused"), "{failure}");
    assert!(grpc.check().await.is_err());

    let server = Server::on(port, |_| Box::pin(async { Ok(stop()) })).await;
    assert!(grpc.deliver(&message()).await.unwrap().stop_upload);
    grpc.check().await.unwrap();
    drop(server);
}

#[tokio::test]
async fn connects_again_after_a_restart() {
    let mut server = Server::answering(stop()).await;
    let port = server.port;
    let grpc = Grpc::new(settings(server.target())).unwrap();
    for _ in 0..3 {
        grpc.deliver(&message()).await.unwrap();
        server.stop().await;
        server = Server::on(port, |_| Box::pin(async { Ok(stop()) })).await;
    }
    grpc.deliver(&message()).await.unwrap();
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn interrupted_call_is_retried() {
    let first = Server::mute().await;
    let port = first.port;
    let grpc = Arc::new(Grpc::new(settings(first.target())).unwrap());
    let call = tokio::spawn({
        let grpc = grpc.clone();
        async move { grpc.deliver(&message()).await }
    });
    until(async || !first.calls().is_empty()).await;
    first.stop().await;
    let second = Server::on(port, |_| Box::pin(async { Ok(stop()) })).await;
    assert!(call.await.unwrap().unwrap().stop_upload);
    let metadata = &second.calls()[0].metadata;
    assert!(metadata.contains_key("x-retry-attempty"));
}

#[tokio::test]
async fn connection_works_after_its_runtime_ended() {
    let server = Server::answering(stop()).await;
    let grpc = Arc::new(Grpc::new(settings(server.target())).unwrap());
    for _ in 0..2 {
        let grpc = grpc.clone();
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
        };
        let delivered = std::thread::spawn(move || runtime().block_on(grpc.deliver(&message())));
        let delivered = tokio::task::spawn_blocking(move || delivered.join().unwrap());
        assert!(delivered.await.unwrap().unwrap().stop_upload);
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn concurrent_calls_are_limited() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::on(free_port(), {
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Ok(stop())
            })
        }
    })
    .await;
    let mut settings = settings(server.target());
    settings.max_concurrency = 3;
    let grpc = Arc::new(Grpc::new(settings).unwrap());
    let mut calls = JoinSet::new();
    for _ in 0..7 {
        let grpc = grpc.clone();
        calls.spawn(async move { grpc.deliver(&message()).await.unwrap() });
    }
    for (opened, seen) in [(0, 3), (1, 4), (2, 6)] {
        gate.add_permits(opened);
        until(async || server.calls().len() >= seen).await;
        time::sleep(Duration::from_millis(50)).await;
        assert_eq!(server.calls().len(), seen);
    }
    gate.add_permits(4);
    assert_eq!(calls.join_all().await.len(), 7);
}

#[tokio::test]
async fn waiting_for_a_permit_times_out() {
    let server = Server::start(|_| Err(Status::unavailable("later"))).await;
    let mut settings = settings(server.target());
    settings.max_concurrency = 1;
    settings.backoff = Duration::from_secs(600);
    settings.timeout = Some(Duration::from_secs(2));
    let grpc = Arc::new(Grpc::new(settings).unwrap());
    let call = || {
        let grpc = grpc.clone();
        tokio::spawn(async move { grpc.deliver(&message()).await })
    };
    let first = call();
    until(async || !server.calls().is_empty()).await;
    let late = grpc.deliver(&message()).await.unwrap_err();
    assert_eq!(
        late.message,
        "gRPC DeadlineExceeded: too many calls are waiting"
    );
    assert_eq!(server.calls().len(), 1);
    // A dropped call releases its permit.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let second = call();
    until(async || server.calls().len() >= 2).await;
    second.abort();
}

#[tokio::test]
async fn peer_without_http2_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let peer = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream
                .try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        }
    });
    let mut settings = settings(target);
    settings.attempts = 2;
    let grpc = Grpc::new(settings).unwrap();
    let failure = grpc.deliver(&message()).await.unwrap_err();
    assert!(failure.message.starts_with("gRPC "), "{failure}");
    peer.abort();
}

#[tokio::test]
async fn unix_socket_is_supported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hooks.sock");
    let server = Server::unix(&path, stop());
    for slashes in ["", "//"] {
        let grpc = Grpc::new(settings(format!("unix:{slashes}{}", path.display()))).unwrap();
        assert!(grpc.deliver(&message()).await.unwrap().stop_upload);
        grpc.check().await.unwrap();
    }
    assert_eq!(server.calls().len(), 2);
    let nowhere = folder.path().join("nothing");
    let grpc = Grpc::new(settings(format!("unix://{}", nowhere.display()))).unwrap();
    let failure = grpc.deliver(&message()).await.unwrap_err();
    assert!(failure.message.starts_with("gRPC Unavailable"), "{failure}");
}

/// A server that handles each call below gRPC.
async fn rude(act: impl Fn(h2::server::SendResponse<Bytes>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, answer))) = connection.accept().await {
                act(answer);
            }
        }
    });
    target
}

#[tokio::test]
async fn stream_reset_maps_to_the_grpc_code() {
    for (reason, code) in [
        (h2::Reason::INTERNAL_ERROR, "Internal"),
        (h2::Reason::REFUSED_STREAM, "Unavailable"),
        (h2::Reason::CANCEL, "Cancelled"),
        (h2::Reason::ENHANCE_YOUR_CALM, "ResourceExhausted"),
        (h2::Reason::INADEQUATE_SECURITY, "PermissionDenied"),
    ] {
        let target = rude(move |mut answer| answer.send_reset(reason)).await;
        let grpc = Grpc::new(settings(target)).unwrap();
        let failure = grpc.deliver(&message()).await.unwrap_err();
        assert!(
            failure.message.starts_with(&format!("gRPC {code}: ")),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn truncated_response_is_a_failure() {
    let target = rude(|mut answer| {
        let head = http::Response::builder().header("content-type", "application/grpc");
        let mut body = answer.send_response(head.body(()).unwrap(), false).unwrap();
        // The start of a ten-byte message, and no status.
        let begun = Bytes::from_static(&[0, 0, 0, 0, 10, 1]);
        body.send_data(begun, true).unwrap();
    })
    .await;
    let grpc = Grpc::new(settings(target)).unwrap();
    assert!(grpc.deliver(&message()).await.is_err());
}

/// gRPC's libraries in other languages fail, too.
#[tokio::test]
async fn a_response_without_a_status_is_a_failure() {
    for trailers in [None, Some(("x-other", "1")), Some(("grpc-status", "0"))] {
        let target = rude(move |mut answer| {
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut body = answer.send_response(head.body(()).unwrap(), false).unwrap();
            // A whole message: the default response.
            let whole = Bytes::from_static(&[0, 0, 0, 0, 0]);
            body.send_data(whole, trailers.is_none()).unwrap();
            if let Some((name, value)) = trailers {
                let value = http::HeaderValue::from_static(value);
                let trailers = [(http::HeaderName::from_static(name), value)];
                body.send_trailers(trailers.into_iter().collect()).unwrap();
            }
        })
        .await;
        let grpc = Grpc::new(settings(target)).unwrap();
        let outcome = grpc.deliver(&message()).await;
        let is_complete = trailers == Some(("grpc-status", "0"));
        assert_eq!(outcome.is_ok(), is_complete, "{trailers:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn http_error_of_a_proxy_is_a_failure() {
    for (status, code) in [
        (502, "Unavailable"),
        (503, "Unavailable"),
        (404, "Unimplemented"),
    ] {
        let target = rude(move |mut answer| {
            let head = http::Response::builder().status(status);
            answer.send_response(head.body(()).unwrap(), true).unwrap();
        })
        .await;
        let grpc = Grpc::new(settings(target)).unwrap();
        let failure = grpc.deliver(&message()).await.unwrap_err();
        assert!(
            failure.message.starts_with(&format!("gRPC {code}: ")),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn dropped_call_is_cancelled() {
    let (told, mut cancelled) = tokio::sync::mpsc::unbounded_channel();
    let target = rude(move |mut answer| {
        let told = told.clone();
        tokio::spawn(async move {
            let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
            told.send(reason.unwrap()).unwrap();
        });
    })
    .await;
    let grpc = Grpc::new(settings(target)).unwrap();
    let message = message();
    let call = grpc.deliver(&message);
    assert!(
        time::timeout(Duration::from_millis(200), call)
            .await
            .is_err()
    );
    assert_eq!(cancelled.recv().await, Some(h2::Reason::CANCEL));
}
