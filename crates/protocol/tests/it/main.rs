//! Heads of requests, without a server: how fields are read, and which are rejected for which reason.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod checksum;
mod concat;
mod core;
mod creation;
mod printing;
mod problems;
mod refusals;

use http::{HeaderMap, HeaderName, HeaderValue};
use landfall_protocol::{Extensions, Problem, ProblemKind};

/// All extensions.
const ALL: Extensions = Extensions {
    termination: true,
    concatenation: true,
    defer_length: true,
    expiration: true,
    checksum: true,
    download: true,
};

/// Only creation.
const NONE: Extensions = Extensions {
    termination: false,
    concatenation: false,
    defer_length: false,
    expiration: false,
    checksum: false,
    download: false,
};

/// Creates headers from pairs; a name may occur more than once.
fn headers<const N: usize>(pairs: [(&str, &str); N]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// Returns the kind of a rejection.
fn kind<T: std::fmt::Debug>(result: Result<T, Problem>) -> ProblemKind {
    result.expect_err("accepted").kind
}
