//! The heads of requests of tus and of the IETF draft, and what responses mean.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use landfall_protocol::{
    Checksum, Metadata, TUS_VERSION,
    headers::{self, OFFSET_OCTET_STREAM, PARTIAL_UPLOAD},
};
use url::Url;

use super::{Status, UploadSettings};
use crate::{
    Error,
    capabilities::{upload_complete, upload_limits},
    http::{Request, Response, Session, number},
};

/// The interop versions of the draft that this crate speaks, the newest first. They differ little for a client that
/// sends `Upload-Complete` and `application/partial-upload`.
const INTEROP_VERSIONS: [u8; 5] = [10, 9, 8, 7, 6];

/// The protocol of one upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Tus,
    /// The IETF draft with an interop version.
    Draft(u8),
}

/// The content of an append or a creation.
#[derive(Debug)]
pub(crate) struct AppendHead<'a> {
    pub(crate) offset: u64,
    /// True if it ends the upload.
    pub(crate) is_last: bool,
    /// The length, if the server does not know it yet.
    pub(crate) new_length: Option<u64>,
    pub(crate) checksum: Option<&'a Checksum>,
}

/// The state of an upload after a successful creation or append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// `None` if the response does not say it.
    pub(crate) offset: Option<u64>,
    /// True if the upload is complete by the response; tus completes by the offset.
    pub(crate) is_complete: bool,
}

impl Dialect {
    pub(crate) const fn newest() -> Self {
        Self::Draft(INTEROP_VERSIONS[0])
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tus => "tus",
            Self::Draft(_) => "draft",
        }
    }

    /// Returns the next older version, or the one that the response names.
    pub(crate) fn fallback(self, response: &HeaderMap) -> Option<Self> {
        let Self::Draft(version) = self else {
            return None;
        };
        let older = INTEROP_VERSIONS
            .into_iter()
            .filter(|other| *other < version);
        let named = number(response, &headers::INTEROP_VERSION);
        let found = match named {
            Some(named) if named != u64::from(version) => {
                older.clone().find(|other| u64::from(*other) == named)
            }
            _ => None,
        };
        found.or_else(|| older.max()).map(Self::Draft)
    }

    fn request(self, method: Method, url: Url) -> Request {
        let request = Request::new(method, url);
        match self {
            Self::Tus => request.with(
                headers::TUS_RESUMABLE,
                HeaderValue::from_static(TUS_VERSION),
            ),
            Self::Draft(version) => request.with(headers::INTEROP_VERSION, u16::from(version)),
        }
    }

    /// Returns the head of a creation. `content` is its content, if it has any.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the metadata is too large for a header.
    pub(crate) fn create(
        self,
        endpoint: &Url,
        settings: &UploadSettings,
        length: Option<u64>,
        content: Option<AppendHead<'_>>,
    ) -> Result<Request, Error> {
        let mut request = self.request(Method::POST, endpoint.clone());
        match (self, length) {
            (Self::Tus, None) => {
                request = request.with(headers::UPLOAD_DEFER_LENGTH, HeaderValue::from(1_u16));
            }
            (Self::Draft(_), None) => {}
            (_, Some(length)) => request = request.with(headers::UPLOAD_LENGTH, length),
        }
        request = match self {
            Self::Tus => with_metadata(request, settings)?,
            Self::Draft(_) => with_representation(request, settings)?,
        };
        let Some(content) = content else {
            return Ok(match self {
                Self::Tus => request,
                // Without content, it is only to get the URL.
                Self::Draft(_) => request.with(headers::UPLOAD_COMPLETE, flag(false)),
            });
        };
        Ok(match self {
            Self::Tus => self.with_content(request, &content),
            // The media type of a creation is that of the file.
            Self::Draft(_) => {
                let request = request.with(headers::UPLOAD_COMPLETE, flag(content.is_last));
                with_digest(request, &content)
            }
        })
    }

    /// Returns the head of an append.
    pub(crate) fn append(self, url: &Url, head: &AppendHead<'_>) -> Request {
        let request = self.request(Method::PATCH, url.clone());
        let request = request.with(headers::UPLOAD_OFFSET, head.offset);
        let request = match head.new_length {
            Some(length) => request.with(headers::UPLOAD_LENGTH, length),
            None => request,
        };
        self.with_content(request, head)
    }

    fn with_content(self, request: Request, head: &AppendHead<'_>) -> Request {
        match self {
            Self::Tus => {
                let media_type = HeaderValue::from_static(OFFSET_OCTET_STREAM);
                let request = request.with(header::CONTENT_TYPE, media_type);
                let checksum = head.checksum.map(ToString::to_string);
                match checksum.and_then(|text| HeaderValue::try_from(text).ok()) {
                    Some(value) => request.with(headers::UPLOAD_CHECKSUM, value),
                    None => request,
                }
            }
            Self::Draft(_) => {
                let media_type = HeaderValue::from_static(PARTIAL_UPLOAD);
                let request = request
                    .with(header::CONTENT_TYPE, media_type)
                    .with(headers::UPLOAD_COMPLETE, flag(head.is_last));
                with_digest(request, head)
            }
        }
    }

    /// Returns the state after a successful creation or append. `end` is the end of the upload if the content was the
    /// last. A creation without any field of the draft is a conventional request, which stores its content.
    pub(crate) fn accepted(
        self,
        response: &Response,
        end: Option<u64>,
        is_creation: bool,
    ) -> Accepted {
        let offset = response.offset();
        let is_complete = match (self, upload_complete(&response.headers)) {
            (Self::Tus, _) => false,
            (Self::Draft(_), Some(flag)) => flag,
            // Servers of version 6 send no flag, but the offset.
            (Self::Draft(_), None) => {
                end.is_some() && offset.or(end.filter(|_| is_creation)) == end
            }
        };
        Accepted {
            offset,
            is_complete,
        }
    }

    /// Returns whether an error response ends the upload (IETF draft, `Upload-Complete: ?1`).
    pub(crate) fn is_final(self, headers: &HeaderMap) -> bool {
        matches!(self, Self::Draft(_)) && upload_complete(headers) == Some(true)
    }

    /// Sends DELETE.
    ///
    /// # Errors
    /// Those of the response.
    pub(crate) async fn terminate(self, session: &Session, url: Url) -> Result<(), Error> {
        let response = session.send(self.request(Method::DELETE, url)).await?;
        response.successful().await.map(drop)
    }

    /// Sends HEAD.
    ///
    /// # Errors
    /// Those of the response, and [`Error::Protocol`] without an offset.
    pub(crate) async fn inspect(self, session: &Session, url: Url) -> Result<Status, Error> {
        let response = session.send(self.request(Method::HEAD, url)).await?;
        let response = response.successful().await?;
        let fields = &response.headers;
        let offset = response
            .offset()
            .ok_or_else(|| Error::Protocol("the response to HEAD has no Upload-Offset".into()))?;
        let length = number(fields, &headers::UPLOAD_LENGTH);
        if length.is_some_and(|length| offset > length) {
            return Err(Error::Protocol(format!(
                "Upload-Offset is {offset}, beyond Upload-Length"
            )));
        }
        let text = |name| {
            fields
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let limits = upload_limits(fields).unwrap_or_default();
        let expires = text(headers::UPLOAD_EXPIRES)
            .and_then(|text| httpdate::parse_http_date(text).ok())
            .or_else(|| SystemTime::now().checked_add(limits.max_age?));
        Ok(Status {
            offset,
            length,
            complete: match (self, upload_complete(fields)) {
                (Self::Draft(_), Some(complete)) => complete,
                _ => length == Some(offset),
            },
            expires,
            metadata: text(headers::UPLOAD_METADATA)
                .and_then(|text| Metadata::from_header(text).ok())
                .unwrap_or_default(),
            limits,
        })
    }
}

