//! Request heads.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use landfall_protocol::{
    Append, ChecksumPlacement, Concat, Create, DeclaredLength, Extensions, Operation, Problem,
    ProblemKind, Syntax, Target, effective_method, has_offset_octet_stream, headers as names,
    require_version,
};

/// Returns the input as text, if it is UTF-8.
pub(crate) fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Parses lines of `name: value`, without those that are invalid in HTTP.
pub(crate) fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|&b| b == b'\n').take(64) {
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(value),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// A rejection is a 4xx (or 501) with one line.
pub(crate) fn check_rejection(problem: &Problem, statuses: &[u16]) {
    assert!(statuses.contains(&problem.status()), "{problem:?}");
    let body = problem.to_string();
    assert!(body.starts_with(problem.code()));
    assert!(body.ends_with('\n'));
    assert!(
        !body.trim_end_matches('\n').contains(char::is_control),
        "{body:?}"
    );
    assert_eq!(body.matches('\n').count(), 1);
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers
        .get(name)
        .map(|value| value.to_str().expect("accepted values are text").trim())
}

fn extensions(bits: u8) -> Extensions {
    Extensions {
        termination: bits & 1 != 0,
        concatenation: bits & 2 != 0,
        defer_length: bits & 4 != 0,
        expiration: bits & 8 != 0,
        download: bits & 16 != 0,
        checksum: bits & 32 != 0,
    }
}

/// The head of a creation. The first byte selects the server's features; its top bit sets a maximum size
/// of 1,000 bytes.
pub fn create(data: &[u8]) {
    let Some((&bits, rest)) = data.split_first() else {
        return;
    };
    let offered = extensions(bits);
    let max_size = (bits & 128 != 0).then_some(1000);
    let sent = headers(rest);
    let create = match Create::parse(&sent, offered, max_size, Syntax::Strict) {
        Ok(create) => create,
        Err(problem) => return check_rejection(&problem, &[400, 413, 415, 501]),
    };
    let is_final = matches!(create.concat, Some(Concat::Final { .. }));
    match create.declared {
        DeclaredLength::Known(length) => {
            assert!(max_size.is_none_or(|max| length <= max));
            assert_eq!(
                only(&sent, &names::UPLOAD_LENGTH).map(str::parse),
                Some(Ok(length))
            );
            assert!(!sent.contains_key(names::UPLOAD_DEFER_LENGTH));
        }
        DeclaredLength::Deferred => {
            assert!(offered.defer_length && !is_final);
            assert_eq!(only(&sent, &names::UPLOAD_DEFER_LENGTH), Some("1"));
            assert!(!sent.contains_key(names::UPLOAD_LENGTH));
        }
        DeclaredLength::SumOfParts => assert!(is_final && !sent.contains_key(names::UPLOAD_LENGTH)),
    }
    assert!(offered.concatenation || !sent.contains_key(names::UPLOAD_CONCAT));
    if !create.metadata.is_empty() {
        assert_eq!(
            only(&sent, &names::UPLOAD_METADATA),
            Some(create.metadata.header())
        );
    }
    assert_eq!(create.with_upload, has_offset_octet_stream(&sent));
    if !create.with_upload {
        assert_eq!(create.checksum, ChecksumPlacement::None);
    }

    // It survives a round trip.
    let mut printed = HeaderMap::new();
    let mut put = |name: HeaderName, value: String| {
        printed.insert(name, HeaderValue::from_str(&value).expect("printable"));
    };
    match create.declared {
        DeclaredLength::Known(length) => put(names::UPLOAD_LENGTH, length.to_string()),
        DeclaredLength::Deferred => put(names::UPLOAD_DEFER_LENGTH, "1".into()),
        DeclaredLength::SumOfParts => {}
    }
    put(names::UPLOAD_METADATA, create.metadata.header().into());
    match &create.concat {
        Some(Concat::Partial) => put(names::UPLOAD_CONCAT, "partial".into()),
        Some(Concat::Final { header, .. }) => put(names::UPLOAD_CONCAT, header.clone()),
        None => {}
    }
    if create.with_upload {
        put(header::CONTENT_TYPE, names::OFFSET_OCTET_STREAM.into());
    }
    put_checksum(&create.checksum, &mut put);
    assert_eq!(
        Create::parse(&printed, offered, max_size, Syntax::Strict),
        Ok(create)
    );
}

/// The head of an append.
pub fn append(data: &[u8]) {
    let sent = headers(data);
    let append = match Append::parse(&sent, extensions(u8::MAX), Syntax::Strict) {
        Ok(append) => append,
        Err(problem) => return check_rejection(&problem, &[400, 415]),
    };
    assert!(has_offset_octet_stream(&sent));
    assert_eq!(
        only(&sent, &names::UPLOAD_OFFSET).map(str::parse),
        Some(Ok(append.offset))
    );
    assert_eq!(
        only(&sent, &names::UPLOAD_LENGTH).map(str::parse),
        append.length.map(Ok)
    );

    let mut printed = HeaderMap::new();
    let mut put = |name: HeaderName, value: String| {
        printed.insert(name, HeaderValue::from_str(&value).expect("printable"));
    };
    put(header::CONTENT_TYPE, names::OFFSET_OCTET_STREAM.into());
    put(names::UPLOAD_OFFSET, append.offset.to_string());
    if let Some(length) = append.length {
        put(names::UPLOAD_LENGTH, length.to_string());
    }
    put_checksum(&append.checksum, &mut put);
    assert_eq!(
        Append::parse(&printed, extensions(u8::MAX), Syntax::Strict),
        Ok(append)
    );
}

fn put_checksum(checksum: &ChecksumPlacement, put: &mut impl FnMut(HeaderName, String)) {
    match checksum {
        ChecksumPlacement::None | ChecksumPlacement::Ignored => {}
        ChecksumPlacement::Header(checksum) => put(names::UPLOAD_CHECKSUM, checksum.to_string()),
        ChecksumPlacement::Trailer => put(header::TRAILER, "Upload-Checksum".into()),
    }
}

/// A head and, after an empty line, a trailer section.
pub fn trailers(data: &[u8]) {
    let (head, rest) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], Some(&data[at + 2..])),
        None => (data, None),
    };
    let mut head = headers(head);
    head.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(names::OFFSET_OCTET_STREAM),
    );
    head.insert(names::UPLOAD_OFFSET, HeaderValue::from_static("0"));
    let Ok(Append {
        checksum: placement,
        ..
    }) = Append::parse(&head, extensions(u8::MAX), Syntax::Strict)
    else {
        return;
    };
    let trailers = rest.map(headers);
    match placement.clone().with_trailers(trailers.as_ref()) {
        Ok(Some(checksum)) => {
            let sent_in = |map: &HeaderMap| {
                only(map, &names::UPLOAD_CHECKSUM).map(|value| value == checksum.to_string())
            };
            let trailer = trailers.as_ref().and_then(sent_in);
            assert!(sent_in(&head) == Some(true) || trailer == Some(true));
            assert!(
                sent_in(&head) != Some(false) && trailer != Some(false),
                "one of two ignored"
            );
        }
        Ok(None) => {
            assert_eq!(placement, ChecksumPlacement::None);
            assert!(trailers.is_none_or(|map| !map.contains_key(names::UPLOAD_CHECKSUM)));
        }
        Err(problem) => {
            check_rejection(&problem, &[400]);
            assert!(placement != ChecksumPlacement::None || trailers.is_some());
        }
    }
}

