//! Errors that no retry can change, and servers that violate the protocol.

use landfall_client::{Error, Source};

use crate::{
    client, content, in_time,
    server::{Server, response},
};

async fn error_of(server: &Server, size: usize) -> Error {
    let upload = client().upload(server.endpoint(), Source::bytes(content(size)));
    in_time(upload.run()).await.unwrap_err()
}

#[tokio::test]
async fn rejections_name_the_reason_and_are_not_repeated() {
    for (status, is_unauthorized) in [
        (400, false),
        (401, true),
        (403, true),
        (404, false),
        (409, false),
        (415, false),
    ] {
        let server = Server::with(
            |_| {},
            move |request| {
                let text = "ERR_REASON: not today";
                let rejected = response(status, &[]).map(|_| text);
                (request.method() == "POST").then_some(rejected)
            },
        )
        .await;
        let error = error_of(&server, 10).await;
        assert_eq!(
            matches!(error, Error::Unauthorized(_)),
            is_unauthorized,
            "{error}"
        );
        assert!(!error.is_retryable());
        let rejection = error.rejection().unwrap();
        assert_eq!(rejection.status, status);
        assert_eq!(rejection.code.as_deref(), Some("ERR_REASON"));
        assert_eq!(server.count("POST"), 1);
    }
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_not_sent() {
    let server = Server::with(|config| config.limits.max_size = Some(1000), |_| None).await;
    let error = error_of(&server, 1001).await;
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    assert_eq!(server.count("POST"), 0);
}

#[tokio::test]
async fn violations_of_the_protocol_are_errors() {
    // No Location; an offset beyond the content; an offset before it.
    let no_location = Server::with(
        |_| {},
        |request| (request.method() == "POST").then(|| response(201, &[])),
    )
    .await;
    assert!(matches!(
        error_of(&no_location, 10).await,
        Error::Protocol(_)
    ));
    for offset in ["2000001", "99999999"] {
        let server = Server::with(
            |_| {},
            move |request| {
                let headers = [("upload-offset", offset)];
                (request.method() == "PATCH").then(|| response(204, &headers))
            },
        )
        .await;
        let error = error_of(&server, 2_000_000).await;
        assert!(matches!(error, Error::Protocol(_)), "{error}");
    }
    let no_offset = Server::with(
        |_| {},
        |request| match request.method().as_str() {
            "PATCH" => Some(response(500, &[])),
            "HEAD" => Some(response(200, &[])),
            _ => None,
        },
    )
    .await;
    let error = error_of(&no_offset, 2_000_000).await;
    assert!(matches!(error, Error::Protocol(_)), "{error}");
}

#[tokio::test]
async fn sources_and_settings_that_are_invalid_are_errors() {
    let server = Server::start().await;
    let missing = client().upload(server.endpoint(), Source::file("/does/not/exist"));
    assert!(matches!(missing.run().await, Err(Error::Source(_))));
    let directory = client().upload(server.endpoint(), Source::file("/"));
    assert!(matches!(directory.run().await, Err(Error::Source(_))));
    for url in ["", "files", "ftp://localhost/", "file:///tmp"] {
        let upload = client().upload(url, Source::bytes("a"));
        assert!(
            matches!(upload.run().await, Err(Error::Configuration(_))),
            "{url:?}"
        );
    }
    for key in ["", "a b", "a,b", "ä", "twice"] {
        let upload = client().upload(server.endpoint(), Source::bytes("a"));
        let upload = upload.metadata("twice", "1").metadata(key, "2");
        assert!(
            matches!(upload.run().await, Err(Error::Configuration(_))),
            "{key:?}"
        );
    }
    let pem = landfall_client::Client::builder().root_certificates("no certificate");
    assert!(matches!(pem.build(), Err(Error::Configuration(_))));
    assert!(server.seen().is_empty());
}
