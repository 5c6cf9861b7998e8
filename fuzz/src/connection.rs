//! Bytes of a connection of HTTP/1.1, read by the codec.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version};
use landfall_http::{
    HttpRejection,
    http1::{ContentDecoder, Decoded, Framing, HeadRules, HeadSearch, parse},
};

use crate::streams::{Ending, Found, Stream, cut, read, read_with_hyper};

const MAX_HEAD: usize = 512;

const RULES: HeadRules = HeadRules {
    max_head: MAX_HEAD,
    both_lengths: false,
};

/// A rejection is a 4xx or 5xx with one sentence.
fn check_rejection(rejection: HttpRejection) {
    let HttpRejection { status, reason } = rejection;
    assert!(status.is_client_error() || status.is_server_error());
    assert!(!reason.is_empty() && !reason.contains(char::is_control));
}

/// A head, without empty lines before it.
///
/// Its end does not depend on the sizes of reads. If it is accepted, httparse finds the same parts, every line
/// ends with CR LF, and nothing about its framing is said twice.
pub fn request_head(data: &[u8]) {
    let mut search = HeadSearch::default();
    let whole = search.end(data, MAX_HEAD);
    let mut slow_search = HeadSearch::default();
    let in_bytes =
        (1..=data.len()).find_map(|length| slow_search.end(&data[..length], MAX_HEAD).transpose());
    let end = match (whole, in_bytes) {
        (Ok(whole), in_bytes) => {
            assert_eq!(in_bytes.transpose(), Ok(whole));
            whole
        }
        (Err(rejection), in_bytes) => {
            check_rejection(rejection);
            assert_eq!(in_bytes, Some(Err(rejection)));
            None
        }
    };
    let Some(end) = end else {
        return;
    };
    let bytes = Bytes::copy_from_slice(&data[..end]);
    let both_lengths = HeadRules {
        both_lengths: true,
        ..RULES
    };
    let head = match parse(&bytes, &search, HeaderMap::new(), &RULES) {
        Ok(head) => head,
        Err(rejection) => {
            check_rejection(rejection);
            // Only two lengths are then accepted, and never on a connection that is used again.
            if let Ok(head) = parse(&bytes, &slow_search, HeaderMap::new(), &both_lengths) {
                assert!(head.framing == Framing::Chunked && !head.keep_alive);
                assert!(!head.request.headers().contains_key("content-length"));
            }
            return;
        }
    };
    assert!(parse(&bytes, &slow_search, HeaderMap::new(), &both_lengths).is_ok());

    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut headers);
    assert_eq!(parsed.parse(&bytes), Ok(httparse::Status::Complete(end)));
    assert_eq!(parsed.method, Some(head.request.method().as_str()));
    assert_eq!(
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.ends_with(b"\r"))
            .count(),
        1
    );
    let named = |name: &str| {
        let named = parsed
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect::<Vec<_>>()
    };
    for field in parsed.headers.iter() {
        let values = head.request.headers().get_all(field.name);
        assert!(
            values
                .iter()
                .map(|value| value.as_bytes())
                .eq(named(field.name))
        );
    }
    assert_eq!(head.request.headers().len(), parsed.headers.len());
    assert!(named("host").len() <= 1);
    assert!(named("host").len() == 1 || parsed.version == Some(0));
    let framing = match (
        &named("content-length")[..],
        &named("transfer-encoding")[..],
    ) {
        ([], []) => Framing::None,
        ([length], []) => {
            let length = std::str::from_utf8(length).expect("digits");
            assert!(length.bytes().all(|byte| byte.is_ascii_digit()));
            match length.parse().expect("a number") {
                0 => Framing::None,
                length => Framing::Sized(length),
            }
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && parsed.version == Some(1));
            Framing::Chunked
        }
        _ => panic!("ambiguous"),
    };
    assert_eq!(head.framing, framing);
}

/// The first byte is the size of the reads; the rest are chunks and what follows them.
///
/// Data, trailers, the end and the error do not depend on the sizes of reads, and encoded again, the content decodes to
/// the same.
pub fn chunks(data: &[u8]) {
    let [length, input @ ..] = data else {
        return;
    };
    let whole = decode(input, usize::MAX);
    assert_eq!(whole, decode(input, 1));
    assert_eq!(whole, decode(input, usize::from(*length).max(1)));
    if let Ok((content, Some((trailers, rest)))) = whole {
        assert!(input.ends_with(&rest));
        let mut again = Vec::new();
        for chunk in content.chunks(usize::from(*length).max(1)) {
            again.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            again.extend_from_slice(chunk);
            again.extend_from_slice(b"\r\n");
        }
        again.extend_from_slice(b"0\r\n");
        for (name, value) in &trailers {
            again.extend_from_slice(
                &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat(),
            );
        }
        again.extend_from_slice(b"\r\n");
        if trailers.is_empty() || again.len() < MAX_HEAD {
            assert_eq!(
                decode(&again, usize::MAX),
                Ok((content, Some((trailers, Vec::new()))))
            );
        }
    }
}

