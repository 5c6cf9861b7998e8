//! Core: versions, methods, offsets, content types.

use http::Method;
use landfall_protocol::{
    Append, ChecksumPlacement, DeclaredEnd, Extensions, Operation, Problem, ProblemKind, Syntax,
    TUS_VERSION, Target, effective_method, require_version,
};

use crate::{ALL, NONE, headers, kind};

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
    for bad in [
        "", " ", "-1", "+5", "5.0", "1e3", "0x1", "1_000", "5 5", "5,5", "five", "\u{663}",
    ] {
        assert_eq!(kind(append(bad)), ProblemKind::InvalidOffset, "{bad:?}");
    }
    for large in [
        "9223372036854775808",
        "18446744073709551616",
        &"9".repeat(500),
    ] {
        let problem = append(large).unwrap_err();
        assert_eq!(
            (problem.status(), problem.kind),
            (400, ProblemKind::InvalidOffset)
        );
    }
    assert_eq!(
        kind(Append::parse(&headers([CONTENT_TYPE]), ALL, Syntax::Strict)),
        ProblemKind::InvalidOffset
    );
    let twice = headers([CONTENT_TYPE, ("upload-offset", "5"), ("upload-offset", "5")]);
    assert_eq!(
        kind(Append::parse(&twice, ALL, Syntax::Strict)),
        ProblemKind::InvalidOffset
    );
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
    for bad in ["", "-1", "+5", "5.0", "ten", "9223372036854775808"] {
        assert_eq!(
            kind(length(bad)),
            ProblemKind::InvalidUploadLength,
            "{bad:?}"
        );
    }
}

#[test]
fn only_the_supported_version_is_accepted() {
    let all = [Operation::Create, Operation::Append, Operation::Terminate];
    for operation in all
        .into_iter()
        .chain([Operation::Inspect, Operation::Download])
    {
        assert_eq!(
            require_version(operation, &headers([("tus-resumable", TUS_VERSION)])),
            Ok(())
        );
        for other in [
            "0.2.2",
            "1.0",
            "1.0.1",
            "2.0.0",
            "v1.0.0",
            "",
            "1.0.0, 0.2.2",
        ] {
            let problem =
                require_version(operation, &headers([("tus-resumable", other)])).unwrap_err();
            assert_eq!(
                (problem.status(), problem.kind),
                (412, ProblemKind::UnsupportedVersion)
            );
        }
        let twice = headers([("tus-resumable", "1.0.0"), ("tus-resumable", "1.0.0")]);
        assert_eq!(
            kind(require_version(operation, &twice)),
            ProblemKind::UnsupportedVersion
        );
    }
}

#[test]
fn version_is_optional_only_on_head_and_get() {
    for operation in [Operation::Inspect, Operation::Download] {
        assert_eq!(require_version(operation, &headers([])), Ok(()));
    }
    for operation in [Operation::Create, Operation::Append, Operation::Terminate] {
        assert_eq!(
            kind(require_version(operation, &headers([]))),
            ProblemKind::UnsupportedVersion
        );
    }
}

#[test]
fn options_ignores_the_version() {
    for sent in ["1.0.0", "9.9.9", "", "nonsense"] {
        assert_eq!(
            require_version(Operation::Options, &headers([("tus-resumable", sent)])),
            Ok(())
        );
    }
}

