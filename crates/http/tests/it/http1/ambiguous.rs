//! Heads and contents that two parsers could read differently: `ambiguous.txt`.
//!
//! Each line has an input, the section of RFC 9112 about it (of RFC 9110 for fields, marked with `*`), the answers that
//! it allows, and those of the codec, hyper and nginx. A request for `/next` follows each input. An answer is what was
//! taken for the content, and `next` if the other request was found behind it; or the status of a rejection. nginx 1.22
//! was asked as a reverse proxy (`proxy_pass`, else the default configuration), its answers are recorded.

use super::RULES;
use super::streams::{Ending, Found, cut, read, read_with_hyper};

const TABLE: &str = include_str!("ambiguous.txt");

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// The bytes that `text` stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            out.push(u8::try_from(char).unwrap());
            continue;
        }
        match rest.next().unwrap() {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'x' => {
                let digits: String = rest.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            // The beginning of most.
            'P' => out.extend(b"PUT / HTTP/1.1\r\nHost: a\r\n"),
            'G' => out.extend(b"GET / HTTP/1.1\r\nHost: a\r\n"),
            'T' => out.extend(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            other => panic!("{other}"),
        }
    }
    out
}

fn answer(requests: &[Found], last: Option<String>) -> String {
    let request = |request: &Found| match (request.is_complete, &*request.target) {
        (false, _) => None,
        (true, "/next") => Some("next".to_owned()),
        (true, _) => Some(format!("{:?}", String::from_utf8_lossy(&request.content))),
    };
    requests
        .iter()
        .filter_map(request)
        .chain(last)
        .collect::<Vec<_>>()
        .join(" ")
}

fn ours(input: &[u8], length: usize) -> String {
    let stream = read(cut(input, &[length]), &RULES);
    let last = match stream.ending {
        Ending::Rejected(rejection) => Some(rejection.status.as_str().to_owned()),
        Ending::Malformed(_) => Some("400".to_owned()),
        Ending::Open => Some("waits".to_owned()),
        Ending::Closes => None,
    };
    answer(&stream.requests, last)
}

fn hypers(input: &[u8], length: usize) -> String {
    let (requests, written) = read_with_hyper(cut(input, &[length]));
    let has_failed = requests.last().is_some_and(|request| !request.is_complete);
    let last = written
        .rsplit_once("HTTP/1.1 4")
        .map(|(_, rest)| format!("4{}", &rest[..2]));
    answer(&requests, last.or(has_failed.then(|| "400".to_owned())))
}

#[test]
fn ambiguous_input_has_the_recorded_answers() {
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let [input, _, allowed, codec, hyper, _] = columns[..] else {
            panic!("{line}");
        };
        rows += 1;
        let input = [&bytes(input), NEXT].concat();
        for length in [1, 7, usize::MAX] {
            let (ours, hypers) = (ours(&input, length), hypers(&input, length));
            if (codec, hyper) != (&*ours, &*hypers) {
                wrong.push(format!("{line}\n    {ours} | {hypers}"));
            }
        }
        // Rejecting more is not ambiguous; accepting more is.
        let rejects = codec.parse::<u16>().is_ok();
        if !rejects && allowed.split(" or ").all(|allowed| allowed != codec) {
            wrong.push(format!("{line}\n    not allowed"));
        }
    }
    assert!(
        wrong.is_empty() && rows > 100,
        "{rows}\n{}",
        wrong.join("\n")
    );
}