fn flag(value: bool) -> HeaderValue {
    HeaderValue::from_static(if value { "?1" } else { "?0" })
}

fn with_metadata(request: Request, settings: &UploadSettings) -> Result<Request, Error> {
    let pairs = settings.metadata.iter();
    let metadata = Metadata::from_pairs(pairs.map(|(key, value)| (key.as_str(), value.clone())));
    if metadata.is_empty() {
        return Ok(request);
    }
    let value = HeaderValue::try_from(metadata.header())
        .map_err(|_| Error::Configuration("the metadata cannot be sent in a header".into()))?;
    Ok(request.with(headers::UPLOAD_METADATA, value))
}

/// Adds the fields of the draft that correspond to the metadata `filetype` and `filename`.
fn with_representation(request: Request, settings: &UploadSettings) -> Result<Request, Error> {
    let set = |request: Request, name: HeaderName, value: Option<String>| match value {
        None => Ok(request),
        Some(text) => {
            let value = HeaderValue::try_from(text).map_err(|error| {
                Error::Configuration(format!("{name} cannot be sent in a header: {error}"))
            })?;
            Ok(request.with(name, value))
        }
    };
    let media_type = settings.metadata_text("filetype").map(str::to_owned);
    let request = set(request, header::CONTENT_TYPE, media_type)?;
    let disposition = settings.metadata_text("filename").map(|name| {
        let encoded: String = name.bytes().fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
            text
        });
        format!("inline; filename*=UTF-8''{encoded}")
    });
    set(request, header::CONTENT_DISPOSITION, disposition)
}

/// Adds `Content-Digest` (RFC 9530).
fn with_digest(request: Request, head: &AppendHead<'_>) -> Request {
    let Some(checksum) = head.checksum else {
        return request;
    };
    let key = match checksum.algorithm.name() {
        "sha256" => "sha-256",
        "sha512" => "sha-512",
        _ => return request,
    };
    let text = format!("{key}=:{}:", STANDARD.encode(&checksum.digest));
    match HeaderValue::try_from(text) {
        Ok(value) => request.with(headers::CONTENT_DIGEST, value),
        Err(_) => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_fall_back_in_turn_or_to_the_named_one() {
        let none = HeaderMap::new();
        let mut version = Some(Dialect::newest());
        let mut seen = Vec::new();
        while let Some(found) = version {
            seen.push(found);
            version = found.fallback(&none);
        }
        assert_eq!(seen, INTEROP_VERSIONS.map(Dialect::Draft));
        let named = HeaderMap::from_iter([(headers::INTEROP_VERSION, HeaderValue::from(6_u16))]);
        assert_eq!(Dialect::newest().fallback(&named), Some(Dialect::Draft(6)));
        assert_eq!(Dialect::Tus.fallback(&none), None);
    }

    #[test]
    fn file_names_are_encoded_for_the_draft() {
        let settings = UploadSettings {
            metadata: vec![("filename".into(), "ü \"a\".png".into())],
            ..UploadSettings::default()
        };
        let endpoint = "http://localhost/files/".parse().unwrap();
        let request = Dialect::newest()
            .create(&endpoint, &settings, Some(3), None)
            .unwrap();
        let field = |name| request.headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(
            field(header::CONTENT_DISPOSITION),
            "inline; filename*=UTF-8''%C3%BC%20%22a%22.png"
        );
        assert_eq!(field(headers::UPLOAD_COMPLETE), "?0");
        assert_eq!(field(headers::UPLOAD_LENGTH), "3");
    }
}
