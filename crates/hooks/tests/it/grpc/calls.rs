//! Messages on the wire, and retries.

use std::time::{Duration, Instant, UNIX_EPOCH};

use landfall_hooks::grpc::Grpc;
use landfall_hooks::{HookName, HookResponse, Transport, UploadChanges};
use tonic::{Code, Status};

use super::{
    generated::{self as proto, FileInfoChanges, HttpResponse},
    message,
    server::Server,
    settings, texts,
};
use crate::samples::{TRACEPARENT, traced};

#[tokio::test]
async fn every_field_arrives() {
    let server = Server::answering(proto::HookResponse::default()).await;
    let grpc = Grpc::new(settings(server.target())).unwrap();
    assert_eq!(
        grpc.deliver(&message()).await.unwrap(),
        HookResponse::default()
    );
    let call = &server.calls()[0].request;
    assert_eq!(call.r#type, "post-finish");
    let event = call.event.as_ref().unwrap();
    assert_eq!(event.intent, "concatenate");
    assert_eq!(event.id, "0123456789abcdef0123456789abcdef");
    assert_eq!(event.sequence, 1_795_190_400_000_123);
    assert_eq!(event.unix_time_millis, 1_795_190_400_042);
    let upload = event.upload.as_ref().unwrap();
    assert_eq!(upload.id, "5d892c228ec8d0451dfec588697e8930");
    assert_eq!(upload.size, 5_000_000_000);
    assert!(!upload.size_is_deferred);
    assert_eq!(upload.offset, 4_999_999_999);
    assert_eq!(
        upload.meta_data,
        texts(&[("filename", "Zo\u{eb}.png"), ("empty", "")])
    );
    assert!(upload.is_partial);
    assert!(upload.is_final);
    assert_eq!(upload.partial_uploads, ["a", "b/c"]);
    assert_eq!(
        upload.storage,
        texts(&[("Type", "filestore"), ("Path", "/data/x")])
    );
    assert_eq!(upload.labels, texts(&[("tenant", "7")]));
    let request = event.http_request.as_ref().unwrap();
    assert_eq!(request.method, "PATCH");
    assert_eq!(request.uri, "/files/5d89?x=1");
    assert_eq!(request.remote_addr, "127.0.0.1:59395");
    assert_eq!(
        request.header,
        texts(&[
            ("Authorization", "Bearer one"),
            ("Host", "localhost:8080"),
            ("X-Request-Id", "r-1"),
        ])
    );
}

#[tokio::test]
async fn job_events_contain_job_and_upload() {
    let server = Server::answering(proto::HookResponse::default()).await;
    let grpc = Grpc::new(settings(server.target())).unwrap();
    let samples = crate::samples::samples();
    for sample in &samples {
        grpc.deliver(sample).await.unwrap();
    }
    for (sample, call) in samples.iter().zip(server.calls()) {
        let event = call.request.event.unwrap();
        assert_eq!(call.request.r#type, sample.hook.as_str());
        assert_eq!(event.job.is_some(), sample.job.is_some(), "{}", sample.hook);
        let Some(job) = event.job else { continue };
        assert_eq!(
            (job.request_id.as_str(), job.subject.as_str()),
            ("cjp0a1b2c", "ann")
        );
        assert_eq!(
            (job.filename.as_str(), job.filetype.as_str()),
            ("a.png", "image/png")
        );
        assert_eq!((job.size, job.size_is_deferred), (432_724, false));
        assert_eq!(job.meta_data, texts(&[("album", "7")]));
        if sample.hook == HookName::PreGrant {
            assert_eq!((job.state.as_str(), job.created_unix_millis), ("", 0));
        }
        if sample.hook == HookName::UploadCancelled {
            assert_eq!((job.state.as_str(), job.offset), ("cancelled", 262_144));
            assert_eq!(job.reason, "cancelled by ann");
            assert_eq!(job.created_unix_millis, 1_795_176_000_000);
            assert_eq!(job.expires_unix_millis, 1_795_179_600_000);
            assert_eq!(job.started_unix_millis, 1_795_176_001_000);
            assert_eq!(job.updated_unix_millis, job.ended_unix_millis);
            assert_eq!(job.ended_unix_millis, event.unix_time_millis);
        }
    }
}

#[tokio::test]
async fn unknown_values_are_omitted() {
    let server = Server::answering(proto::HookResponse::default()).await;
    let grpc = Grpc::new(settings(server.target())).unwrap();
    let mut message = message();
    message.hook = HookName::PreCreate;
    message.intent = None;
    message.upload = landfall_hooks::UploadData::default();
    grpc.deliver(&message).await.unwrap();
    let event = server.calls()[0].request.event.clone().unwrap();
    assert_eq!(event.intent, "");
    let upload = event.upload.unwrap();
    assert!(upload.size_is_deferred);
    assert_eq!(upload.size, 0);
    assert!(upload.storage.is_empty() && upload.partial_uploads.is_empty());
}

#[tokio::test]
async fn every_response_field_is_parsed() {
    let server = Server::answering(proto::HookResponse {
        http_response: Some(HttpResponse {
            status_code: 422,
            header: texts(&[("Content-Type", "application/json"), ("x-why", "because")]),
            body: "{}".into(),
        }),
        reject_upload: true,
        stop_upload: true,
        change_file_info: Some(FileInfoChanges {
            id: "a/b".into(),
            meta_data: texts(&[("k", "v")]),
            storage: texts(&[("Path", "sub/x.pdf")]),
            labels: texts(&[("tenant", "7")]),
            expires_unix_seconds: 1_795_190_400,
            max_size: 1 << 40,
            content_types: vec!["image/*".into()],
        }),
        reject_termination: true,
        reject_access: true,
        cache_for_seconds: 90,
    })
    .await;
    let grpc = Grpc::new(settings(server.target())).unwrap();
    let response = grpc.deliver(&message()).await.unwrap();
    assert_eq!(response.client_response.status.unwrap(), 422);
    assert_eq!(
        response.client_response.headers["content-type"],
        "application/json"
    );
    assert_eq!(response.client_response.headers["x-why"], "because");
    assert_eq!(response.client_response.body.as_deref(), Some(&b"{}"[..]));
    assert!(response.reject_upload && response.stop_upload);
    assert!(response.reject_termination && response.reject_access);
    assert!(!response.failed);
    assert_eq!(response.cache_for, Some(Duration::from_secs(90)));
    let changes = response.changes;
    assert_eq!(changes.id.as_deref(), Some("a/b"));
    assert_eq!(changes.metadata, Some(texts(&[("k", "v")])));
    assert_eq!(changes.storage, texts(&[("Path", "sub/x.pdf")]));
    assert_eq!(changes.labels, texts(&[("tenant", "7")]));
    let expires = UNIX_EPOCH + Duration::from_secs(1_795_190_400);
    assert_eq!(changes.expires, Some(expires));
    assert_eq!(changes.max_size, Some(1 << 40));
    assert_eq!(changes.content_types, ["image/*"]);
}

#[tokio::test]
async fn empty_response_fields_change_nothing() {
    let server = Server::answering(proto::HookResponse {
        http_response: Some(HttpResponse::default()),
        change_file_info: Some(FileInfoChanges::default()),
        ..proto::HookResponse::default()
    })
    .await;
    let grpc = Grpc::new(settings(server.target())).unwrap();
    let response = grpc.deliver(&message()).await.unwrap();
    assert_eq!(response, HookResponse::default());
    assert_eq!(response.changes, UploadChanges::default());
}

#[tokio::test]
async fn invalid_response_is_a_failure() {
    let reply = |status_code, header: &[(&str, &str)]| proto::HookResponse {
        http_response: Some(HttpResponse {
            status_code,
            header: texts(header),
            body: String::new(),
        }),
        ..proto::HookResponse::default()
    };
    let expires = proto::HookResponse {
        change_file_info: Some(FileInfoChanges {
            expires_unix_seconds: -1,
            ..FileInfoChanges::default()
        }),
        ..proto::HookResponse::default()
    };
    for (response, words) in [
        (reply(99, &[]), "statusCode"),
        (reply(101, &[]), "statusCode"),
        (reply(65_736, &[]), "statusCode"),
        (reply(200, &[("a b", "c")]), "header"),
        (reply(200, &[("a", "b\nc")]), "header"),
        (expires, "expiresUnixSeconds"),
    ] {
        let server = Server::answering(response).await;
        let grpc = Grpc::new(settings(server.target())).unwrap();
        let failure = grpc.deliver(&message()).await.unwrap_err();
        assert!(failure.message.contains(words), "{failure}");
        assert_eq!(server.calls().len(), 1);
    }
}

#[tokio::test]
async fn headers_are_forwarded_as_metadata() {
    let server = Server::answering(proto::HookResponse::default()).await;
    let mut settings = settings(server.target());
    settings.forward_headers = vec!["Authorization".into(), "X-REQUEST-ID".into(), "Host".into()];
    let grpc = Grpc::new(settings).unwrap();
    grpc.deliver(&traced(message())).await.unwrap();
    let metadata = &server.calls()[0].metadata;
    let all: Vec<_> = metadata.get_all("authorization").iter().collect();
    assert_eq!(all, ["Bearer one"]);
    assert_eq!(metadata.get("x-request-id").unwrap(), "r-1");
    assert_eq!(metadata.get("traceparent").unwrap(), TRACEPARENT);
    assert_eq!(metadata.get("tracestate").unwrap(), "vendor=1");
    assert!(!metadata.contains_key("host"));
    assert!(!metadata.contains_key("x-retry-attempty"));
    let agent = metadata.get("user-agent").unwrap().to_str().unwrap();
    assert!(agent.starts_with("landfall/"), "{agent}");
}

#[tokio::test]
async fn retryable_codes_are_retried_with_attempt_metadata() {
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        let server = Server::start(move |before| match before {
            0 | 1 => Err(Status::new(code, "later")),
            _ => Ok(proto::HookResponse {
                reject_upload: true,
                ..proto::HookResponse::default()
            }),
        })
        .await;
        let mut settings = settings(server.target());
        settings.backoff = Duration::from_millis(100);
        settings.forward_headers = vec!["X-Request-Id".into()];
        let grpc = Grpc::new(settings).unwrap();
        let started = Instant::now();
        assert!(grpc.deliver(&message()).await.unwrap().reject_upload);
        assert!(started.elapsed() >= Duration::from_millis(200));
        let calls = server.calls();
        let attempts: Vec<_> = calls
            .iter()
            .map(|call| call.metadata.get("x-retry-attempty"))
            .map(|value| value.map(|value| value.to_str().unwrap().to_owned()))
            .collect();
        assert_eq!(attempts, [None, Some("1".into()), Some("2".into())]);
        for call in &calls {
            assert_eq!(call.request, calls[0].request);
            assert_eq!(call.metadata.get("x-request-id").unwrap(), "r-1");
        }
    }
}

#[tokio::test]
async fn attempts_include_the_first() {
    for (attempts, made) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
        let server = Server::start(|_| Err(Status::unavailable("never"))).await;
        let mut settings = settings(server.target());
        settings.attempts = attempts;
        let grpc = Grpc::new(settings).unwrap();
        let failure = grpc.deliver(&message()).await.unwrap_err();
        assert_eq!(failure.message, "gRPC Unavailable: never");
        assert_eq!(server.calls().len(), made);
    }
}

