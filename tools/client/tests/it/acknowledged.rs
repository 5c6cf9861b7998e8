//! Servers that claim what they have not done: only what is acknowledged is reported as uploaded or removed.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use landfall_client::{Client, Error, Protocol, RetryPolicy, Source};

use crate::{
    builder, client, client_of, content, in_time,
    server::{Server, first, response},
};

const SIZE: usize = 3_000_000;

/// A server whose responses to one method are replaced.
async fn answering(
    method: &'static str,
    answer: impl Fn(&Request<Incoming>) -> Option<Response<&'static str>> + Send + Sync + 'static,
) -> Server {
    Server::with(
        |_| {},
        move |request| {
            let is_concerned = request.method() == method;
            is_concerned.then(|| answer(request)).flatten()
        },
    )
    .await
}

/// A client that gives up soon.
fn impatient(protocol: Protocol) -> Client {
    let policy = RetryPolicy::default().with_delays(Duration::ZERO, Duration::ZERO);
    builder().protocol(protocol).retry(policy).build().unwrap()
}

async fn upload(client: &Client, server: &Server) -> Result<landfall_client::Completed, Error> {
    let upload = client.upload(server.endpoint(), Source::bytes(content(SIZE)));
    in_time(upload.run()).await
}

#[tokio::test]
async fn a_draft_upload_is_complete_only_with_its_whole_length() {
    // The flag beside an offset that is not the length, in the response to an append, to HEAD and to a creation.
    let fields = [("upload-complete", "?1"), ("upload-offset", "5")];
    let append = answering("PATCH", move |_| Some(response(201, &fields))).await;
    let error = upload(&impatient(Protocol::Draft), &append).await;
    assert!(matches!(error, Err(Error::Protocol(_))), "{error:?}");

    let head = Server::with(
        |_| {},
        move |request| match request.method().as_str() {
            "PATCH" => Some(response(500, &[])),
            "HEAD" => Some(response(204, &fields)),
            _ => None,
        },
    )
    .await;
    let error = upload(&impatient(Protocol::Draft), &head).await;
    assert!(matches!(error, Err(Error::Protocol(_))), "{error:?}");

    let creation = answering("POST", move |_| Some(response(201, &fields))).await;
    let small = impatient(Protocol::Draft).upload(creation.endpoint(), Source::bytes(content(90)));
    let error = in_time(small.run()).await;
    assert!(matches!(error, Err(Error::Protocol(_))), "{error:?}");
}

#[tokio::test]
async fn a_success_before_the_content_was_sent_acknowledges_nothing() {
    // The body is larger than the buffers of the connection, and is not read.
    let fields = [("upload-complete", "?1")];
    let server = answering("PATCH", move |_| Some(response(201, &fields))).await;
    let bytes = content(40_000_000);
    let upload = impatient(Protocol::Draft).upload(server.endpoint(), Source::bytes(bytes));
    let result = in_time(upload.run()).await;
    assert!(result.is_err(), "{result:?}");
}

#[tokio::test]
async fn appends_without_progress_are_bounded() {
    // The offset at which the request began, none at all, and one that HEAD takes back.
    for (fields, head) in [
        (&[("upload-offset", "0")][..], None),
        (&[], None),
        (&[], Some("0")),
    ] {
        for protocol in [Protocol::Tus, Protocol::Draft] {
            let server = Server::with(
                |_| {},
                move |request| match (request.method().as_str(), head) {
                    ("PATCH", _) => Some(response(204, fields)),
                    ("HEAD", Some(offset)) => Some(response(
                        200,
                        &[("upload-offset", offset), ("upload-length", "3000000")],
                    )),
                    _ => None,
                },
            )
            .await;
            let error = upload(&impatient(protocol), &server).await.unwrap_err();
            assert!(
                matches!(error, Error::GaveUp { attempts: 12, .. }),
                "{error}"
            );
            assert_eq!(server.count("PATCH"), 12, "{protocol:?} {fields:?}");
        }
    }
}

