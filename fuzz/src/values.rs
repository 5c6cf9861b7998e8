//! Values of header fields.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue};
use landfall_protocol::{
    Algorithm, Checksum, Concat, InvalidChecksum, InvalidConcat, InvalidField, InvalidMetadata,
    Metadata, parse_size, single_value,
};

use crate::head::{headers, text};

/// `Upload-Metadata`: preserved byte by byte, with unique valid keys, and pairs survive a round trip.
pub fn metadata(data: &[u8]) {
    let Some(sent) = text(data) else { return };
    let parsed = match Metadata::from_header(sent) {
        Ok(parsed) => parsed,
        Err(error) => return metadata_refused(sent, &error),
    };
    if parsed.is_empty() {
        assert!(sent.trim_matches([' ', '\t']).is_empty());
        assert_eq!(parsed.header(), "");
        return;
    }
    assert_eq!(parsed.header(), sent, "HEAD must return the header as sent");

    let mut keys = HashSet::new();
    for (key, value) in parsed.iter() {
        assert!(!key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic() && b != b','));
        assert!(keys.insert(key), "{key:?} twice");
        assert_eq!(parsed.get(key), Some(value));
    }

    // The header printed from the pairs is valid and equivalent, and loses nothing compared to the header as
    // sent.
    let printed = Metadata::from_pairs(parsed.iter());
    assert!(HeaderValue::from_str(printed.header()).is_ok());
    assert_eq!(
        Metadata::from_header(printed.header()).as_ref(),
        Ok(&printed)
    );
    assert!(printed.iter().eq(parsed.iter()));
    assert_eq!(printed.with_header(sent), parsed);
}

fn metadata_refused(sent: &str, error: &InvalidMetadata) {
    let elements = || sent.split(',').map(|e| e.trim_matches([' ', '\t']));
    match error {
        InvalidMetadata::EmptyElement => assert!(elements().any(str::is_empty)),
        InvalidMetadata::Key(key) => {
            assert!(!key.bytes().all(|b| b.is_ascii_graphic()));
            assert!(elements().any(|e| e.starts_with(key.as_str())));
        }
        InvalidMetadata::Duplicate(key) => {
            assert!(elements().filter(|e| e.starts_with(key.as_str())).count() > 1);
        }
        InvalidMetadata::Value(key) | InvalidMetadata::TrailingData(key) => {
            assert!(elements().any(|e| e.starts_with(key.as_str()) && e != key));
        }
        _ => {}
    }
}

/// `Upload-Concat`: the list has exactly the URLs sent, in order.
pub fn concat(data: &[u8]) {
    let Some(sent) = text(data) else { return };
    let blank = [' ', '\t'];
    let listed = |list: &str| list.split(blank).filter(|url| !url.is_empty()).count();
    match Concat::parse(sent) {
        Ok(Concat::Partial) => assert_eq!(sent, "partial"),
        Ok(Concat::Final { urls, header }) => {
            assert_eq!(header, sent, "HEAD must return the header as sent");
            assert!(!urls.is_empty() && urls.len() <= Concat::MAX_PARTS);
            assert!(
                urls.iter()
                    .all(|url| !url.is_empty() && !url.contains(blank))
            );
            let printed = format!("final;{}", urls.join(" "));
            let Ok(Concat::Final { urls: again, .. }) = Concat::parse(&printed) else {
                panic!("{printed:?} is refused")
            };
            assert_eq!(urls, again);
            assert!(
                urls.concat().bytes().eq(sent["final;".len()..]
                    .bytes()
                    .filter(|b| !b" \t".contains(b)))
            );
        }
        Err(InvalidConcat::Syntax) => assert!(sent != "partial" && !sent.starts_with("final;")),
        Err(InvalidConcat::NoParts) => assert_eq!(listed(&sent["final;".len()..]), 0),
        Err(InvalidConcat::TooMany) => {
            assert!(listed(&sent["final;".len()..]) > Concat::MAX_PARTS);
        }
        Err(other) => panic!("no rule for {other}"),
    }
}

/// `Upload-Checksum`: each digest has one encoding.
pub fn checksum(data: &[u8]) {
    let Some(sent) = text(data) else { return };
    match Checksum::parse(sent) {
        Ok(parsed) => {
            assert_eq!(parsed.to_string(), sent, "a digest has one spelling");
            assert!(parsed.algorithm.takes_length(parsed.digest.len()));
            assert_eq!(
                Algorithm::by_name(parsed.algorithm.name()),
                Some(parsed.algorithm)
            );
        }
        Err(InvalidChecksum::Algorithm(name)) => {
            assert!(sent.starts_with(&name) && Algorithm::by_name(&name).is_none());
        }
        Err(InvalidChecksum::Length { algorithm, bytes }) => {
            assert!(sent.starts_with(algorithm.name()) && !algorithm.takes_length(bytes));
        }
        Err(_) => {}
    }
}

/// Numbers of bytes, and fields that may occur once.
pub fn fields(data: &[u8]) {
    if let Some(sent) = text(data) {
        let digits = !sent.is_empty() && sent.bytes().all(|b| b.is_ascii_digit());
        // Without leading zeros, more than 19 digits exceed 2^63-1.
        let significant = sent.trim_start_matches('0');
        let small = significant.len() <= 19
            && (significant.is_empty() || significant.parse::<u128>().is_ok_and(|n| n < 1 << 63));
        match parse_size(sent) {
            Ok(n) => {
                assert!(digits && small);
                assert_eq!(parse_size(&n.to_string()), Ok(n));
                assert_eq!(n.to_string().trim_start_matches('0'), significant);
            }
            Err(InvalidField::NotANumber) => assert!(!digits),
            Err(InvalidField::TooLarge) => assert!(digits && !small),
            Err(other) => panic!("{other} for a number"),
        }
    }

    let name = HeaderName::from_static("upload-offset");
    let headers = headers(data);
    let lines: Vec<_> = headers.get_all(&name).iter().collect();
    match single_value(&headers, &name) {
        Ok(None) => assert!(lines.is_empty()),
        Ok(Some(value)) => {
            assert_eq!(lines.len(), 1);
            assert_eq!(value, value.trim_matches([' ', '\t']));
            assert!(value.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~')));
        }
        Err(InvalidField::Repeated) => assert!(lines.len() > 1),
        Err(InvalidField::NotText) => assert!(lines[0].to_str().is_err()),
        Err(other) => panic!("{other} for a field"),
    }
}
