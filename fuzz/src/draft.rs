//! Request heads of the IETF draft.

use http::{HeaderMap, HeaderValue, Method};
use landfall_protocol::{
    ChecksumPlacement, DeclaredEnd, DeclaredLength, Metadata, Syntax, Target, headers as names,
    rufh::{DraftRequest, INTEROP_VERSION, InteropVersions, UploadLimits},
};

use crate::head::{check_rejection, headers};

/// The head of a creation or an append of the draft. The first byte is the content length, if its top bit is
/// not set; the second one selects the method.
pub fn draft_request(data: &[u8]) {
    let [length, bits, rest @ ..] = data else {
        return;
    };
    let content_length = (*length < 128).then_some(u64::from(*length));
    let sent = headers(rest);
    let (method, target) = match bits % 3 {
        0 => (Method::POST, Target::Collection),
        1 => (Method::PUT, Target::Collection),
        _ => (Method::PATCH, Target::Upload),
    };
    let accepted = InteropVersions::default();
    assert_eq!(
        DraftRequest::detect(&method, target, &sent, &InteropVersions::OFF),
        None
    );
    let Some(request) = DraftRequest::detect(&method, target, &sent, &accepted) else {
        return;
    };
    assert!(!sent.contains_key(names::TUS_RESUMABLE));
    if let Some(named) = request.named() {
        assert_eq!(named, request.version());
        assert!(accepted.contains(named) && sent.contains_key(INTEROP_VERSION));
    }
    if target == Target::Collection {
        create(request, &sent, content_length);
    } else {
        append(request, &sent, content_length);
    }
}

const MAX_SIZE: u64 = 1000;
const LIMITS: UploadLimits = UploadLimits {
    max_size: Some(MAX_SIZE),
    max_append_size: Some(100),
    min_append_size: Some(10),
    max_age: None,
};

fn check_content(content_length: Option<u64>, may_be_small: bool) {
    assert!(content_length.is_none_or(|n| n <= 100 && (n >= 10 || may_be_small)));
}

fn create(request: DraftRequest, sent: &HeaderMap, content_length: Option<u64>) {
    let parsed = request.create(sent, content_length, &LIMITS, Syntax::Strict);
    let create = match parsed {
        Ok(create) => create,
        Err(problem) => return check_rejection(&problem, &[400, 413]),
    };
    let ends = create.end == DeclaredEnd::WithContent;
    check_content(content_length, ends || content_length == Some(0));
    match create.declared {
        DeclaredLength::Known(length) => {
            assert!(length <= MAX_SIZE);
            assert!(content_length.is_none_or(|content| content <= length));
            assert!(!ends || content_length.is_none_or(|content| content == length));
        }
        DeclaredLength::Deferred => assert!(!ends || content_length.is_none()),
        DeclaredLength::SumOfParts => panic!("a final upload"),
    }
    assert!(create.with_upload && create.concat.is_none());
    assert!(create.metadata.header().len() <= Metadata::MAX_BYTES);
    assert!(create.checksum != ChecksumPlacement::Trailer);
}

fn append(request: DraftRequest, sent: &HeaderMap, content_length: Option<u64>) {
    let append = match request.append(sent, content_length, &LIMITS) {
        Ok(append) => append,
        Err(problem) => return check_rejection(&problem, &[400, 413, 415]),
    };
    check_content(content_length, append.end == DeclaredEnd::WithContent);
    assert!(append.offset < 1_000_000_000_000_000);
    // Printed plainly, the fields have the same meaning.
    let mut printed = sent.clone();
    printed.insert(names::UPLOAD_OFFSET, append.offset.into());
    match append.length {
        Some(length) => printed.insert(names::UPLOAD_LENGTH, length.into()),
        None => printed.insert(names::UPLOAD_LENGTH, HeaderValue::from_static("none")),
    };
    if append.end == DeclaredEnd::WithContent {
        let (name, value) = request.complete_field(true);
        printed.insert(name, value);
    }
    assert_eq!(
        request.append(&printed, content_length, &LIMITS),
        Ok(append)
    );
}
