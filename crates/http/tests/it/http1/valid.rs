//! Generated requests without errors: the codec finds what was meant, and so does hyper.

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use landfall_http::http1::Framing;
use proptest::prelude::*;
use proptest::sample::select;

use super::RULES;
use super::streams::{Ending, Fields, Found, cut, list, read, read_with_hyper};

#[derive(Clone, Debug)]
enum Content {
    None,
    Sized(Vec<u8>),
    Chunked {
        /// Each with what follows its size.
        chunks: Vec<(Vec<u8>, &'static str)>,
        trailers: Vec<(String, Vec<u8>)>,
    },
}

#[derive(Clone, Debug)]
struct Valid {
    method: String,
    target: String,
    version: Version,
    /// With white space before and after the value.
    fields: Vec<(String, &'static str, Vec<u8>, &'static str)>,
    content: Content,
    keeps: bool,
    expects_continue: bool,
}

fn method() -> impl Strategy<Value = String> {
    let known = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"];
    prop_oneof![
        select(known.to_vec()).prop_map(str::to_owned),
        "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,24}".prop_filter("a tunnel", |method| method != "CONNECT"),
    ]
}

/// And the host, if it names one.
fn target() -> impl Strategy<Value = (String, Option<&'static str>)> {
    prop_oneof![
        4 => "/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,60}".prop_map(|path| (path, None)),
        1 => "/[a-z?]{0,3}".prop_map(|rest| (format!("http://test:80{rest}"), Some("TEST"))),
        1 => "[?][a-z/?]{0,3}".prop_map(|rest| (format!("HTTPS://[::1]:8080{rest}"), Some("[::1]:8080"))),
        1 => Just(("*".to_owned(), None)),
    ]
}

/// RFC 9110 section 5.5: visible, space and tab inside, obs-text.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![8 => 0x21..=0x7e_u8, 1 => Just(b' '), 1 => Just(b'\t'), 2 => 0x80..=0xff_u8];
    prop::collection::vec(byte, 0..40).prop_map(trim)
}

fn trim(mut value: Vec<u8>) -> Vec<u8> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    while is_space(value.last()) {
        value.pop();
    }
    while is_space(value.first()) {
        value.remove(0);
    }
    value
}

fn name() -> impl Strategy<Value = String> {
    let known = [
        "Tus-Resumable",
        "upload-length",
        "UPLOAD-OFFSET",
        "Upload-Metadata",
        "Upload-Complete",
        "Upload-Lengthy",
        "Accept",
        "User-Agent",
        "Origin",
        "Content-Type",
        "X-Forwarded-Proto",
        "X-A",
        "T",
        "X",
    ];
    prop_oneof![
        select(known.to_vec()).prop_map(str::to_owned),
        // Without a letter of a field that has a meaning here.
        "[A-BF-Gabfg0-9!#$%&'*+.^_`|~-]{1,30}",
        "[A-Ba-b]{60,70}",
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let bytes = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..300),
            Just(b"\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n".to_vec()),
            Just(b"0\r\n\r\n".to_vec()),
        ]
    };
    let after_size = select(vec![
        "",
        "",
        " ",
        "\t ",
        ";a",
        ";a=\"b ;\"",
        " ; a = b",
        ";\u{e4}",
    ]);
    prop_oneof![
        Just(Content::None),
        prop_oneof![Just(Vec::new()), bytes()].prop_map(Content::Sized),
        (
            prop::collection::vec((bytes(), after_size), 0..5),
            prop::collection::vec((name(), value()), 0..4)
        )
            .prop_map(|(chunks, trailers)| Content::Chunked { chunks, trailers }),
    ]
}

prop_compose! {
    fn valid()(
        method in method(),
        (target, host) in target(),
        is_old in prop::bool::weighted(0.2),
        mut fields in prop::collection::vec(
            (name(), select(vec![" ", "", "\t", "  \t"]), value(), select(vec!["", " ", "\t "])), 0..9),
        content in content(),
        connection in select(vec![None, None, None, Some("close"), Some("Keep-Alive"), Some("x, CLOSE"), Some("keep-alive ,x")]),
        expects_continue in any::<bool>(),
        order in any::<prop::sample::Index>(),
    )(
        fields in {
            let mut put = |name: &str, value: &str| {
                fields.push((name.to_owned(), " ", value.as_bytes().to_vec(), ""));
            };
            if !is_old || host.is_some() || order.index(2) == 0 {
                put("hOST", host.unwrap_or("test:80"));
            }
            match &content {
                Content::None => {}
                Content::Sized(bytes) => put("Content-Length", &format!("{:0width$}", bytes.len(), width = order.index(9))),
                Content::Chunked { .. } if is_old => {}
                Content::Chunked { .. } => put("transfer-encoding", ["chunked", "CHUNKED"][order.index(2)]),
            }
            if let Some(connection) = connection {
                put("Connection", connection);
            }
            if expects_continue {
                put("Expect", "100-Continue");
            }
            Just(fields).prop_shuffle()
        },
        method in Just(method), target in Just(target), is_old in Just(is_old), connection in Just(connection),
        content in Just(content.clone()), expects_continue in Just(expects_continue),
    ) -> Valid {
        let content = match content {
            Content::Chunked { .. } if is_old => Content::None,
            other => other,
        };
        Valid {
            method, target, fields, content,
            version: if is_old { Version::HTTP_10 } else { Version::HTTP_11 },
            keeps: match connection {
                Some("close" | "x, CLOSE") => false,
                Some(_) => true,
                None => !is_old,
            },
            expects_continue: expects_continue && !is_old,
        }
    }
}

