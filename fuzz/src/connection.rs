//! Bytes of a connection before they are parsed as HTTP.

use landfall_http::{HttpRejection, RequestHeadValidator};

const MAX_HEAD: usize = 512;

/// The result of the validator does not depend on the sizes of reads. For an accepted head, httparse
/// (hyper's parser) finds the same end and framing; trailers end at the same byte, too. A rejection is a
/// 4xx or 5xx with one sentence.
pub fn connection(data: &[u8]) {
    // The first byte is the size of the reads.
    let Some((length, input)) = data.split_first() else {
        return;
    };
    let in_reads = scan(input, usize::from(*length).max(1));
    let in_bytes = scan(input, 1);
    let at_once = scan(input, usize::MAX);
    for other in [&in_reads, &at_once] {
        assert_eq!(other.heads, in_bytes.heads);
        assert_eq!(
            other.rejection.map(|rejection| rejection.status),
            in_bytes.rejection.map(|rejection| rejection.status)
        );
    }
    for head in &in_bytes.complete {
        check_head(head);
    }
    for trailers in &in_bytes.trailers {
        check_trailers(trailers);
    }
    if let Some(rejection) = in_bytes.rejection {
        assert!(rejection.status.is_client_error() || rejection.status.is_server_error());
        assert!(!rejection.reason.is_empty() && !rejection.reason.contains(char::is_control));
    }
}

struct ScanResult {
    heads: u32,
    rejection: Option<HttpRejection>,
    /// The heads that were buffered until complete: all heads, if read byte by byte.
    complete: Vec<Vec<u8>>,
    /// The buffered trailers, at most one byte longer than the limit.
    trailers: Vec<Vec<u8>>,
}

fn scan(input: &[u8], length: usize) -> ScanResult {
    let mut validator = RequestHeadValidator::new(MAX_HEAD);
    let (mut rejection, mut complete, mut trailers) = (None, Vec::new(), Vec::new());
    let mut forwarded = 0;
    for read in input.chunks(length.min(input.len()).max(1)) {
        let heads = validator.heads();
        match validator.scan(read) {
            Ok(scanned) => {
                assert!(scanned.forward_len <= read.len());
                forwarded += scanned.buffered.len() + scanned.forward_len;
                if !scanned.buffered.is_empty() {
                    let buffered = [&scanned.buffered, &read[..scanned.forward_len]].concat();
                    if validator.heads() == heads {
                        trailers.push(buffered);
                    } else {
                        complete.push(buffered);
                    }
                }
            }
            Err(rejected) => {
                rejection = Some(rejected);
                break;
            }
        }
    }
    assert!(forwarded <= input.len());
    ScanResult {
        heads: validator.heads(),
        rejection,
        complete,
        trailers,
    }
}

fn check_head(head: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(end)) => assert_eq!(end, head.len()),
        Ok(httparse::Status::Partial) => panic!("an accepted head is incomplete"),
        // hyper may be stricter.
        Err(_) => return,
    }
    let count = |name: &str| {
        let named = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(named).count()
    };
    assert!(count("content-length") + count("transfer-encoding") <= 1);
    assert!(count("host") <= 1);
    assert!(count("host") == 1 || request.version == Some(0));
}

fn check_trailers(trailers: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    match httparse::parse_headers(trailers, &mut headers) {
        Ok(httparse::Status::Complete((end, _))) => assert_eq!(end, trailers.len()),
        // Too large: passed to hyper as far as received, which rejects it.
        Ok(httparse::Status::Partial) => assert!(trailers.len() > MAX_HEAD),
        Err(_) => {}
    }
}
