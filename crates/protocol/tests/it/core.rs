//! Core: versions, methods, offsets, content types.

use http::Method;
use landfall_protocol::{
    Append, ChecksumPlacement, DeclaredEnd, Extensions, Operation, Problem, Syntax, Target,
    effective_method,
};

use crate::{ALL, NONE, headers};

const CONTENT_TYPE: (&str, &str) = ("content-type", "application/offset+octet-stream");

fn append(offset: &str) -> Result<Append, Problem> {
    let sent = headers([CONTENT_TYPE, ("upload-offset", offset)]);
    Append::parse(&sent, ALL, Syntax::Strict)
}

#[test]
fn offsets_are_plain_digits() {
    for (sent, read) in [
        ("0", 0),
        ("70", 70),
        ("007", 7),
        (" 5\t", 5),
        ("9223372036854775807", i64::MAX.unsigned_abs()),
    ] {
        assert_eq!(append(sent).unwrap().offset, read, "{sent:?}");
    }
}

#[test]
fn lengths_on_patch_are_plain_digits() {
    let length = |sent| {
        Append::parse(
            &headers([
                CONTENT_TYPE,
                ("upload-offset", "5"),
                ("upload-length", sent),
            ]),
            ALL,
            Syntax::Strict,
        )
    };
    assert_eq!(length("100").unwrap().length, Some(100));
    assert_eq!(append("5").unwrap().length, None);
}

#[test]
fn extensions_are_a_comma_separated_list() {
    assert_eq!(
        ALL.list(),
        "creation,creation-with-upload,termination,concatenation,concatenation-unfinished,\
         creation-defer-length,expiration,checksum,checksum-trailer"
    );
    assert_eq!(NONE.list(), "creation,creation-with-upload");
    type Offer = fn(&mut Extensions);
    let offers: [(Offer, &str); 7] = [
        (|offered| offered.termination = true, "termination"),
        (|offered| offered.concatenation = true, "concatenation"),
        (
            |offered| offered.concatenation = true,
            "concatenation-unfinished",
        ),
        (
            |offered| offered.defer_length = true,
            "creation-defer-length",
        ),
        (|offered| offered.expiration = true, "expiration"),
        (|offered| offered.checksum = true, "checksum"),
        (|offered| offered.checksum = true, "checksum-trailer"),
    ];
    for (offer, token) in offers {
        let mut offered = NONE;
        offer(&mut offered);
        assert!(offered.list().split(',').any(|one| one == token), "{token}");
        assert!(!NONE.list().split(',').any(|one| one == token), "{token}");
    }
    // Not a tus extension, so it must not be listed.
    assert_eq!(
        Extensions {
            download: true,
            ..NONE
        }
        .list(),
        NONE.list()
    );
}

#[test]
fn method_override_applies_to_methods_that_are_not_safe() {
    for real in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for named in ["POST", "PATCH", "DELETE", "HEAD", "GET", "OPTIONS"] {
            let sent = headers([("x-http-method-override", named)]);
            let effective = effective_method(&real, &sent).unwrap();
            assert_eq!(effective.as_str(), named);
        }
        assert_eq!(effective_method(&real, &headers([])), Ok(real));
    }
}

#[test]
fn safe_methods_are_not_overridden() {
    for real in ["OPTIONS", "GET", "HEAD", "TRACE", "PROPFIND"] {
        let real = Method::from_bytes(real.as_bytes()).unwrap();
        for named in ["DELETE", "OPTIONS", "brew"] {
            let sent = headers([("x-http-method-override", named)]);
            assert_eq!(effective_method(&real, &sent), Ok(real.clone()));
        }
    }
}

#[test]
fn each_method_has_its_operation() {
    use Target::{Collection, Upload};
    for (method, target, operation) in [
        ("OPTIONS", Collection, Operation::Options),
        ("OPTIONS", Upload, Operation::Options),
        ("POST", Collection, Operation::Create),
        ("HEAD", Upload, Operation::Inspect),
        ("PATCH", Upload, Operation::Append),
        ("DELETE", Upload, Operation::Terminate),
        ("GET", Upload, Operation::Download),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(Operation::parse(&method, target, ALL), Ok(operation));
    }
}

#[test]
fn allow_lists_the_methods_that_are_offered() {
    for bits in 0..4 {
        let offered = Extensions {
            termination: bits & 1 != 0,
            download: bits & 2 != 0,
            ..ALL
        };
        for target in [Target::Collection, Target::Upload] {
            let listed: Vec<_> = Operation::allow(target, offered).split(", ").collect();
            for method in ["OPTIONS", "GET", "HEAD", "POST", "PATCH", "DELETE", "PUT"] {
                let name = Method::from_bytes(method.as_bytes()).unwrap();
                let is_offered = Operation::parse(&name, target, offered).is_ok();
                assert_eq!(listed.contains(&method), is_offered, "{target:?} {method}");
            }
        }
    }
}

#[test]
fn content_types_are_compared_without_case_and_parameters() {
    for good in [
        "Application/Offset+Octet-Stream",
        "application/offset+octet-stream; charset=x",
        "application/offset+octet-stream ;a=b;c=d",
    ] {
        let sent = headers([("content-type", good), ("upload-offset", "7")]);
        assert_eq!(
            Append::parse(&sent, ALL, Syntax::Strict),
            Ok(Append {
                offset: 7,
                length: None,
                checksum: ChecksumPlacement::None,
                repr_digest: None,
                end: DeclaredEnd::AtLength,
                ends_beyond_length: false,
            }),
            "{good:?}"
        );
    }
}

#[test]
fn bodies_that_are_not_encoded_are_accepted() {
    let sent = |encoding| {
        headers([
            CONTENT_TYPE,
            ("upload-offset", "0"),
            ("content-encoding", encoding),
        ])
    };
    assert!(Append::parse(&sent("identity"), ALL, Syntax::Strict).is_ok());
    assert!(Append::parse(&sent("gzip"), ALL, Syntax::Lenient).is_ok());
}
