//! Heads of responses, read by httparse's rules in hyper's client.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use landfall_http::http1::{ResponseContext, ResponseFraming, response_head};
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ALONE: ResponseContext = ResponseContext {
    version: Version::HTTP_11,
    is_head: false,
    keep_alive: true,
};

fn fields(list: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

/// Without the date.
fn lines(
    status: u16,
    list: &[(&str, &str)],
    length: Option<u64>,
    context: ResponseContext,
) -> String {
    let mut out = Vec::new();
    let status = StatusCode::from_u16(status).unwrap();
    response_head(&mut out, status, None, &fields(list), length, context);
    let text = String::from_utf8(out).unwrap();
    let dates = text
        .lines()
        .filter(|line| line.starts_with("Date: "))
        .count();
    assert_eq!(
        (
            dates,
            text.ends_with("\r\n\r\n"),
            text.matches("\r\n\r\n").count()
        ),
        (1, true, 1)
    );
    let others = text
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Date: "));
    others
        .collect::<String>()
        .trim_end_matches("\r\n")
        .to_owned()
}

#[test]
fn framing_is_said_once_and_not_where_there_is_none() {
    let old = ResponseContext {
        version: Version::HTTP_10,
        ..ALONE
    };
    let head = ResponseContext {
        is_head: true,
        ..ALONE
    };
    let last = ResponseContext {
        keep_alive: false,
        ..ALONE
    };
    for (status, list, length, context, expected) in [
        (
            200,
            &[][..],
            Some(5),
            ALONE,
            "HTTP/1.1 200 OK\r\nContent-Length: 5",
        ),
        (
            200,
            &[],
            None,
            ALONE,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        ),
        (200, &[], None, old, "HTTP/1.0 200 OK\r\nConnection: close"),
        (
            200,
            &[],
            Some(0),
            old,
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive",
        ),
        (
            200,
            &[],
            Some(5),
            last,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close",
        ),
        (204, &[], Some(0), ALONE, "HTTP/1.1 204 No Content"),
        (
            204,
            &[("content-length", "0")],
            Some(0),
            ALONE,
            "HTTP/1.1 204 No Content",
        ),
        (
            304,
            &[("content-length", "7")],
            Some(0),
            ALONE,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7",
        ),
        (
            200,
            &[("content-length", "7")],
            Some(0),
            head,
            "HTTP/1.1 200 OK\r\nContent-Length: 7",
        ),
        (200, &[], Some(0), head, "HTTP/1.1 200 OK"),
        (200, &[], None, head, "HTTP/1.1 200 OK"),
        (
            200,
            &[("content-length", "7"), ("content-length", "8")],
            None,
            ALONE,
            "HTTP/1.1 200 OK\r\nContent-Length: 7",
        ),
        (
            200,
            &[("content-length", "x")],
            Some(3),
            ALONE,
            "HTTP/1.1 200 OK\r\nContent-Length: 3",
        ),
        (
            200,
            &[
                ("transfer-encoding", "gzip"),
                ("upgrade", "x"),
                ("connection", "upgrade"),
            ],
            Some(3),
            ALONE,
            "HTTP/1.1 200 OK\r\nContent-Length: 3",
        ),
        (
            200,
            &[("connection", "x, Close")],
            Some(3),
            ALONE,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close",
        ),
        (
            460,
            &[],
            Some(3),
            ALONE,
            "HTTP/1.1 460 Checksum Mismatch\r\nContent-Length: 3",
        ),
        (
            499,
            &[],
            Some(3),
            ALONE,
            "HTTP/1.1 499 <none>\r\nContent-Length: 3",
        ),
        (
            201,
            &[
                ("tus-resumable", "1.0.0"),
                ("x-a--b", "c"),
                ("etag", "\"1\""),
            ],
            Some(0),
            ALONE,
            "HTTP/1.1 201 Created\r\nTus-Resumable: 1.0.0\r\nX-A--B: c\r\nEtag: \"1\"\r\nContent-Length: 0",
        ),
    ] {
        assert_eq!(lines(status, list, length, context), expected);
    }
}

#[test]
fn a_date_of_the_service_is_the_only_one() {
    let mut out = Vec::new();
    response_head(
        &mut out,
        StatusCode::OK,
        None,
        &fields(&[("date", "x")]),
        Some(0),
        ALONE,
    );
    assert_eq!(
        out,
        b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n"
    );
}

fn field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let known = [
        "tus-resumable",
        "upload-offset",
        "location",
        "date",
        "etag",
        "upgrade",
        "transfer-encoding",
        "set-cookie",
    ];
    let name = prop_oneof![
        select(known.to_vec()).prop_map(str::to_owned),
        "[a-bf-g0-9!#$%&'*+.^_`|~-]{1,70}"
    ];
    let byte = prop_oneof![9 => 0x21..=0x7e_u8, 1 => 0x80..=0xff_u8];
    (name, prop::collection::vec(byte, 0..60))
}