type Content = (Vec<u8>, Option<(HeaderMap, Vec<u8>)>);

/// Returns the content, and after its end its trailers and the bytes behind it.
fn decode(input: &[u8], length: usize) -> Result<Content, (Vec<u8>, &'static str)> {
    let mut decoder = ContentDecoder::new(Framing::Chunked, MAX_HEAD);
    let (mut content, mut unread) = (Vec::new(), BytesMut::new());
    let mut rest = input;
    loop {
        match decoder.decode(&mut unread) {
            Ok(Some(Decoded::Data(data))) => content.extend_from_slice(&data),
            Ok(Some(Decoded::Trailers(fields))) => {
                return Ok((content, Some((fields, [&unread, rest].concat()))));
            }
            Ok(Some(Decoded::End)) => {
                return Ok((content, Some((HeaderMap::new(), [&unread, rest].concat()))));
            }
            Ok(None) if rest.is_empty() => return Ok((content, None)),
            Ok(None) => {
                let (piece, after) = rest.split_at(length.min(rest.len()));
                unread.extend_from_slice(piece);
                rest = after;
            }
            Err(malformed) => return Err((content, malformed.0)),
        }
    }
}

/// The first byte is the size of the reads; the rest are pipelined requests, the last perhaps cut.
///
/// The result does not depend on the sizes of reads, and each start of the input has the same requests.
pub fn connection(data: &[u8]) {
    let [length, input @ ..] = data else {
        return;
    };
    let in_bytes = read(cut(input, &[1]), &RULES);
    assert_eq!(read(cut(input, &[usize::from(*length)]), &RULES), in_bytes);
    assert_eq!(read(cut(input, &[usize::MAX]), &RULES), in_bytes);
    if let Ending::Rejected(rejection) = in_bytes.ending {
        check_rejection(rejection);
    }
    let cut_off = &input[..input.len() * usize::from(*length) / 256];
    let begun = read(cut(cut_off, &[usize::MAX]), &RULES);
    for (one, other) in begun.requests.iter().zip(&in_bytes.requests) {
        if one.is_complete {
            assert_eq!(one, other);
        } else {
            assert!(other.content.starts_with(&one.content));
        }
    }
    assert!(begun.requests.len() <= in_bytes.requests.len());
}

/// The input of [`connection`], read by hyper's server, too.
///
/// It finds every request that the codec accepts, with the same content, and none after them unless the codec has
/// rejected it.
pub fn differential(data: &[u8]) {
    let [length, input @ ..] = data else {
        return;
    };
    let lengths = [usize::from(*length)];
    compare(
        &read(cut(input, &lengths), &RULES),
        &read_with_hyper(cut(input, &lengths)).0,
    );
}

fn compare(ours: &Stream, theirs: &[Found]) {
    for (at, request) in ours.requests.iter().enumerate() {
        // hyper ignores the options beside one that is not ASCII, so it closes where the codec keeps the connection.
        let is_ignored =
            |(name, value): &(String, Vec<u8>)| name == "connection" && !value.is_ascii();
        if request.version == Version::HTTP_10 && request.fields.iter().any(is_ignored) {
            return;
        }
        let Some(other) = theirs.get(at) else {
            panic!("hyper does not find {request:?}");
        };
        if request.is_complete {
            assert_eq!(request, other);
        } else {
            let without_content = |request: &Found| Found {
                content: Vec::new(),
                trailers: None,
                is_complete: false,
                ..request.clone()
            };
            assert_eq!(without_content(request), without_content(other));
            let is_start = other.content.starts_with(&request.content)
                || request.content.starts_with(&other.content);
            assert!(is_start, "{request:?} {other:?}");
            assert!(
                ours.ending != Ending::Open || !other.is_complete,
                "{request:?} {other:?}"
            );
        }
    }
    if ours.ending == Ending::Open {
        assert_eq!(theirs.len(), ours.requests.len(), "{theirs:?}");
    }
}
