//! Checksums, in headers and in trailers.

use http::HeaderMap;
use landfall_protocol::{
    Algorithm, Append, Checksum, ChecksumPlacement, InvalidChecksum, Problem, ProblemKind, Syntax,
};

use crate::{ALL, NONE, headers, kind};

const SHA1: &str = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
const OTHER: &str = "sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=";

fn placement<const N: usize>(sent: [(&str, &str); N]) -> Result<ChecksumPlacement, Problem> {
    let mut head: HeaderMap = headers([
        ("content-type", "application/offset+octet-stream"),
        ("upload-offset", "0"),
    ]);
    head.extend(headers(sent));
    Append::parse(&head, ALL, Syntax::Strict).map(|append| append.checksum)
}

#[test]
fn names_are_lower_case_and_include_sha1() {
    let names: Vec<_> = Algorithm::LIST.split(',').collect();
    assert!(names.contains(&"sha1"));
    for name in names {
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "{name}"
        );
        assert_eq!(Algorithm::by_name(name).map(Algorithm::name), Some(name));
    }
    let all: Vec<_> = Algorithm::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(Algorithm::LIST, all.join(","));
}

#[test]
fn checksum_is_a_name_a_space_and_base64() {
    let parsed = Checksum::parse(SHA1).unwrap();
    assert_eq!(parsed.algorithm, Algorithm::SHA1);
    assert_eq!(parsed.digest[..4], [0x2a, 0xae, 0x6c, 0x35]);
    assert_eq!(parsed.to_string(), SHA1);
}