/// The result of hyper's client for a response to one request.
async fn read_by_client(method: Method, response: Vec<u8>) -> (StatusCode, HeaderMap, Bytes) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let io = hyper_util::rt::TokioIo::new(theirs);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let client = tokio::spawn(connection);
    let server = tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(ours);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(from.read_u8().await.unwrap());
        }
        to.write_all(&response).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let content = body.collect().await.unwrap().to_bytes();
    drop(sender);
    server.await.unwrap();
    let _ = client.await.unwrap();
    (parts.status, parts.headers, content)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_client_reads_what_was_meant(
        status in prop_oneof![select(vec![200, 201, 204, 304, 404, 460, 500]), 200..600_u16],
        list in prop::collection::vec(field(), 0..8),
        stated in any::<bool>(),
        length_is_known in any::<bool>(),
        content in prop::collection::vec(any::<u8>(), 0..300),
        is_old in prop::bool::weighted(0.2),
        is_head in prop::bool::weighted(0.2),
        keep_alive in any::<bool>(),
        closes in prop::bool::weighted(0.2),
    ) {
        let mut fields = HeaderMap::new();
        for (name, value) in &list {
            fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        if stated {
            fields.insert(CONTENT_LENGTH, content.len().into());
        }
        if closes {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let status = StatusCode::from_u16(status).unwrap();
        let version = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
        let context = ResponseContext { version, is_head, keep_alive };
        let length = length_is_known.then_some(content.len() as u64);
        let mut out = b"before".to_vec();
        let (framing, keeps) = response_head(&mut out, status, None, &fields, length, context);
        let mut out = out.split_off(b"before".len());

        let has_content = !is_head && !matches!(status.as_u16(), 204 | 304);
        prop_assert_eq!(framing, match has_content {
            false => ResponseFraming::Sized(0),
            true if stated || length_is_known => ResponseFraming::Sized(content.len() as u64),
            true if is_old => ResponseFraming::UntilClose,
            true => ResponseFraming::Chunked,
        });
        prop_assert_eq!(keeps, keep_alive && !closes && framing != ResponseFraming::UntilClose);
        match framing {
            ResponseFraming::Sized(length) => out.extend(&content[..usize::try_from(length).unwrap()]),
            ResponseFraming::UntilClose => out.extend(&content),
            ResponseFraming::Chunked => {
                for chunk in content.chunks(100) {
                    out.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
                }
                out.extend(b"0\r\n\r\n");
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let method = if is_head { Method::HEAD } else { Method::GET };
        let (read_status, mut read, read_content) = runtime.block_on(read_by_client(method, out));
        prop_assert_eq!(read_status, status);
        let expected = if has_content { &content[..] } else { &[] };
        prop_assert_eq!(&read_content[..], expected);
        let close = read.remove(CONNECTION);
        let close = close.as_ref().map(HeaderValue::as_bytes);
        prop_assert_eq!(close, match (keeps, is_old) {
            (false, _) => Some(&b"close"[..]),
            (true, true) => Some(&b"keep-alive"[..]),
            (true, false) => None,
        });
        prop_assert_eq!(read.remove(TRANSFER_ENCODING).is_some(), framing == ResponseFraming::Chunked);
        fields.remove(CONNECTION);
        fields.remove(TRANSFER_ENCODING);
        fields.remove(UPGRADE);
        fields.remove(CONTENT_LENGTH);
        read.remove(CONTENT_LENGTH);
        if !fields.contains_key(DATE) {
            prop_assert!(read.remove(DATE).is_some());
        }
        prop_assert_eq!(read, fields);
    }
}