#[tokio::test]
async fn the_last_append_of_the_draft_is_not_repeated_for_ever() {
    // All bytes are there, but the upload never becomes complete.
    let server = answering("PATCH", |_| {
        let fields = [("upload-complete", "?0"), ("upload-offset", "3000000")];
        Some(response(204, &fields))
    })
    .await;
    let error = upload(&impatient(Protocol::Draft), &server).await;
    assert!(matches!(error, Err(Error::GaveUp { .. })), "{error:?}");
    // Two for each attempt, since HEAD knows nothing of the offset.
    assert!(server.count("PATCH") <= 24, "{}", server.count("PATCH"));
}

#[tokio::test]
async fn an_offset_beyond_what_was_sent_is_no_acknowledgement() {
    // A new upload without any content: it cannot have bytes.
    let server = Server::with(
        |_| {},
        |request| match request.method().as_str() {
            "PATCH" => Some(response(500, &[("connection", "close")])),
            "HEAD" => Some(response(
                200,
                &[("upload-offset", "3000000"), ("upload-length", "3000000")],
            )),
            _ => None,
        },
    )
    .await;
    // The first request has a single chunk of the file.
    let upload = impatient(Protocol::Tus)
        .upload(server.endpoint(), Source::bytes(content(SIZE)))
        .chunk_size(landfall_client::ChunkSize::Fixed(100_000));
    let error = in_time(upload.run()).await;
    assert!(matches!(error, Err(Error::Protocol(_))), "{error:?}");
}

#[tokio::test]
async fn a_final_upload_is_complete_once_its_parts_are_joined() {
    let joined = "3000000";
    for (offset, length, is_complete) in [
        (Some(joined), joined, true),
        (Some("1000000"), joined, false),
        (None, joined, false),
        (Some("1500000"), "1500000", false),
    ] {
        let server = Server::with(
            |_| {},
            move |request| {
                let path = request.uri().path();
                if request.method() == "HEAD" && path.ends_with("final") {
                    let mut fields = vec![("upload-length", length), ("upload-concat", "final;")];
                    fields.extend(offset.map(|offset| ("upload-offset", offset)));
                    return Some(response(200, &fields));
                }
                let concat = request.headers().get("upload-concat");
                concat
                    .is_some_and(|value| value.to_str().unwrap().starts_with("final"))
                    .then(|| response(201, &[("location", "/files/final")]))
            },
        )
        .await;
        let upload = impatient(Protocol::Tus)
            .upload(server.endpoint(), Source::bytes(content(SIZE)))
            .parallel(2);
        let result = in_time(upload.run()).await;
        assert_eq!(result.is_ok(), is_complete, "{offset:?} {result:?}");
        let finals = server.seen();
        let finals = finals
            .iter()
            .filter(|seen| seen.header("upload-concat").is_some_and(|v| v != "partial"));
        assert_eq!(finals.count(), 1);
    }
}

#[tokio::test]
async fn an_upload_is_removed_by_the_protocol_that_knows_it() {
    // A server of the draft alone does not know uploads of tus.
    let bytes = content(10);
    let server = Server::with(
        |_| {},
        |request| {
            let is_tus = request.headers().contains_key("tus-resumable");
            (request.method() == "DELETE" && is_tus).then(|| response(404, &[]))
        },
    )
    .await;
    let upload = client_of(Protocol::Draft).upload(server.endpoint(), Source::bytes(bytes));
    let url = in_time(upload.run()).await.unwrap().url;
    in_time(client().terminate(url.as_str())).await.unwrap();
    let error = in_time(client().inspect(url.as_str())).await;
    assert!(matches!(error, Err(Error::Gone(_))), "{error:?}");
    // One that is gone is no error, whatever the protocol.
    in_time(client().terminate(url.as_str())).await.unwrap();
}

#[tokio::test]
async fn an_upload_continues_when_progress_returns() {
    let stuck = first(5);
    let server = answering("PATCH", move |_| {
        stuck().then(|| response(204, &[("upload-offset", "0")]))
    })
    .await;
    let completed = upload(&impatient(Protocol::Tus), &server).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, content(SIZE));
}