#[test]
fn each_algorithm_accepts_only_digests_of_its_length() {
    for &algorithm in Algorithm::ALL {
        for bytes in 0..80 {
            let digest = vec![7; bytes];
            let sent = Checksum { algorithm, digest }.to_string();
            let parsed = Checksum::parse(&sent);
            if algorithm.takes_length(bytes) {
                assert_eq!(parsed.unwrap().to_string(), sent);
            } else {
                assert_eq!(parsed, Err(InvalidChecksum::Length { algorithm, bytes }));
            }
        }
    }
    let lengths: Vec<_> = Algorithm::ALL
        .iter()
        .map(|a| {
            (
                a.name(),
                (0..80).filter(|&n| a.takes_length(n)).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        lengths,
        [
            ("sha1", vec![20]),
            ("md5", vec![16]),
            ("sha256", vec![32]),
            ("sha512", vec![64]),
            ("crc32", vec![4]),
            ("crc32c", vec![4]),
            ("blake3", vec![32]),
            ("xxh3", vec![8, 16]),
        ]
    );
}

#[test]
fn checksum_is_optional() {
    assert_eq!(placement([]), Ok(ChecksumPlacement::None));
    assert_eq!(ChecksumPlacement::None.with_trailers(None), Ok(None));
    assert_eq!(
        ChecksumPlacement::None.with_trailers(Some(&headers([("x", "y")]))),
        Ok(None)
    );
}

#[test]
fn checksums_are_ignored_where_not_offered() {
    let head = headers([
        ("content-type", "application/offset+octet-stream"),
        ("upload-offset", "0"),
        ("upload-checksum", "nonsense"),
        ("trailer", "Upload-Checksum"),
    ]);
    let placement = Append::parse(&head, NONE, Syntax::Strict).unwrap().checksum;
    assert!(!placement.is_present());
    let trailers = headers([("upload-checksum", "nonsense")]);
    assert_eq!(placement.with_trailers(Some(&trailers)), Ok(None));
}

#[test]
fn trailer_name_is_case_insensitive_and_may_be_in_a_list() {
    for line in [
        "Upload-Checksum",
        "upload-checksum",
        "X-Other, UPLOAD-CHECKSUM ,Y",
    ] {
        assert_eq!(
            placement([("trailer", line)]),
            Ok(ChecksumPlacement::Trailer),
            "{line}"
        );
    }
    assert_eq!(
        placement([("trailer", "X"), ("trailer", "Upload-Checksum")]),
        Ok(ChecksumPlacement::Trailer)
    );
    assert_eq!(
        placement([("trailer", "X-Upload-Checksum, Y")]),
        Ok(ChecksumPlacement::None)
    );
    let expected = Checksum::parse(SHA1).unwrap();
    for announced in [ChecksumPlacement::Trailer, ChecksumPlacement::None] {
        let trailers = headers([("upload-checksum", SHA1)]);
        assert_eq!(
            announced.with_trailers(Some(&trailers)),
            Ok(Some(expected.clone()))
        );
    }
}

#[test]
fn malformed_trailers_are_rejected_like_headers() {
    for (bad, refused) in [
        ("sha1", ProblemKind::InvalidChecksum),
        ("md4 AAAA", ProblemKind::UnsupportedChecksum),
        ("sha1 AAAA", ProblemKind::InvalidChecksum),
    ] {
        for announced in [ChecksumPlacement::Trailer, ChecksumPlacement::None] {
            let trailers = headers([("upload-checksum", bad)]);
            assert_eq!(
                kind(announced.with_trailers(Some(&trailers))),
                refused,
                "{bad}"
            );
        }
    }
}

#[test]
fn header_and_trailer_must_agree() {
    let head = placement([("upload-checksum", SHA1), ("trailer", "Upload-Checksum")]).unwrap();
    assert!(matches!(head, ChecksumPlacement::Header(_)));
    let same = head
        .clone()
        .with_trailers(Some(&headers([("upload-checksum", SHA1)])));
    assert_eq!(same, Ok(Some(Checksum::parse(SHA1).unwrap())));
    let differ = head
        .clone()
        .with_trailers(Some(&headers([("upload-checksum", OTHER)])));
    assert_eq!(kind(differ), ProblemKind::InvalidChecksum);
    assert_eq!(
        head.with_trailers(None),
        Ok(Some(Checksum::parse(SHA1).unwrap()))
    );
}

#[test]
fn announced_trailer_is_required() {
    for trailers in [None, Some(headers([])), Some(headers([("x", "y")]))] {
        let problem = ChecksumPlacement::Trailer
            .with_trailers(trailers.as_ref())
            .unwrap_err();
        assert_eq!(
            (problem.status(), problem.kind),
            (400, ProblemKind::InvalidChecksum)
        );
        assert!(problem.to_string().contains("is missing"), "{problem}");
    }
}

/// Digests of "123456789", from the test vectors of the algorithms.
const VECTORS: &[(&str, &str)] = &[
    ("sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
    ("md5", "25f9e794323b453885f5181f1b624d0b"),
    (
        "sha256",
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    ),
    (
        "sha512",
        "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a\
         d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
    ),
    ("crc32", "cbf43926"),
    ("crc32c", "e3069283"),
    (
        "blake3",
        "b7d65b48420d1033cb2595293263b6f72eabee20d55e699d0df1973b3c9deed1",
    ),
];

#[test]
fn known_digests_in_any_pieces() {
    for (name, digest) in VECTORS {
        let algorithm = Algorithm::by_name(name).unwrap();
        for piece in [1, 2, 9] {
            let mut hasher = algorithm.hasher();
            b"123456789".chunks(piece).for_each(|c| hasher.update(c));
            assert_eq!(hex::encode(hasher.digest(0)), *digest, "{name} by {piece}");
        }
    }
    let xxh3 = Algorithm::by_name("xxh3").unwrap();
    assert_eq!(hex::encode(xxh3.hasher().digest(8)), "2d06800538d394c2");
    assert_eq!(
        hex::encode(xxh3.hasher().digest(16)),
        "99aa06d3014798d86001c324468d497f"
    );
}

#[test]
fn every_algorithm_accepts_its_digest_length() {
    for &algorithm in Algorithm::ALL {
        assert!(algorithm.takes_length(algorithm.hasher().digest(8).len()));
    }
}
