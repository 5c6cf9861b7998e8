//! Responses, and the errors that they mean.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, Version, header};
use landfall_protocol::{headers, parse_size, single_value};
use serde::Deserialize;
use url::Url;

use super::{connection_error, timeout_error};
use crate::{Error, Rejection};

/// The most of a body that is read into memory.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The list of 10,000 parts has 1.5 MB.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
const MAX_MESSAGE_CHARS: usize = 500;

/// The head of a response, and its body.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    idle_timeout: Duration,
    body: reqwest::Response,
}

impl Response {
    pub(super) fn new(response: reqwest::Response, idle_timeout: Duration) -> Self {
        let mut response = response;
        Self {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            url: response.url().clone(),
            idle_timeout,
            body: response,
        }
    }

    /// Returns whether the end of the body is marked, so that a cut one is an error also without a length.
    pub(crate) fn has_end(&self) -> bool {
        self.body.version() > Version::HTTP_11
            || self.headers.contains_key(header::TRANSFER_ENCODING)
            || self.headers.contains_key(header::CONTENT_LENGTH)
    }

    /// # Errors
    /// The error that the response describes, unless its status is a success.
    pub(crate) async fn successful(self) -> Result<Self, Error> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(self.into_error().await),
        }
    }

    /// Returns the next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(self.idle_timeout, self.body.chunk()).await {
            Ok(chunk) => chunk.map_err(connection_error),
            Err(_) => Err(timeout_error(self.idle_timeout)),
        }
    }

    /// Reads the body, at most 64 KiB. A connection whose responses are read can be used again.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub(crate) async fn read(&mut self) -> Result<Vec<u8>, Error> {
        self.read_up_to(MAX_BODY_BYTES).await
    }

    /// Reads a list, at most 4 MiB.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub(crate) async fn read_all(&mut self) -> Result<Vec<u8>, Error> {
        self.read_up_to(MAX_LIST_BYTES).await
    }

    async fn read_up_to(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > max {
                body.truncate(max);
                break;
            }
        }
        Ok(body)
    }

    /// Returns `Location`, resolved against the URL of the request.
    ///
    /// Behind a proxy that terminates TLS, a server may name its URLs `http://`: on the same host and port they are
    /// requested over TLS, too.
    ///
    /// # Errors
    /// [`Error::Protocol`] if there is none.
    pub(crate) fn location(&self) -> Result<Url, Error> {
        let value = self.headers.get(header::LOCATION);
        let value = value.and_then(|value| value.to_str().ok());
        let mut url = value.and_then(|value| self.url.join(value).ok());
        if let Some(url) = &mut url
            && (self.url.scheme(), url.scheme()) == ("https", "http")
            && (self.url.host(), self.url.port()) == (url.host(), url.port())
        {
            // Cannot fail: both schemes have a host.
            let _ = url.set_scheme("https");
        }
        url.filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| Error::Protocol(format!("{} has no valid Location", self.status)))
    }

    /// Returns `Upload-Offset`, if there is a valid one.
    pub(crate) fn offset(&self) -> Option<u64> {
        number(&self.headers, &headers::UPLOAD_OFFSET)
    }

    /// Returns the error that a status means, which is no success.
    pub(crate) async fn into_error(mut self) -> Error {
        // The status says enough if the body is lost.
        let body = match self.status.is_success() {
            true => Vec::new(),
            false => self.read().await.unwrap_or_default(),
        };
        let rejection = Box::new(rejection(self.status, &self.headers, &body));
        match self.status.as_u16() {
            401 | 403 | 407 => Error::Unauthorized(rejection),
            404 | 410 => Error::Gone(rejection),
            408 | 409 | 423 | 425 | 429 | 460 | 500 | 502..=504 | 507..=599 => {
                Error::Unavailable(rejection)
            }
            400..=599 => Error::Rejected(rejection),
            _ => Error::Protocol(format!("unexpected status {}", self.status)),
        }
    }
}

/// Returns the value of a field that is a number, if it is valid.
pub(crate) fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    parse_size(single_value(headers, name).ok()??).ok()
}

/// The members of problems and of the errors of Landfall's APIs.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemBody {
    r#type: Option<String>,
    code: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    message: Option<String>,
}

fn rejection(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Rejection {
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_json = content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("json"));
    let problem = match is_json {
        true => serde_json::from_slice(body).unwrap_or_default(),
        false => ProblemBody::default(),
    };
    let text = match is_json {
        true => (problem.detail.or(problem.message))
            .or(problem.title)
            .unwrap_or_default(),
        false => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.trim();
    // Proxies send pages.
    let message = match text.starts_with('<') {
        true => String::new(),
        false => text.chars().take(MAX_MESSAGE_CHARS).collect(),
    };
    // tusd and Landfall begin the text with the code.
    let code = problem.code.or_else(|| {
        let word = message.split([':', ' ']).next()?;
        word.starts_with("ERR_").then(|| word.to_owned())
    });
    Rejection {
        status,
        problem_type: problem.r#type.filter(|name| name != "about:blank"),
        code,
        message,
        retry_after: retry_after(headers),
    }
}

/// Returns `Retry-After`: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_have_the_problem_and_the_time_to_wait() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            "application/problem+json".parse().unwrap(),
        );
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        let body =
            br#"{"type":"about:blank","title":"T","detail":"D","code":"ERR_X","status":429}"#;
        let rejection = rejection(StatusCode::TOO_MANY_REQUESTS, &headers, body);
        assert_eq!(rejection.message, "D");
        assert_eq!(rejection.code.as_deref(), Some("ERR_X"));
        assert_eq!(rejection.problem_type, None);
        assert_eq!(rejection.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn codes_are_found_in_texts_and_pages_are_no_messages() {
        let headers = HeaderMap::new();
        let text = rejection(
            StatusCode::NOT_FOUND,
            &headers,
            b"ERR_UPLOAD_NOT_FOUND: upload not found\n",
        );
        assert_eq!(text.code.as_deref(), Some("ERR_UPLOAD_NOT_FOUND"));
        let page = rejection(
            StatusCode::BAD_GATEWAY,
            &headers,
            b"<html>bad gateway</html>",
        );
        assert_eq!((page.message.as_str(), page.code), ("", None));
    }

    #[test]
    fn retry_after_may_be_a_date() {
        let mut headers = HeaderMap::new();
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        headers.insert(header::RETRY_AFTER, date.parse().unwrap());
        let wait = retry_after(&headers).unwrap();
        assert!(wait > Duration::from_secs(80) && wait <= Duration::from_secs(90));
        headers.insert(header::RETRY_AFTER, "soon".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
