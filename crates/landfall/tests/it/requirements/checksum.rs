//! Checksums, in headers and trailers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use landfall_protocol::Algorithm;
use tokio::net::TcpStream;

use super::{DATA, Site, with_defaults};
use crate::harness::TestResponse;

/// Returns an `Upload-Checksum` of these bytes.
fn sum(algorithm: &str, data: &str) -> String {
    let mut hasher = Algorithm::by_name(algorithm).unwrap().hasher();
    hasher.update(data.as_bytes());
    format!("{algorithm} {}", STANDARD.encode(hasher.digest(16)))
}

async fn patch(site: &Site, path: &str, offset: u64, sum: &str, data: &str) -> TestResponse {
    site.patching(path, offset)
        .with("Upload-Checksum", sum)
        .body(data)
        .send()
        .await
}

#[tokio::test]
async fn t_sum_3_t_sum_5_t_sum_6_t_sum_7_every_algorithm_is_verified() {
    with_defaults(async |site| {
        for algorithm in Algorithm::LIST.split(',') {
            let path = site.create(5).await;
            let wrong = sum(algorithm, "hellO");
            let reply = patch(site, &path, 0, &wrong, "hello").await;
            reply.refused(460, "ERR_CHECKSUM_MISMATCH");
            assert_eq!(site.offset(&path).await, 0, "{algorithm}");
            let reply = patch(site, &path, 0, &sum(algorithm, "hello"), "hello").await;
            assert_eq!(reply.expect(204).number("upload-offset"), 5, "{algorithm}");
            assert_eq!(site.bytes(&path).await, "hello");
        }
    })
    .await;
}

#[tokio::test]
async fn t_sum_3_digest_matches_the_standard() {
    with_defaults(async |site| {
        let path = site.create(11).await;
        // From the text of tus 1.0.0.
        let stated = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
        patch(site, &path, 0, stated, "hello world")
            .await
            .expect(204);
    })
    .await;
}

#[tokio::test]
async fn t_sum_4_e_25_e_29_unverifiable_checksum_is_rejected() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        for (bad, code) in [
            ("md4 AAAA", "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM"),
            (
                "SHA1 qvTGHdzF6KLavt4PO0gs2a6pQ00=",
                "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM",
            ),
            ("sha1", "ERR_INVALID_CHECKSUM"),
            ("sha1 ???", "ERR_INVALID_CHECKSUM"),
            ("sha1 AAAA", "ERR_INVALID_CHECKSUM"),
            ("", "ERR_INVALID_CHECKSUM"),
        ] {
            patch(site, &path, 0, bad, "hello").await.refused(400, code);
            assert_eq!(site.offset(&path).await, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn t_sum_7_large_mismatch_leaves_nothing() {
    with_defaults(async |site| {
        // Much more than is buffered before a write.
        let (good, bad) = ("a".repeat(1 << 20), "b".repeat(1 << 20));
        let path = site.create(5 + (1 << 20)).await;
        site.patch(&path, 0, "hello").await.expect(204);
        let reply = patch(site, &path, 5, &sum("sha256", &good), &bad).await;
        reply.refused(460, "ERR_CHECKSUM_MISMATCH");
        assert_eq!(site.offset(&path).await, 5);
        assert_eq!(site.bytes(&path).await, "hello");
        patch(site, &path, 5, &sum("sha256", &good), &good)
            .await
            .expect(204);
        assert!(site.bytes(&path).await == format!("hello{good}"));
    })
    .await;
}

#[tokio::test]
async fn t_sum_12_checksum_is_of_one_body() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        patch(site, &path, 0, &sum("md5", "hello"), "hello")
            .await
            .expect(204);
        let whole = patch(site, &path, 5, &sum("md5", "helloworld"), "world").await;
        whole.expect(460);
        patch(site, &path, 5, &sum("md5", "world"), "world")
            .await
            .expect(204);
    })
    .await;
}