/// Method, target and version. The first line is the method.
pub fn request(data: &[u8]) {
    let line = data.iter().position(|&b| b == b'\n').unwrap_or(data.len());
    let Ok(method) = Method::from_bytes(&data[..line]) else {
        return;
    };
    let sent = headers(&data[line..]);
    let is_unsafe = matches!(method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE");
    let effective = match effective_method(&method, &sent) {
        Ok(effective) => effective,
        Err(problem) => {
            assert!(is_unsafe);
            return check_rejection(&problem, &[400]);
        }
    };
    match sent.get(names::METHOD_OVERRIDE) {
        Some(named) if is_unsafe => {
            assert_eq!(named.as_bytes().trim_ascii(), effective.as_str().as_bytes());
        }
        _ => assert_eq!(effective, method),
    }
    for (bits, target) in [0, 31]
        .into_iter()
        .flat_map(|bits| [(bits, Target::Collection), (bits, Target::Upload)])
    {
        let offered = extensions(bits);
        let operation = match Operation::parse(&effective, target, offered) {
            Ok(operation) => operation,
            Err(problem) => {
                assert_eq!(problem.kind, ProblemKind::MethodNotAllowed);
                let mut allowed = Operation::allow(target, offered).split(", ");
                assert!(!allowed.any(|m| m == effective.as_str()));
                continue;
            }
        };
        if let Err(problem) = require_version(operation, &sent) {
            check_rejection(&problem, &[412]);
            assert_ne!(operation, Operation::Options);
            let versions: Vec<_> = sent.get_all(names::TUS_RESUMABLE).iter().collect();
            assert!(versions.len() != 1 || versions[0].as_bytes().trim_ascii() != b"1.0.0");
        }
    }
}
