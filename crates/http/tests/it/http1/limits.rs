//! Limits of heads and contents, however they are cut.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use landfall_http::http1::{ContentDecoder, Decoded, Framing, HeadRules, HeadSearch, parse};
use proptest::prelude::*;

use super::streams::{Ending, cut, read};

const SMALL: HeadRules = HeadRules {
    max_head: 256,
    both_lengths: false,
};

/// A head of exactly `bytes` bytes.
fn head_of(length: usize) -> Vec<u8> {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let fill = "x".repeat(length - start.len() - 4);
    format!("{start}{fill}\r\n\r\n").into_bytes()
}

#[test]
fn a_head_has_at_most_the_allowed_bytes() {
    for length in 1..=SMALL.max_head + 8 {
        let lengths = [length];
        let exact = read(cut(&head_of(SMALL.max_head), &lengths), &SMALL);
        assert_eq!(
            (exact.requests.len(), exact.ending),
            (1, Ending::Open),
            "{length}"
        );
        let longer = read(cut(&head_of(SMALL.max_head + 1), &lengths), &SMALL);
        let Ending::Rejected(rejection) = longer.ending else {
            panic!("{longer:?}");
        };
        assert_eq!(rejection.status, 431, "{length}");
    }
}

#[test]
fn a_head_without_an_end_is_rejected_one_byte_above_the_limit() {
    let mut search = HeadSearch::default();
    let endless = [b'x'; 257];
    assert_eq!(search.end(&endless[..256], 256), Ok(None));
    assert_eq!(search.end(&endless, 256).unwrap_err().status, 431);
}

#[test]
fn a_head_has_at_most_a_hundred_fields() {
    let rules = HeadRules {
        max_head: 1 << 16,
        ..SMALL
    };
    for (fields, is_good) in [(99, true), (100, false)] {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(fields)
        );
        let parsed = parse(
            &Bytes::from(head),
            &HeadSearch::default(),
            HeaderMap::new(),
            &rules,
        );
        assert_eq!(
            parsed.map_err(|rejection| rejection.status.as_u16()).err(),
            (!is_good).then_some(431)
        );
    }
}

/// So a head that arrives byte by byte costs no more than one that arrives at once.
#[test]
fn the_bytes_before_are_not_searched_again() {
    let mut head = head_of(200);
    let mut search = HeadSearch::default();
    assert_eq!(search.end(&head[..150], 256), Ok(None));
    head[100..104].copy_from_slice(b"\r\n\r\n");
    assert_eq!(search.end(&head[..180], 256), Ok(None));
    assert_eq!(search.end(&head, 256), Ok(Some(200)));
}

#[test]
fn a_long_body_costs_no_memory() {
    let length = u64::MAX - 2;
    let mut decoder = ContentDecoder::new(Framing::Sized(length), 1024);
    let mut input = BytesMut::with_capacity(65_536);
    let start = input.as_ptr();
    for turn in 1..=1000 {
        input.extend_from_slice(&[0; 65_536]);
        let Ok(Some(Decoded::Data(data))) = decoder.decode(&mut input) else {
            panic!("no data");
        };
        // The very bytes that were read.
        assert_eq!((data.as_ptr(), data.len(), input.len()), (start, 65_536, 0));
        assert_eq!(decoder.left(), Some(length - turn * 65_536));
        drop(data);
        assert!(input.try_reclaim(65_536));
    }
}

#[test]
fn trailers_have_at_most_the_allowed_bytes() {
    for (length, is_good) in [(63, true), (64, true), (65, false), (10_000, false)] {
        // The end of the last line, which is empty, is one of LF alone more.
        let trailers = format!(
            "X: {}\r\n\r\n",
            "y".repeat(length + 1 - "X: \r\n\r\n".len())
        );
        let input = format!("1\r\na\r\n0\r\n{trailers}next");
        for cutting in [1, 7, usize::MAX] {
            let mut decoder = ContentDecoder::new(Framing::Chunked, 64);
            let mut unread = BytesMut::new();
            let mut outcome = Ok(None);
            for piece in cut(input.as_bytes(), &[cutting]) {
                unread.extend_from_slice(piece);
                while !decoder.is_end() {
                    outcome = decoder.decode(&mut unread);
                    if !matches!(outcome, Ok(Some(Decoded::Data(_)))) {
                        break;
                    }
                }
            }
            match outcome {
                Ok(Some(Decoded::Trailers(_))) if is_good => {
                    assert!(b"next".starts_with(&unread[..]))
                }
                Err(error) if !is_good => assert_eq!(error.0, "the trailers are too long"),
                other => panic!("{length} {other:?}"),
            }
        }
    }
}

#[test]
fn extensions_of_all_chunks_share_a_limit() {
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(1023));
    for (chunks, is_good) in [(16, true), (17, false)] {
        let mut decoder = ContentDecoder::new(Framing::Chunked, 64);
        let mut unread = BytesMut::from((chunk.repeat(chunks) + "0\r\n\r\n").as_bytes());
        let ended = loop {
            match decoder.decode(&mut unread) {
                Ok(Some(Decoded::Data(_))) => {}
                other => break other,
            }
        };
        assert_eq!(ended.is_ok(), is_good, "{ended:?}");
    }
}

proptest! {
    /// Nothing depends on how the input is cut, whatever it is.
    #[test]
    fn any_input(
        pieces in prop::collection::vec(
            prop_oneof![
                any::<u8>().prop_map(|byte| vec![byte]),
                Just(b"GET / HTTP/1.1\r\n".to_vec()),
                Just(b"Host: a\r\n".to_vec()),
                Just(b"Content-Length: 3\r\n".to_vec()),
                Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                Just(b"\n".to_vec()),
                Just(b"3\r\nabc\r\n".to_vec()),
                Just(b"0\r\n\r\n".to_vec()),
                Just(b"\x16\x03".to_vec()),
            ],
            0..40,
        ),
        lengths in prop::collection::vec(1..50_usize, 1..8),
    ) {
        let input = pieces.concat();
        let found = read(cut(&input, &lengths), &SMALL);
        prop_assert_eq!(&found, &read(cut(&input, &[usize::MAX]), &SMALL));
        prop_assert_eq!(&found, &read(cut(&input, &[1]), &SMALL));
    }

    #[test]
    fn a_rejected_head_is_rejected_behind_any_number_of_others(
        before in 0..4_usize,
        lengths in prop::collection::vec(1..400_usize, 1..8),
    ) {
        let good = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nX: y\r\n\r\n";
        let bad = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let input = [&good.repeat(before)[..], bad].concat();
        let found = read(cut(&input, &lengths), &SMALL);
        prop_assert_eq!(found.requests.len(), before);
        let Ending::Rejected(rejection) = found.ending else {
            panic!("{found:?}");
        };
        prop_assert_eq!(rejection.reason, "the request has both Transfer-Encoding and Content-Length");
    }
}
