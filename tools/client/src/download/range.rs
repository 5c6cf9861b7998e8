//! Requests of ranges, and what their responses mean.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use landfall_protocol::{
    Algorithm, Checksum, TUS_VERSION,
    headers::{self, REPR_DIGEST, WANT_REPR_DIGEST},
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
    /// True if the response has a range of the file, and not the whole.
    pub(super) is_partial: bool,
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
    if response.status.is_success()
        && let Some(coding) = coding(fields)
    {
        let what = format!("the file as it is: the response has Content-Encoding: {coding}");
        return Err(Error::Unsupported(what));
    }
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
        // tusd's response for an upload without bytes.
        StatusCode::NO_CONTENT if start == 0 && validator.is_none() => found(0, None, None),
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
        is_partial: response.status == StatusCode::PARTIAL_CONTENT,
        response,
        start,
        total,
        validator,
        digest,
    })
}

/// Requests the first bytes, and the length of the file if the response alone does not show that it is the whole.
///
/// # Errors
/// As [`request`], and [`Error::Unsupported`] if a part of the file cannot be distinguished from the whole.
pub(super) async fn request_first(
    session: &Session,
    url: &Url,
    end: Option<u64>,
) -> Result<RangeResponse, Error> {
    let mut first = request(session, url, 0, end, None).await?;
    let response = &first.response;
    // Servers of tus send what an unfinished upload has.
    if first.total.is_some() && !response.headers.contains_key(headers::TUS_RESUMABLE) {
        return Ok(first);
    }
    match (expected_length(session, url).await?, first.total) {
        (Some(expected), Some(total)) if expected != total => Err(Error::Protocol(format!(
            "the file has {expected} bytes by HEAD, and {total} by GET"
        ))),
        (Some(expected), _) => {
            first.total = Some(expected);
            Ok(first)
        }
        (None, Some(_)) => Ok(first),
        (None, None) if first.digest.is_some() && !first.is_partial => Ok(first),
        (None, None) if response.has_end() && !first.is_partial => Ok(first),
        (None, None) => Err(Error::Unsupported(
            "the length of the file, without which a cut file looks complete".into(),
        )),
    }
}

/// Returns the length of the file by HEAD, if it says one.
async fn expected_length(session: &Session, url: &Url) -> Result<Option<u64>, Error> {
    let request = Request::new(Method::HEAD, url.clone())
        .with(
            headers::TUS_RESUMABLE,
            HeaderValue::from_static(TUS_VERSION),
        )
        .with(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    let response = session.send(request).await?;
    let fields = &response.headers;
    if !response.status.is_success() || coding(fields).is_some() {
        return Ok(None);
    }
    let length = number(fields, &headers::UPLOAD_LENGTH);
    match (response.offset(), length) {
        (Some(offset), Some(length)) if offset < length => Err(Error::Unsupported(format!(
            "the download of an unfinished upload: it has {offset} of {length} bytes"
        ))),
        (Some(offset), None) if fields.contains_key(headers::UPLOAD_DEFER_LENGTH) => {
            Err(Error::Unsupported(format!(
                "the download of an unfinished upload: it has {offset} bytes, and no length yet"
            )))
        }
        (Some(_), length) => Ok(length),
        (None, _) if response.status == StatusCode::OK => {
            Ok(number(fields, &header::CONTENT_LENGTH))
        }
        (None, _) => Ok(None),
    }
}

/// Returns the codings of the content, if it has any.
fn coding(fields: &HeaderMap) -> Option<String> {
    let values = fields.get_all(header::CONTENT_ENCODING).iter();
    let codings: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .filter(|value| !matches!(value.trim(), "" | "identity"))
        .collect();
    (!codings.is_empty()).then(|| codings.join(", "))
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
