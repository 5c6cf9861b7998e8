//! Heads that are rejected. The status of each reason is in `problems`.

use ProblemKind::{
    AmbiguousLength, ConcatenationUnsupported, ContentEncoding, InvalidChecksum, InvalidConcat,
    InvalidContentType, InvalidDeferLength, InvalidMetadata, InvalidMethod, InvalidOffset,
    InvalidUploadLength, MaxSizeExceeded, MethodNotAllowed, NotImplemented, UnsupportedChecksum,
    UnsupportedVersion,
};
use http::Method;
use landfall_protocol::{
    Append, Create, Operation, ProblemKind, Syntax, Target, effective_method, require_version,
};

use crate::{ALL, NONE, headers, kind};

type Field = (&'static str, &'static str);
/// A field, its rejected values, the rest of the head, and the reason.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [Field],
    ProblemKind,
);

const DATA: Field = ("content-type", "application/offset+octet-stream");
const OFFSET: Field = ("upload-offset", "0");
const LENGTH: Field = ("upload-length", "5");
const PARTIAL: Field = ("upload-concat", "partial");
const SHA1: Field = ("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
const VERY_LARGE: &str = "999999999999999999999999999999999999999999999999999999999999999999999";

const LENGTHS: &[&str] = &[
    "",
    "-1",
    "+5",
    "5.0",
    "1e3",
    "ten",
    "5;",
    "0x5",
    "9223372036854775808",
    VERY_LARGE,
];
const CHECKSUMS: &[&str] = &[
    "",
    "sha1",
    "sha1 ",
    "sha1Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0",
    "sha1 Kq5sNclPz7QV2-lfQIuc6R7oRu0=",
    "sha1 2aae6c35c94fcfb415dbe95f408b9ce91ee846ed",
    "sha1 ????",
    "sha1 AAAA",
    "crc32 AAAAAAAA",
];
const ALGORITHMS: &[&str] = &[
    "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "Sha1 AAAA",
    "md4 AAAA",
    "sha-1 AAAA",
];

const CREATIONS: &[Row] = &[
    ("x-other", &["no length"], &[], InvalidUploadLength),
    ("upload-length", LENGTHS, &[], InvalidUploadLength),
    ("upload-length", &["6"], &[LENGTH], InvalidUploadLength),
    ("upload-length", &["1001"], &[], MaxSizeExceeded),
    (
        "upload-defer-length",
        &["", "0", "2", "true", "01", "1, 1", "-1"],
        &[],
        InvalidDeferLength,
    ),
    // An invalid value is an error even with a length.
    ("upload-defer-length", &["0"], &[LENGTH], InvalidDeferLength),
    ("upload-defer-length", &["1"], &[LENGTH], AmbiguousLength),
    (
        "upload-defer-length",
        &["1"],
        &[("upload-defer-length", "1")],
        InvalidDeferLength,
    ),
    (
        "upload-metadata",
        &["a YQ==,a YQ==", "na\u{ef}ve YQ==", "a ?"],
        &[LENGTH],
        InvalidMetadata,
    ),
    (
        "upload-metadata",
        &["a"],
        &[LENGTH, ("upload-metadata", "b")],
        InvalidMetadata,
    ),
    (
        "upload-concat",
        &[
            "",
            "Partial",
            "PARTIAL",
            "partial;",
            "final",
            "final;",
            "final; ",
            "final;\t \t",
            "Final;/a",
            "final:/a",
            "whole",
            "partial, final;/a",
        ],
        &[LENGTH],
        InvalidConcat,
    ),
    ("upload-concat", &["partial"], &[PARTIAL], InvalidConcat),
    ("upload-concat", &["partial"], &[], InvalidUploadLength),
    (
        "upload-checksum",
        CHECKSUMS,
        &[LENGTH, DATA],
        InvalidChecksum,
    ),
    (
        "upload-checksum",
        ALGORITHMS,
        &[LENGTH, DATA],
        UnsupportedChecksum,
    ),
    (
        "content-encoding",
        &["gzip"],
        &[LENGTH, DATA],
        ContentEncoding,
    ),
];

const NOT_OFFERED: &[Row] = &[
    (
        "upload-concat",
        &["partial", "final;/a", "nonsense"],
        &[LENGTH],
        ConcatenationUnsupported,
    ),
    ("upload-defer-length", &["1"], &[], NotImplemented),
];

const APPENDS: &[Row] = &[
    ("x-other", &["no offset"], &[DATA], InvalidOffset),
    (
        "upload-offset",
        &[
            "",
            " ",
            "-1",
            "+5",
            "5.0",
            "1e3",
            "0x1",
            "1_000",
            "5 5",
            "5,5",
            "five",
            "\u{663}",
            "9223372036854775808",
            "18446744073709551616",
            VERY_LARGE,
        ],
        &[DATA],
        InvalidOffset,
    ),
    ("upload-offset", &["0"], &[DATA, OFFSET], InvalidOffset),
    (
        "upload-length",
        LENGTHS,
        &[DATA, OFFSET],
        InvalidUploadLength,
    ),
    ("x-other", &["no type"], &[OFFSET], InvalidContentType),
    (
        "content-type",
        &[
            "",
            "text/plain",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "application/offset+octet-stream2",
            "application/partial-upload",
        ],
        // Checked before the offset.
        &[("upload-offset", "x")],
        InvalidContentType,
    ),
    (
        "content-type",
        &["text/plain"],
        &[DATA, OFFSET],
        InvalidContentType,
    ),
    (
        "content-encoding",
        &["gzip", "br", "deflate", "zstd", "identity, gzip", "x"],
        &[DATA, OFFSET],
        ContentEncoding,
    ),
    (
        "content-encoding",
        &["gzip"],
        &[DATA, OFFSET, ("content-encoding", "identity")],
        ContentEncoding,
    ),
    (
        "upload-checksum",
        CHECKSUMS,
        &[DATA, OFFSET],
        InvalidChecksum,
    ),
    (
        "upload-checksum",
        ALGORITHMS,
        &[DATA, OFFSET],
        UnsupportedChecksum,
    ),
    (SHA1.0, &[SHA1.1], &[DATA, OFFSET, SHA1], InvalidChecksum),
];

fn expect_rejections(rows: &[Row], parse: impl Fn(&http::HeaderMap) -> ProblemKind) {
    for (name, values, rest, expected) in rows {
        for value in *values {
            let mut sent = headers([(name, value)]);
            for (name, value) in *rest {
                sent.append(*name, value.parse().unwrap());
            }
            assert_eq!(parse(&sent), *expected, "{name}: {value:?}, {rest:?}");
        }
    }
}

#[test]
fn creations_are_rejected() {
    let parse = |offered| {
        move |sent: &http::HeaderMap| kind(Create::parse(sent, offered, Some(1000), Syntax::Strict))
    };
    expect_rejections(CREATIONS, parse(ALL));
    expect_rejections(NOT_OFFERED, parse(NONE));
    let one = headers([("upload-length", "1")]);
    assert_eq!(
        kind(Create::parse(&one, ALL, Some(0), Syntax::Strict)),
        MaxSizeExceeded
    );
}

#[test]
fn appends_are_rejected() {
    expect_rejections(APPENDS, |sent| {
        kind(Append::parse(sent, ALL, Syntax::Strict))
    });
}

#[test]
fn rejections_say_what_to_send() {
    let problem = Create::parse(&headers([]), ALL, None, Syntax::Strict).unwrap_err();
    assert!(
        problem.to_string().contains("Upload-Defer-Length: 1"),
        "{problem}"
    );
    let sent = headers([DATA, OFFSET, ("upload-checksum", ALGORITHMS[0])]);
    let problem = Append::parse(&sent, ALL, Syntax::Strict).unwrap_err();
    let all = landfall_protocol::Algorithm::LIST;
    assert!(problem.to_string().contains(all), "{problem}");
}

#[test]
fn other_versions_are_rejected() {
    use Operation::{Append, Create, Download, Inspect, Options, Terminate};
    const VERSIONS: &[&str] = &[
        "0.2.2",
        "1.0",
        "1.0.1",
        "2.0.0",
        "v1.0.0",
        "",
        "1.0.0, 0.2.2",
    ];
    let rows: [Row; 2] = [
        ("tus-resumable", VERSIONS, &[], UnsupportedVersion),
        (
            "tus-resumable",
            &["1.0.0"],
            &[("tus-resumable", "1.0.0")],
            UnsupportedVersion,
        ),
    ];
    for operation in [Create, Append, Terminate, Inspect, Download] {
        expect_rejections(&rows, |sent| kind(require_version(operation, sent)));
        let right = headers([("tus-resumable", "1.0.0")]);
        assert_eq!(require_version(operation, &right), Ok(()));
        // Browsers and health checks send none.
        let is_optional = matches!(operation, Inspect | Download);
        assert_eq!(
            require_version(operation, &headers([])).is_ok(),
            is_optional
        );
    }
    for sent in VERSIONS {
        let sent = headers([("tus-resumable", sent)]);
        assert_eq!(require_version(Options, &sent), Ok(()));
    }
}

#[test]
fn other_overrides_are_rejected() {
    let rows: [Row; 2] = [
        (
            "x-http-method-override",
            &[
                "",
                "patch",
                "Delete",
                "TRACE",
                "CONNECT",
                "PATCH, DELETE",
                "BREW",
                "PUT",
            ],
            &[],
            InvalidMethod,
        ),
        (
            "x-http-method-override",
            &["PATCH"],
            &[("x-http-method-override", "HEAD")],
            InvalidMethod,
        ),
    ];
    expect_rejections(&rows, |sent| kind(effective_method(&Method::POST, sent)));
}

#[test]
fn other_methods_are_not_allowed() {
    use Target::{Collection, Upload};
    for (target, offered, methods) in [
        (Upload, ALL, &["PUT", "POST", "TRACE", "BREW", "patch"][..]),
        (Upload, NONE, &["DELETE", "GET"]),
        (Collection, ALL, &["GET", "HEAD", "PATCH", "DELETE", "PUT"]),
    ] {
        for method in methods {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let reason = kind(Operation::parse(&method, target, offered));
            assert_eq!(reason, MethodNotAllowed, "{method} on {target:?}");
        }
    }
}
