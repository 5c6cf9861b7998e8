//! Property tests: parsing is the inverse of formatting.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use landfall_protocol::{
    Algorithm, Append, Checksum, ChecksumPlacement, Concat, Create, DeclaredEnd, DeclaredLength,
    Metadata, Syntax, headers as names, parse_size,
};
use proptest::{collection::vec, prelude::*};

use crate::ALL;

fn key() -> impl Strategy<Value = String> {
    "[!-+\\--~]{1,20}"
}

fn metadata() -> impl Strategy<Value = Metadata> {
    vec((key(), vec(any::<u8>(), 0..40)), 0..8).prop_map(Metadata::from_pairs)
}

fn checksum() -> impl Strategy<Value = Checksum> {
    (0..Algorithm::ALL.len(), any::<[u8; 64]>(), any::<bool>()).prop_map(|(n, bytes, longest)| {
        let algorithm = Algorithm::ALL[n];
        let mut lengths = (0..=64).filter(|&length| algorithm.takes_length(length));
        let length = if longest {
            lengths.next_back()
        } else {
            lengths.next()
        };
        Checksum {
            algorithm,
            digest: bytes[..length.unwrap()].to_vec(),
        }
    })
}

fn placement() -> impl Strategy<Value = ChecksumPlacement> {
    prop_oneof![
        Just(ChecksumPlacement::None),
        Just(ChecksumPlacement::Trailer),
        checksum().prop_map(ChecksumPlacement::Header),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..=i64::MAX.unsigned_abs(),
        Just(i64::MAX.unsigned_abs()),
        0..10_u64
    ]
}

fn concat() -> impl Strategy<Value = Concat> {
    prop_oneof![
        Just(Concat::Partial),
        vec("[!-~]{1,30}", 1..9).prop_map(|urls| Concat::Final {
            header: format!("final;{}", urls.join(" ")),
            urls
        }),
    ]
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).unwrap());
}

fn print_announced(headers: &mut HeaderMap, announced: &ChecksumPlacement) {
    match announced {
        ChecksumPlacement::None | ChecksumPlacement::Ignored => {}
        ChecksumPlacement::Header(sum) => set(headers, names::UPLOAD_CHECKSUM, &sum.to_string()),
        ChecksumPlacement::Trailer => set(headers, header::TRAILER, "Upload-Checksum"),
    }
}

proptest! {
    #[test]
    fn sizes(n in size()) {
        prop_assert_eq!(parse_size(&n.to_string()), Ok(n));
    }

    #[test]
    fn checksums(sum in checksum()) {
        prop_assert_eq!(Checksum::parse(&sum.to_string()), Ok(sum));
    }

    #[test]
    fn metadata_as_pairs(given in metadata()) {
        let parsed = Metadata::from_header(given.header());
        prop_assert_eq!(parsed.as_ref(), Ok(&given));
    }

    /// The header is returned as received, with any padding, order and spacing, and the values are
    /// correct.
    #[test]
    fn metadata_as_sent(
        given in metadata(),
        padded in any::<bool>(),
        before in "[ \t]{0,2}",
        after in "[ \t]{0,2}",
    ) {
        let sent: Vec<_> = given
            .header()
            .split(',')
            .map(|element| {
                let element = if padded { element } else { element.trim_end_matches('=') };
                format!("{before}{element}{after}")
            })
            .collect();
        let sent = sent.join(",");
        // A key may end with `=`, which is no padding.
        prop_assume!(padded || given.iter().all(|(key, _)| !key.ends_with('=')));
        let parsed = Metadata::from_header(&sent).unwrap();
        prop_assert!(parsed.iter().eq(given.iter()));
        if !parsed.is_empty() {
            prop_assert_eq!(parsed.header(), sent);
        }
    }

    /// A store keeps values as text and without order; the header restores both.
    #[test]
    fn metadata_kept_as_text(given in metadata()) {
        let mut texts: Vec<_> = given
            .iter()
            .map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned()))
            .collect();
        texts.sort();
        let kept = Metadata::from_pairs(texts);
        prop_assert_eq!(kept.with_header(given.header()), given);
    }

    #[test]
    fn appends(offset in size(), length in proptest::option::of(size()), checksum in placement()) {
        let mut headers = HeaderMap::new();
        set(&mut headers, header::CONTENT_TYPE, names::OFFSET_OCTET_STREAM);
        set(&mut headers, names::UPLOAD_OFFSET, &offset.to_string());
        if let Some(length) = length {
            set(&mut headers, names::UPLOAD_LENGTH, &length.to_string());
        }
        print_announced(&mut headers, &checksum);
        prop_assert_eq!(Append::parse(&headers, ALL, Syntax::Strict), Ok(Append { offset, length, checksum, repr_digest: None, end: DeclaredEnd::AtLength, ends_beyond_length: false }));
    }

    #[test]
    fn creations(
        length in proptest::option::of(size()),
        metadata in metadata(),
        concat in proptest::option::of(concat()),
        with_upload in any::<bool>(),
        announced in placement(),
    ) {
        let mut headers = HeaderMap::new();
        let is_final = matches!(concat, Some(Concat::Final { .. }));
        let declared = match length {
            Some(length) => {
                set(&mut headers, names::UPLOAD_LENGTH, &length.to_string());
                DeclaredLength::Known(length)
            }
            None if is_final => DeclaredLength::SumOfParts,
            None => {
                set(&mut headers, names::UPLOAD_DEFER_LENGTH, "1");
                DeclaredLength::Deferred
            }
        };
        if !metadata.is_empty() {
            set(&mut headers, names::UPLOAD_METADATA, metadata.header());
        }
        match &concat {
            Some(Concat::Partial) => set(&mut headers, names::UPLOAD_CONCAT, "partial"),
            Some(Concat::Final { header, .. }) => set(&mut headers, names::UPLOAD_CONCAT, header),
            None => {}
        }
        if with_upload {
            set(&mut headers, header::CONTENT_TYPE, names::OFFSET_OCTET_STREAM);
        }
        print_announced(&mut headers, &announced);
        let checksum = if with_upload { announced } else { ChecksumPlacement::None };
        let expected = Create {
            declared, metadata, concat, with_upload, checksum,
            repr_digest: None, end: DeclaredEnd::AtLength, is_draft: false,
        };
        prop_assert_eq!(Create::parse(&headers, ALL, None, Syntax::Strict), Ok(expected));
    }

    /// For any text, a rejection is a 4xx (501 for an extension that is not offered) with one clean
    /// line.
    #[test]
    fn refusals(names in vec(0..6_usize, 0..5), values in vec("[ -~\t]{0,30}", 5)) {
        const NAMES: [&str; 6] = [
            "upload-length", "upload-offset", "upload-metadata", "upload-concat",
            "upload-checksum", "upload-defer-length",
        ];
        let mut headers = HeaderMap::new();
        set(&mut headers, header::CONTENT_TYPE, names::OFFSET_OCTET_STREAM);
        for (name, value) in names.into_iter().zip(&values) {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::from_static(NAMES[name]), value);
        }
        let refusals = [
            Create::parse(&headers, ALL, Some(100), Syntax::Strict).err(),
            Append::parse(&headers, ALL, Syntax::Strict).err(),
        ];
        for problem in refusals.into_iter().flatten() {
            prop_assert!((400..500).contains(&problem.status()), "{problem:?}");
            let body = problem.to_string();
            let line = body.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(char::is_control), "{body:?}");
        }
    }
}
