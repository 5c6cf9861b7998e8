//! Follows streams of requests, cut into reads in all ways. Rejections are tested over sockets
//! (`tests/it/heads.rs`).

use proptest::prelude::*;

use super::{RequestHeadValidator, ScannedHeads};

/// Feeds `input` in pieces of the given lengths, repeatedly; returns the forwarded bytes.
fn feed(
    validator: &mut RequestHeadValidator,
    input: &[u8],
    lengths: &[usize],
) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    let mut rest = input;
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).clamp(1, rest.len()));
        let ScannedHeads {
            buffered,
            forward_len,
        } = validator
            .scan(piece)
            .map_err(|rejection| rejection.reason)?;
        out.extend(buffered);
        out.extend_from_slice(&piece[..forward_len]);
        rest = after;
    }
    Ok(out)
}

#[derive(Clone, Debug)]
enum Framed {
    None,
    Sized(Vec<u8>),
    Chunked {
        chunks: Vec<Vec<u8>>,
        extension: bool,
        trailers: usize,
    },
}

impl Framed {
    fn request(&self, headers: usize) -> Vec<u8> {
        let mut out = b"PUT /x HTTP/1.1\r\nHost: a\r\n".to_vec();
        for n in 0..headers {
            out.extend(format!("X-{n}: {n}\r\n").bytes());
        }
        match self {
            Self::None => out.extend(b"\r\n"),
            Self::Sized(body) => {
                out.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
                out.extend(body);
            }
            Self::Chunked {
                chunks,
                extension,
                trailers,
            } => {
                out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                let extension = if *extension { ";a=\"b\"" } else { "" };
                for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                    out.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                    out.extend(chunk);
                    out.extend(b"\r\n");
                }
                out.extend(format!("0{extension}\r\n").bytes());
                for n in 0..*trailers {
                    out.extend(format!("T-{n}: \u{e4}\r\n").bytes());
                }
                out.extend(b"\r\n");
            }
        }
        out
    }
}

/// Bodies that look like heads are the interesting ones.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        Just(b"\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
    ]
}

fn framed() -> impl Strategy<Value = Framed> {
    prop_oneof![
        Just(Framed::None),
        body().prop_map(Framed::Sized),
        (
            prop::collection::vec(body(), 0..4),
            any::<bool>(),
            0..3_usize
        )
            .prop_map(|(chunks, extension, trailers)| Framed::Chunked {
                chunks,
                extension,
                trailers
            }),
    ]
}

proptest! {
    #[test]
    fn every_head_is_found_and_every_byte_handed_on(
        requests in prop::collection::vec((framed(), 0..5_usize), 1..6),
        lengths in prop::collection::vec(1..400_usize, 1..8),
    ) {
        let input: Vec<u8> = requests.iter().flat_map(|(r, headers)| r.request(*headers)).collect();
        let mut validator = RequestHeadValidator::new(1 << 16);
        let out = feed(&mut validator, &input, &lengths);
        prop_assert_eq!(out, Ok(input));
        prop_assert_eq!(validator.heads() as usize, requests.len());
    }

    #[test]
    fn a_refused_head_is_refused_however_it_is_cut(
        before in prop::collection::vec(framed(), 0..3),
        lengths in prop::collection::vec(1..400_usize, 1..8),
    ) {
        let good: Vec<u8> = before.iter().flat_map(|r| r.request(1)).collect();
        let bad = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut validator = RequestHeadValidator::new(1 << 16);
        let out = feed(&mut validator, &[&good, &bad[..]].concat(), &lengths);
        prop_assert_eq!(out, Err("the request has both Transfer-Encoding and Content-Length"));
        prop_assert_eq!(validator.heads() as usize, before.len());
    }

    /// Arbitrary input: nothing is invented, the buffer is bounded, and the result does not depend on how
    /// the input is cut.
    #[test]
    fn any_input(
        input in prop::collection::vec(
            prop_oneof![
                any::<u8>().prop_map(|b| vec![b]),
                Just(b"GET / HTTP/1.1\r\n".to_vec()),
                Just(b"Host: a\r\n".to_vec()),
                Just(b"Content-Length: 3\r\n".to_vec()),
                Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                Just(b"\n".to_vec()),
                Just(b"3\r\nabc\r\n".to_vec()),
                Just(b"0\r\n\r\n".to_vec()),
            ],
            0..40,
        ),
        lengths in prop::collection::vec(1..50_usize, 1..8),
    ) {
        let input = input.concat();
        let mut validator = RequestHeadValidator::new(256);
        let out = feed(&mut validator, &input, &lengths);
        prop_assert!(validator.partial.len() <= 256 + 4);
        let mut whole = RequestHeadValidator::new(256);
        let at_once = feed(&mut whole, &input, &[usize::MAX]);
        prop_assert_eq!(out.is_ok(), at_once.is_ok());
        prop_assert_eq!(validator.heads(), whole.heads());
        if let Ok(out) = out {
            // Blank lines before a head may be dropped.
            let bare = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().copied().filter(|b| !b"\r\n".contains(b)).collect()
            };
            prop_assert!(bare(&input).starts_with(&bare(&out)));
        }
    }
}

#[test]
fn a_long_body_costs_no_memory() {
    let mut validator = RequestHeadValidator::new(1024);
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551613\r\n\r\n";
    assert_eq!(
        validator.scan(head).map(|scanned| scanned.forward_len),
        Ok(head.len())
    );
    for _ in 0..1000 {
        assert_eq!(
            validator
                .scan(&[0; 65_536])
                .map(|scanned| scanned.forward_len),
            Ok(65_536)
        );
    }
    assert_eq!((validator.heads(), validator.partial.capacity()), (1, 0));
}