#[tokio::test]
async fn e_26_interrupted_body_with_a_checksum_is_discarded() {
    with_defaults(async |site| {
        let path = site.create(1 << 21).await;
        for length in [10, 1 << 20] {
            let half = "a".repeat(length / 2);
            let ask = site
                .patching(&path, 0)
                .with("Upload-Checksum", &sum("sha1", "x"));
            let mut open = ask.with("Content-Length", &length.to_string()).open().await;
            open.write(&half).await;
            drop(open);
            // Once this one has the upload, the interrupted one has released it.
            site.patch(&path, 0, "").await.expect(204);
            assert_eq!(site.offset(&path).await, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn e_30_checksum_of_an_empty_body_is_verified() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        patch(site, &path, 0, &sum("sha1", ""), "")
            .await
            .expect(204);
        patch(site, &path, 0, &sum("sha1", "x"), "")
            .await
            .expect(460);
        site.patch(&path, 0, "hello").await.expect(204);
        patch(site, &path, 5, &sum("sha1", ""), "")
            .await
            .expect(204);
        patch(site, &path, 5, &sum("sha1", "x"), "")
            .await
            .expect(460);
    })
    .await;
}

#[tokio::test]
async fn t_trl_2_t_trl_3_checksum_may_be_a_trailer() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let patch = |offset, trailers: &[(&str, &str)], announced| {
            let ask = site.patching(&path, offset);
            let ask = if announced {
                ask.with("Trailer", "Upload-Checksum")
            } else {
                ask
            };
            ask.chunked(&["he", "llo"], trailers).send()
        };
        for announced in [true, false] {
            let offset = if announced { 0 } else { 5 };
            for (bad, status) in [
                (sum("sha1", "x"), 460),
                ("md4 AAAA".into(), 400),
                ("sha1 A".into(), 400),
            ] {
                patch(offset, &[("Upload-Checksum", &bad)], announced)
                    .await
                    .expect(status);
                assert_eq!(site.offset(&path).await, offset, "{bad}");
            }
            let right = sum("blake3", "hello");
            let reply = patch(offset, &[("upload-checksum", &right)], announced).await;
            assert_eq!(reply.expect(204).number("upload-offset"), offset + 5);
        }
        assert_eq!(site.bytes(&path).await, "hellohello");
    })
    .await;
}

#[tokio::test]
async fn t_trl_2_trailers_work_over_http_2() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let stream = TcpStream::connect(site.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        for (stated, status, offset) in [(sum("sha1", "x"), 460, 0), (sum("sha1", "hello"), 204, 5)]
        {
            let mut trailers = HeaderMap::new();
            trailers.insert("upload-checksum", stated.parse().unwrap());
            let body = Full::new(Bytes::from("hello"))
                .with_trailers(std::future::ready(Some(Ok(trailers))));
            let request = Request::patch(format!("http://{}{path}", site.address))
                .header("Tus-Resumable", "1.0.0")
                .header("Content-Type", DATA)
                .header("Upload-Offset", "0")
                .header("Trailer", "Upload-Checksum")
                .body(body)
                .unwrap();
            let reply = sender.send_request(request).await.unwrap();
            assert_eq!(reply.status(), status);
            assert_eq!(site.offset(&path).await, offset);
        }
        drop(sender);
        connection.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn e_24_header_and_trailer_must_agree() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let right = sum("sha1", "hello");
        let patch = |trailer: String| {
            let ask = site.patching(&path, 0).with("Upload-Checksum", &right);
            let ask = ask.with("Trailer", "Upload-Checksum");
            ask.chunked(&["hello"], &[("Upload-Checksum", &trailer)])
                .send()
        };
        patch(sum("md5", "hello"))
            .await
            .refused(400, "ERR_INVALID_CHECKSUM");
        assert_eq!(site.offset(&path).await, 0);
        patch(right.clone()).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn e_27_announced_trailer_is_required() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        for trailers in [&[][..], &[("X-Other", "y")]] {
            let ask = site.patching(&path, 0).with("Trailer", "Upload-Checksum");
            let reply = ask.chunked(&["hello"], trailers).send().await;
            reply.refused(400, "ERR_INVALID_CHECKSUM");
            assert_eq!(site.offset(&path).await, 0);
        }
    })
    .await;
}