#[tokio::test]
async fn other_codes_are_not_retried() {
    for code in (1..=16).map(Code::from) {
        if matches!(code, Code::Unavailable | Code::ResourceExhausted) {
            continue;
        }
        let server = Server::start(move |_| Err(Status::new(code, "no, thanks"))).await;
        let grpc = Grpc::new(settings(server.target())).unwrap();
        let failure = grpc.deliver(&message()).await.unwrap_err();
        assert_eq!(failure.message, format!("gRPC {code:?}: no, thanks"));
        assert_eq!(server.calls().len(), 1, "{code:?}");
        let may_pass = matches!(
            code,
            Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::Internal
                | Code::DataLoss
        );
        assert_eq!(failure.is_permanent, !may_pass, "{code:?}");
    }
}

#[tokio::test]
async fn silent_server_times_out() {
    let server = Server::mute().await;
    let mut settings = settings(server.target());
    settings.timeout = Some(Duration::from_millis(200));
    let grpc = Grpc::new(settings).unwrap();
    let failure = grpc.deliver(&message()).await.unwrap_err();
    assert_eq!(
        failure.message,
        "gRPC DeadlineExceeded: the server did not respond in time"
    );
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].metadata.contains_key("grpc-timeout"));
}

#[tokio::test]
async fn any_timeout_is_accepted() {
    for (timeout, told) in [
        (None, None),
        (Some(Duration::MAX), Some("99999999H")),
        (Some(Duration::from_secs(90)), Some("90000000u")),
    ] {
        let server = Server::answering(proto::HookResponse::default()).await;
        let mut settings = settings(server.target());
        settings.timeout = timeout;
        let grpc = Grpc::new(settings).unwrap();
        grpc.deliver(&message()).await.unwrap();
        let metadata = server.calls()[0].metadata.clone();
        let deadline = metadata.get("grpc-timeout");
        assert_eq!(deadline.map(|value| value.to_str().unwrap()), told);
    }
}

#[tokio::test]
async fn response_above_the_limit_is_rejected() {
    let server = Server::answering(proto::HookResponse {
        http_response: Some(HttpResponse {
            body: "x".repeat((4 << 20) + 1),
            ..HttpResponse::default()
        }),
        ..proto::HookResponse::default()
    })
    .await;
    let grpc = Grpc::new(settings(server.target())).unwrap();
    let failure = grpc.deliver(&message()).await.unwrap_err();
    assert!(failure.message.starts_with("gRPC OutOfRange"), "{failure}");
}
