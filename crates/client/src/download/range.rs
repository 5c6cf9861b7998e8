//! Requests of ranges, and what their responses mean.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use landfall_protocol::{
    Algorithm, Checksum,
    headers::{REPR_DIGEST, WANT_REPR_DIGEST},
};
use url::Url;

use crate::{
    Error,
    http::{Request, Response, Session, number},
};

/// The response to a request of a range.
#[derive(Debug)]
pub(super) struct RangeResponse {
    pub(super) response: Response,
    /// The offset of the first byte of the body.
    pub(super) start: u64,
    /// The size of the whole, if it is known.
    pub(super) total: Option<u64>,
    /// The value of `If-Range` for the rest; `None` if the server has no ranges.
    pub(super) validator: Option<String>,
    pub(super) digest: Option<Checksum>,
}

/// Requests the bytes from `start` to before `end`.
///
/// # Errors
/// [`Error::SourceChanged`] if the file is not that of the validator any more.
pub(super) async fn request(
    session: &Session,
    url: &Url,
    start: u64,
    end: Option<u64>,
    validator: Option<&str>,
) -> Result<RangeResponse, Error> {
    let range = match end {
        Some(end) => format!("bytes={start}-{}", end.saturating_sub(1)),
        None => format!("bytes={start}-"),
    };
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| Error::Protocol("the ETag is invalid".into()))
    };
    let mut request = Request::new(Method::GET, url.clone())
        .with(header::RANGE, value(&range)?)
        // Ranges of a compressed file would be others.
        .with(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        )
        .with(
            WANT_REPR_DIGEST,
            HeaderValue::from_static("sha-256=10, sha-512=9"),
        );
    if let Some(validator) = validator {
        request = request.with(header::IF_RANGE, value(validator)?);
    }
    let response = session.send(request).await?;
    let fields = &response.headers;
    let digest = repr_digest(fields);
    let found = |start, total, validator| (start, total, validator, digest);
    let (start, total, validator, digest) = match response.status {
        StatusCode::PARTIAL_CONTENT => match content_range(fields) {
            Some((first, total)) if first == start => found(start, total, strong_validator(fields)),
            _ => return Err(Error::Protocol("Content-Range differs from Range".into())),
        },
        StatusCode::OK if start == 0 && validator.is_none() => {
            found(0, number(fields, &header::CONTENT_LENGTH), None)
        }
        StatusCode::OK => {
            return Err(Error::SourceChanged(
                "the file on the server changed".into(),
            ));
        }
        // The range of an empty file.
        StatusCode::RANGE_NOT_SATISFIABLE if is_empty(fields) => found(0, Some(0), None),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Err(Error::SourceChanged(
                "the file on the server changed".into(),
            ));
        }
        _ => return Err(response.into_error().await),
    };
    Ok(RangeResponse {
        response,
        start,
        total,
        validator,
        digest,
    })
}

/// Returns the first byte and the size of the whole.
fn content_range(fields: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = fields.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}

fn is_empty(fields: &HeaderMap) -> bool {
    let value = fields.get(header::CONTENT_RANGE);
    value.is_some_and(|value| value == "bytes */0")
}

/// Returns the entity tag, unless it is weak, or else the time of the last change.
fn strong_validator(fields: &HeaderMap) -> Option<String> {
    let text = |name| {
        fields
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let tag = text(header::ETAG).filter(|tag| tag.starts_with('"'));
    tag.or_else(|| text(header::LAST_MODIFIED))
        .map(str::to_owned)
}

/// Returns the digest of the whole (RFC 9530).
fn repr_digest(fields: &HeaderMap) -> Option<Checksum> {
    let text = fields.get(REPR_DIGEST)?.to_str().ok()?;
    text.split(',').find_map(|member| {
        let (key, value) = member.trim().split_once('=')?;
        let name = match key {
            "sha-256" => "sha256",
            "sha-512" => "sha512",
            _ => return None,
        };
        let algorithm = Algorithm::by_name(name)?;
        let digest = value.strip_prefix(':')?.strip_suffix(':')?;
        let digest = STANDARD.decode(digest).ok()?;
        algorithm
            .takes_length(digest.len())
            .then_some(Checksum { algorithm, digest })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn content_ranges_are_read() {
        let read = |value| content_range(&field(header::CONTENT_RANGE, value));
        assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((5, None)));
        assert_eq!(read("bytes */10"), None);
        assert_eq!(read("lines 5-9/10"), None);
    }

    #[test]
    fn weak_tags_are_no_validators() {
        assert_eq!(strong_validator(&field(header::ETAG, "W/\"a\"")), None);
        let tag = strong_validator(&field(header::ETAG, "\"a\""));
        assert_eq!(tag.as_deref(), Some("\"a\""));
    }

    #[test]
    fn digests_of_known_algorithms_are_read() {
        let digest = STANDARD.encode([7; 32]);
        let text = format!("md5=:AAAA:, sha-256=:{digest}:");
        let found = repr_digest(&field(REPR_DIGEST, &text));
        assert_eq!(found.map(|found| found.digest), Some(vec![7; 32]));
        assert_eq!(repr_digest(&field(REPR_DIGEST, "sha-256=:AAAA:")), None);
    }
}