fn map<'a>(fields: impl Iterator<Item = (&'a String, &'a Vec<u8>)>) -> Fields {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value).unwrap();
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    list(&map)
}

impl Valid {
    fn bytes(&self) -> Vec<u8> {
        let mut out =
            format!("{} {} {:?}\r\n", self.method, self.target, self.version).into_bytes();
        for (name, before, value, after) in &self.fields {
            out.extend(
                [
                    name.as_bytes(),
                    b":",
                    before.as_bytes(),
                    value,
                    after.as_bytes(),
                    b"\r\n",
                ]
                .concat(),
            );
        }
        out.extend(b"\r\n");
        match &self.content {
            Content::None => {}
            Content::Sized(bytes) => out.extend(bytes),
            Content::Chunked { chunks, trailers } => {
                for (at, (chunk, after_size)) in chunks.iter().enumerate() {
                    let size = match at % 3 {
                        0 => format!("{:x}", chunk.len()),
                        1 => format!("{:X}", chunk.len()),
                        _ => format!("{:020x}", chunk.len()),
                    };
                    out.extend(
                        [
                            size.as_bytes(),
                            after_size.as_bytes(),
                            b"\r\n",
                            chunk,
                            b"\r\n",
                        ]
                        .concat(),
                    );
                }
                out.extend(b"0\r\n");
                for (name, value) in trailers {
                    out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
                }
                out.extend(b"\r\n");
            }
        }
        out
    }

    fn found(&self) -> Found {
        let uri: http::Uri = self.target.parse().unwrap();
        Found {
            method: self.method.clone(),
            target: uri.to_string(),
            version: self.version,
            fields: map(self.fields.iter().map(|(name, _, value, _)| (name, value))),
            content: match &self.content {
                Content::None => Vec::new(),
                Content::Sized(bytes) => bytes.clone(),
                Content::Chunked { chunks, .. } => {
                    chunks.iter().flat_map(|chunk| chunk.0.clone()).collect()
                }
            },
            trailers: match &self.content {
                Content::Chunked { trailers, .. } if !trailers.is_empty() => {
                    Some(map(trailers.iter().map(|(name, value)| (name, value))))
                }
                _ => None,
            },
            is_complete: true,
        }
    }

    fn framing(&self) -> Framing {
        match &self.content {
            Content::Sized(bytes) if !bytes.is_empty() => Framing::Sized(bytes.len() as u64),
            Content::None | Content::Sized(_) => Framing::None,
            Content::Chunked { .. } => Framing::Chunked,
        }
    }
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..4_usize, 1..400_usize], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_what_was_meant_however_they_are_cut(
        requests in prop::collection::vec(valid(), 1..5),
        lengths in lengths(),
    ) {
        let input: Vec<u8> = requests.iter().flat_map(Valid::bytes).collect();
        let found = read(cut(&input, &lengths), &RULES);
        let kept = requests.iter().position(|request| !request.keeps).map_or(requests.len(), |at| at + 1);
        let meant: Vec<_> = requests[..kept].iter().map(Valid::found).collect();
        prop_assert_eq!(&found.requests, &meant);
        let closes = requests.iter().any(|request| !request.keeps);
        prop_assert_eq!(found.ending, if closes { Ending::Closes } else { Ending::Open });
        prop_assert_eq!(&found, &read(cut(&input, &[usize::MAX]), &RULES));
        prop_assert_eq!(&found, &read(cut(&input, &[1]), &RULES));
        prop_assert_eq!(read_with_hyper(cut(&input, &lengths)).0, meant);
    }

    #[test]
    fn framing_and_expectation_are_what_was_meant(request in valid(), cut_off in any::<prop::sample::Index>()) {
        let input = request.bytes();
        let found = read(cut(&input, &[usize::MAX]), &RULES);
        prop_assert_eq!(found.framing, request.framing());
        prop_assert_eq!(found.expects_continue, request.expects_continue);
        if found.framing != Framing::None {
            let continues = read_with_hyper(cut(&input, &[usize::MAX])).1.starts_with("HTTP/1.1 100 Continue\r\n\r\n");
            prop_assert_eq!(continues, request.expects_continue);
        }
        // The start of a request is a request whose end has not arrived, or none.
        let begun = read(cut(&input[..cut_off.index(input.len())], &[usize::MAX]), &RULES);
        prop_assert_eq!(begun.ending, Ending::Open);
        for part in begun.requests {
            prop_assert!(!part.is_complete && found.requests[0].content.starts_with(&part.content));
        }
    }
}