#[test]
fn extensions_are_a_comma_separated_list() {
    assert_eq!(
        ALL.list(),
        "creation,creation-with-upload,termination,concatenation,concatenation-unfinished,\
         creation-defer-length,expiration,checksum,checksum-trailer"
    );
    assert_eq!(NONE.list(), "creation,creation-with-upload");
    for (offered, token) in [
        (
            Extensions {
                termination: true,
                ..NONE
            },
            "termination",
        ),
        (
            Extensions {
                concatenation: true,
                ..NONE
            },
            "concatenation",
        ),
        (
            Extensions {
                concatenation: true,
                ..NONE
            },
            "concatenation-unfinished",
        ),
        (
            Extensions {
                defer_length: true,
                ..NONE
            },
            "creation-defer-length",
        ),
        (
            Extensions {
                expiration: true,
                ..NONE
            },
            "expiration",
        ),
        (
            Extensions {
                checksum: true,
                ..NONE
            },
            "checksum",
        ),
        (
            Extensions {
                checksum: true,
                ..NONE
            },
            "checksum-trailer",
        ),
        (NONE, "creation"),
        (NONE, "creation-with-upload"),
    ] {
        assert!(offered.list().split(',').any(|t| t == token), "{token}");
        let optional = !NONE.list().split(',').any(|t| t == token);
        assert_eq!(optional, offered != NONE, "{token}");
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
fn override_names_are_upper_case_and_known() {
    for bad in [
        "",
        "patch",
        "Delete",
        "TRACE",
        "CONNECT",
        "PATCH, DELETE",
        "BREW",
        "PUT",
    ] {
        let sent = headers([("x-http-method-override", bad)]);
        assert_eq!(
            kind(effective_method(&Method::POST, &sent)),
            ProblemKind::InvalidMethod,
            "{bad:?}"
        );
    }
    let twice = headers([
        ("x-http-method-override", "PATCH"),
        ("x-http-method-override", "HEAD"),
    ]);
    assert_eq!(
        kind(effective_method(&Method::POST, &twice)),
        ProblemKind::InvalidMethod
    );
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
fn other_methods_are_not_allowed() {
    use Target::{Collection, Upload};
    for (method, target, offered) in [
        ("PUT", Upload, ALL),
        ("POST", Upload, ALL),
        ("TRACE", Upload, ALL),
        ("BREW", Upload, ALL),
        ("patch", Upload, ALL),
        ("GET", Collection, ALL),
        ("HEAD", Collection, ALL),
        ("PATCH", Collection, ALL),
        ("DELETE", Collection, ALL),
        ("PUT", Collection, ALL),
        ("DELETE", Upload, NONE),
        ("GET", Upload, NONE),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let refused = kind(Operation::parse(&method, target, offered));
        assert_eq!(
            refused,
            ProblemKind::MethodNotAllowed,
            "{method} on {target:?}"
        );
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
fn patch_requires_its_content_type() {
    for bad in [
        "",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/offset+octet-stream2",
        "application/partial-upload",
    ] {
        let sent = headers([("content-type", bad), ("upload-offset", "0")]);
        let problem = Append::parse(&sent, ALL, Syntax::Strict).unwrap_err();
        assert_eq!(
            (problem.status(), problem.kind),
            (415, ProblemKind::InvalidContentType),
            "{bad:?}"
        );
    }
    let none = headers([("upload-offset", "0")]);
    assert_eq!(
        kind(Append::parse(&none, ALL, Syntax::Strict)),
        ProblemKind::InvalidContentType
    );
    let two = headers([
        CONTENT_TYPE,
        ("content-type", "text/plain"),
        ("upload-offset", "0"),
    ]);
    assert_eq!(
        kind(Append::parse(&two, ALL, Syntax::Strict)),
        ProblemKind::InvalidContentType
    );
}

#[test]
fn content_type_is_checked_before_the_offset() {
    let sent = headers([("content-type", "text/plain"), ("upload-offset", "x")]);
    assert_eq!(
        kind(Append::parse(&sent, ALL, Syntax::Strict)),
        ProblemKind::InvalidContentType
    );
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
fn encoded_bodies_are_rejected() {
    let sent = |encoding| {
        headers([
            CONTENT_TYPE,
            ("upload-offset", "0"),
            ("content-encoding", encoding),
        ])
    };
    for bad in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let problem = Append::parse(&sent(bad), ALL, Syntax::Strict).unwrap_err();
        assert_eq!(
            (problem.status(), problem.kind),
            (415, ProblemKind::ContentEncoding),
            "{bad}"
        );
    }
    assert!(Append::parse(&sent("identity"), ALL, Syntax::Strict).is_ok());
    assert!(Append::parse(&sent("gzip"), ALL, Syntax::Lenient).is_ok());
    let two = headers([
        CONTENT_TYPE,
        ("upload-offset", "0"),
        ("content-encoding", "identity"),
        ("content-encoding", "gzip"),
    ]);
    assert_eq!(
        kind(Append::parse(&two, ALL, Syntax::Strict)),
        ProblemKind::ContentEncoding
    );
}
