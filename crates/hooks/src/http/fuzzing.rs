//! What the fuzz targets reach; not part of the interface.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    judge::{Answered, Judge},
    read::Body,
};
use crate::{Failure, HookName, Reaction, format::Format};

/// Reads the response of an endpoint.
///
/// # Errors
/// It is none.
pub fn reaction(
    format: Format,
    hook: HookName,
    (status, headers): (StatusCode, HeaderMap),
    (bytes, is_whole): (Bytes, bool),
) -> Result<Reaction, Failure> {
    let judge = Judge {
        format,
        limit: 4096,
        stop_code: Some(418),
    };
    let body = Body { bytes, is_whole };
    let answered = Answered {
        status,
        headers,
        body,
    };
    judge.judge(hook, &answered)
}
