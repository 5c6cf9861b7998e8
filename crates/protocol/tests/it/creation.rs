//! Creation, deferred lengths, creation with upload, metadata.

use landfall_protocol::{
    ChecksumPlacement, Concat, Create, DeclaredLength, InvalidMetadata, Metadata, Syntax,
};

use crate::{ALL, headers};

const CONTENT_TYPE: (&str, &str) = ("content-type", "application/offset+octet-stream");

#[test]
fn lengths_are_plain_digits() {
    for (sent, read) in [
        ("0", 0),
        ("100", 100),
        ("9223372036854775807", i64::MAX as u64),
    ] {
        let create = Create::parse(
            &headers([("upload-length", sent)]),
            ALL,
            None,
            Syntax::Strict,
        )
        .unwrap();
        assert_eq!(create.declared, DeclaredLength::Known(read));
    }
}

#[test]
fn length_0_is_valid() {
    let create = Create::parse(
        &headers([("upload-length", "0")]),
        ALL,
        Some(10),
        Syntax::Strict,
    )
    .unwrap();
    assert_eq!(create.declared, DeclaredLength::Known(0));
}

#[test]
fn only_1_defers() {
    let deferred = |sent| {
        Create::parse(
            &headers([("upload-defer-length", sent)]),
            ALL,
            None,
            Syntax::Strict,
        )
    };
    assert_eq!(deferred("1").unwrap().declared, DeclaredLength::Deferred);
}

#[test]
fn content_type_decides_whether_the_body_is_upload_data() {
    let create = |content_type| {
        Create::parse(
            &headers([("upload-length", "5"), ("content-type", content_type)]),
            ALL,
            None,
            Syntax::Strict,
        )
        .unwrap()
    };
    for good in [
        "application/offset+octet-stream",
        "APPLICATION/offset+octet-stream;x=y",
    ] {
        assert!(create(good).with_upload, "{good}");
    }
    for other in [
        "",
        "text/plain",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
    ] {
        assert!(!create(other).with_upload, "{other}");
    }
    let none = Create::parse(
        &headers([("upload-length", "5")]),
        ALL,
        None,
        Syntax::Strict,
    )
    .unwrap();
    assert!(!none.with_upload);
}

#[test]
fn checksum_on_post_is_verified_for_upload_data() {
    const SUM: (&str, &str) = ("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    let with = headers([("upload-length", "5"), CONTENT_TYPE, SUM]);
    let create = Create::parse(&with, ALL, None, Syntax::Strict).unwrap();
    assert!(matches!(create.checksum, ChecksumPlacement::Header(_)));
    let without = headers([("upload-length", "5"), ("upload-checksum", "sha1 x")]);
    assert_eq!(
        Create::parse(&without, ALL, None, Syntax::Strict)
            .unwrap()
            .checksum,
        ChecksumPlacement::None
    );
}

#[test]
fn encoded_bodies_are_accepted_where_they_are_no_upload_data() {
    let encoding = ("content-encoding", "gzip");
    let without = headers([
        ("upload-length", "5"),
        ("content-type", "text/plain"),
        encoding,
    ]);
    assert!(Create::parse(&without, ALL, None, Syntax::Strict).is_ok());
}

#[test]
fn metadata_is_a_list_of_pairs() {
    let sent = "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential";
    let create = Create::parse(
        &headers([("upload-length", "5"), ("upload-metadata", sent)]),
        ALL,
        None,
        Syntax::Strict,
    )
    .unwrap();
    let pairs: Vec<_> = create.metadata.iter().collect();
    assert_eq!(
        pairs,
        [
            ("filename", &b"world_domination_plan.pdf"[..]),
            ("is_confidential", &b""[..])
        ]
    );
}

#[test]
fn metadata_of_real_clients_is_accepted() {
    for (sent, pairs) in [
        ("", &[][..]),
        (" ", &[]),
        ("empty ", &[("empty", "")]), // tus-js-client, for an empty value
        ("a ,b ", &[("a", ""), ("b", "")]),
        ("a YQ==, b Yg==", &[("a", "a"), ("b", "b")]),
        ("a YQ== ,\tb\tYg==", &[("a", "a"), ("b", "b")]),
        ("a.b-c_d:e YQ==", &[("a.b-c_d:e", "a")]),
    ] {
        let parsed = Metadata::from_header(sent).unwrap();
        let got: Vec<_> = parsed
            .iter()
            .map(|(k, v)| (k, std::str::from_utf8(v).unwrap()))
            .collect();
        assert_eq!(got, pairs, "{sent:?}");
    }
}

#[test]
fn malformed_metadata_is_rejected() {
    use InvalidMetadata::{Duplicate, EmptyElement, Key, TrailingData, Value};
    let a = || String::from("a");
    for (sent, error) in [
        (",", EmptyElement),
        ("a YQ==,,b Yg==", EmptyElement),
        ("a YQ==,", EmptyElement),
        (",a YQ==", EmptyElement),
        ("a YQ==,a Yg==", Duplicate(a())),
        ("a,a", Duplicate(a())),
        ("a Y", Value(a())),
        ("a YQ===", Value(a())),
        ("a Y=Q=", Value(a())),
        ("a YR==", Value(a())),
        ("a Zm9v-_==", Value(a())),
        ("a b c", Value(a())),
        ("a YQ== YQ==", TrailingData(a())),
        ("naïve YQ==", Key("naïve".into())),
        ("a\u{7f} YQ==", Key("a\u{7f}".into())),
    ] {
        assert_eq!(Metadata::from_header(sent), Err(error), "{sent:?}");
    }
}

#[test]
fn padding_is_optional_and_the_alphabet_is_standard() {
    for (sent, value) in [
        ("a YQ==", &b"a"[..]),
        ("a YQ", b"a"),
        ("a Zm8=", b"fo"),
        ("a Zm8", b"fo"),
        ("a +/+/", b"\xfb\xff\xbf"),
        ("a AAEC/w==", b"\x00\x01\x02\xff"),
    ] {
        assert_eq!(
            Metadata::from_header(sent).unwrap().get("a"),
            Some(value),
            "{sent:?}"
        );
    }
    for url_safe in ["a -_-_", "a Zm9v_w=="] {
        assert!(Metadata::from_header(url_safe).is_err(), "{url_safe:?}");
    }
}

#[test]
fn header_is_stored_exactly() {
    for sent in ["b Yg,a YQ==", "a YQ== ,\tb", "empty ,bare"] {
        assert_eq!(Metadata::from_header(sent).unwrap().header(), sent);
    }
}

#[test]
fn values_may_be_any_bytes() {
    let parsed = Metadata::from_header("name YQ0KU2V0LUNvb2tpZTogeA==").unwrap();
    assert_eq!(parsed.get("name"), Some(&b"a\r\nSet-Cookie: x"[..]));
    assert!(!parsed.header().contains(char::is_control));
    let parsed = Metadata::from_header("name /w==").unwrap();
    assert_eq!(parsed.get_text("name").unwrap(), "\u{fffd}");
}

#[test]
fn partial_upload_has_a_length() {
    let partial = ("upload-concat", "partial");
    let create = Create::parse(
        &headers([partial, ("upload-length", "5")]),
        ALL,
        None,
        Syntax::Strict,
    )
    .unwrap();
    assert_eq!(
        (create.concat, create.declared),
        (Some(Concat::Partial), DeclaredLength::Known(5))
    );
    let deferred = headers([partial, ("upload-defer-length", "1")]);
    assert_eq!(
        Create::parse(&deferred, ALL, None, Syntax::Strict)
            .unwrap()
            .declared,
        DeclaredLength::Deferred
    );
}
