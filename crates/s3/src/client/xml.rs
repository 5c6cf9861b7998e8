//! The XML of S3: parsing of responses and encoding of request bodies.
//!
//! Responses are untrusted: a missing or malformed value is an error or a `None`, never a panic.

use std::{fmt::Write, time::SystemTime};

use jiff::Timestamp;
use quick_xml::{
    Reader,
    de::{DeError, from_str},
    escape::escape,
    events::Event,
};
use serde::Deserialize;

use super::{
    encode::decode_listed,
    listing::{
        CorsRule, ListedObject, MultipartUpload, MultipartUploadsPage, ObjectsPage, Part, PartsPage,
    },
    sts::TemporaryCredentials,
};

#[derive(Debug, thiserror::Error)]
pub(super) enum XmlError {
    #[error("the response is not UTF-8")]
    Text(#[from] std::str::Utf8Error),
    #[error("the response is not valid XML for this operation: {0}")]
    Shape(#[from] DeError),
    #[error("the response has no valid {0}")]
    Missing(&'static str),
    #[error("the listing has no valid marker of the next page")]
    Stuck,
}

type Result<T> = std::result::Result<T, XmlError>;

/// The content of an error response.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Problem {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) region: Option<String>,
    pub(super) server_time: Option<String>,
}

/// The envelope of the token service.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Wrapped {
    error: Problem,
    request_id: Option<String>,
}

/// Parses an error: the root is `<Error>`, or `<ErrorResponse>` that contains one.
pub(super) fn problem(body: &[u8]) -> Option<Problem> {
    let body = text(body).ok()?;
    let mut problem = match &*root(body)? {
        "Error" => from_str(body).unwrap_or_default(),
        "ErrorResponse" => {
            let Wrapped { error, request_id } = from_str(body).unwrap_or_default();
            Problem {
                request_id: error.request_id.or(request_id),
                ..error
            }
        }
        _ => return None,
    };
    let Problem {
        code,
        message,
        request_id,
        region,
        server_time,
    } = &mut problem;
    for field in [code, message, request_id, region, server_time] {
        *field = field.take().filter(|text| !text.is_empty());
    }
    Some(problem)
}

fn root(body: &str) -> Option<String> {
    let mut reader = Reader::from_str(body);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) => {
                return Some(element.local_name().as_ref().to_owned());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Trims the white space that services send while they work.
fn text(body: &[u8]) -> Result<&str> {
    Ok(std::str::from_utf8(body)?.trim())
}

fn is_true(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
}

fn time(text: Option<&str>) -> Option<SystemTime> {
    text?.trim().parse::<Timestamp>().ok().map(SystemTime::from)
}

fn number<T: std::str::FromStr>(text: Option<&str>, what: &'static str) -> Result<T> {
    text.and_then(|text| text.trim().parse().ok())
        .ok_or(XmlError::Missing(what))
}

fn filled(text: Option<String>, what: &'static str) -> Result<String> {
    text.filter(|text| !text.is_empty())
        .ok_or(XmlError::Missing(what))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Created {
    upload_id: Option<String>,
}

pub(super) fn upload_id(body: &[u8]) -> Result<String> {
    filled(from_str::<Created>(text(body)?)?.upload_id, "UploadId")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EtagXml {
    #[serde(rename = "ETag")]
    etag: Option<String>,
}

/// Parses the entity tag in the response to `UploadPartCopy` or `CompleteMultipartUpload`.
pub(super) fn result_etag(body: &[u8]) -> Result<String> {
    filled(from_str::<EtagXml>(text(body)?)?.etag, "ETag")
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PartsXml {
    is_truncated: Option<String>,
    next_part_number_marker: Option<String>,
    part: Vec<PartXml>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PartXml {
    part_number: Option<String>,
    size: Option<String>,
    #[serde(rename = "ETag")]
    etag: Option<String>,
    last_modified: Option<String>,
}

pub(super) fn parts(body: &[u8], after: u32) -> Result<PartsPage> {
    let page: PartsXml = from_str(text(body)?)?;
    let mut parts = Vec::with_capacity(page.part.len());
    for part in page.part {
        parts.push(Part {
            number: number(part.part_number.as_deref(), "PartNumber")?,
            size: number(part.size.as_deref(), "Size")?,
            etag: filled(part.etag, "ETag")?,
            modified: time(part.last_modified.as_deref()),
        });
    }
    let mut next = None;
    if is_true(page.is_truncated.as_deref()) {
        let marker = number(page.next_part_number_marker.as_deref(), "marker").ok();
        let last = parts.last().map(|part| part.number);
        let marker = marker
            .max(last)
            .filter(|marker| *marker > after)
            .ok_or(XmlError::Stuck)?;
        next = Some(marker);
    }
    Ok(PartsPage { parts, next })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct MultipartUploadsXml {
    is_truncated: Option<String>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    encoding_type: Option<String>,
    upload: Vec<MultipartUploadXml>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct MultipartUploadXml {
    key: Option<String>,
    upload_id: Option<String>,
    initiated: Option<String>,
}

fn listed_key(key: Option<String>, encoded: bool) -> Result<String> {
    let key = filled(key, "Key")?;
    if encoded {
        decode_listed(&key).ok_or(XmlError::Missing("Key"))
    } else {
        Ok(key)
    }
}

pub(super) fn multiparts(body: &[u8]) -> Result<MultipartUploadsPage> {
    let page: MultipartUploadsXml = from_str(text(body)?)?;
    let encoded = page.encoding_type.as_deref() == Some("url");
    let mut uploads = Vec::with_capacity(page.upload.len());
    for upload in page.upload {
        uploads.push(MultipartUpload {
            key: listed_key(upload.key, encoded)?,
            upload_id: filled(upload.upload_id, "UploadId")?,
            initiated: time(upload.initiated.as_deref()),
        });
    }
    let mut next = None;
    if is_true(page.is_truncated.as_deref()) {
        next = Some(match (page.next_key_marker, uploads.last()) {
            (Some(key), _) if !key.is_empty() => (
                listed_key(Some(key), encoded)?,
                page.next_upload_id_marker.unwrap_or_default(),
            ),
            (_, Some(last)) => (last.key.clone(), last.upload_id.clone()),
            (_, None) => return Err(XmlError::Stuck),
        });
    }
    Ok(MultipartUploadsPage { uploads, next })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ObjectsXml {
    is_truncated: Option<String>,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
    contents: Vec<ListedObjectXml>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ListedObjectXml {
    key: Option<String>,
    size: Option<String>,
    last_modified: Option<String>,
    #[serde(rename = "ETag")]
    etag: Option<String>,
}

pub(super) fn objects(body: &[u8]) -> Result<ObjectsPage> {
    let page: ObjectsXml = from_str(text(body)?)?;
    let encoded = page.encoding_type.as_deref() == Some("url");
    let mut objects = Vec::with_capacity(page.contents.len());
    for object in page.contents {
        objects.push(ListedObject {
            key: listed_key(object.key, encoded)?,
            size: number(object.size.as_deref(), "Size")?,
            modified: time(object.last_modified.as_deref()),
            etag: object.etag.unwrap_or_default(),
        });
    }
    let next = if is_true(page.is_truncated.as_deref()) {
        Some(
            page.next_continuation_token
                .filter(|next| !next.is_empty())
                .ok_or(XmlError::Stuck)?,
        )
    } else {
        None
    };
    Ok(ObjectsPage { objects, next })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CorsXml {
    #[serde(rename = "CORSRule")]
    rules: Vec<CorsRuleXml>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CorsRuleXml {
    #[serde(rename = "ID")]
    id: Option<String>,
    allowed_origin: Vec<String>,
    allowed_method: Vec<String>,
    allowed_header: Vec<String>,
    expose_header: Vec<String>,
    max_age_seconds: Option<String>,
}

pub(super) fn cors(body: &[u8]) -> Result<Vec<CorsRule>> {
    let rules = from_str::<CorsXml>(text(body)?)?.rules;
    let rule = |rule: CorsRuleXml| CorsRule {
        id: rule.id.filter(|id| !id.is_empty()),
        allowed_origins: rule.allowed_origin,
        allowed_methods: rule.allowed_method,
        allowed_headers: rule.allowed_header,
        expose_headers: rule.expose_header,
        max_age_seconds: number(rule.max_age_seconds.as_deref(), "MaxAgeSeconds").ok(),
    };
    Ok(rules.into_iter().map(rule).collect())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenXml {
    #[serde(rename = "GetFederationTokenResult", alias = "AssumeRoleResult")]
    result: TokenResultXml,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TokenResultXml {
    credentials: CredentialsXml,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CredentialsXml {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    expiration: Option<String>,
}

pub(super) fn temporary_credentials(body: &[u8]) -> Result<TemporaryCredentials> {
    let found = from_str::<TokenXml>(text(body)?)?;
    let found = found.result.credentials;
    Ok(TemporaryCredentials {
        access_key_id: filled(found.access_key_id, "AccessKeyId")?,
        secret_access_key: filled(found.secret_access_key, "SecretAccessKey")?,
        session_token: filled(found.session_token, "SessionToken")?,
        expiration: time(found.expiration.as_deref()).ok_or(XmlError::Missing("Expiration"))?,
    })
}

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
const NAMESPACE: &str = r#"xmlns="http://s3.amazonaws.com/doc/2006-03-01/""#;

pub(super) fn complete(parts: &[(u32, String)]) -> String {
    let mut out = format!("{HEAD}<CompleteMultipartUpload {NAMESPACE}>");
    for (number, etag) in parts {
        let etag = escape(etag.as_str());
        write!(
            out,
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        )
        .expect("writing to a string");
    }
    out.push_str("</CompleteMultipartUpload>");
    out
}

pub(super) fn cors_configuration(rules: &[CorsRule]) -> String {
    let mut out = format!("{HEAD}<CORSConfiguration {NAMESPACE}>");
    let element = |out: &mut String, name: &str, text: &str| {
        write!(out, "<{name}>{}</{name}>", escape(text)).expect("writing to a string");
    };
    for rule in rules {
        out.push_str("<CORSRule>");
        if let Some(id) = &rule.id {
            element(&mut out, "ID", id);
        }
        for (name, values) in [
            ("AllowedOrigin", &rule.allowed_origins),
            ("AllowedMethod", &rule.allowed_methods),
            ("AllowedHeader", &rule.allowed_headers),
            ("ExposeHeader", &rule.expose_headers),
        ] {
            for value in values {
                element(&mut out, name, value);
            }
        }
        if let Some(seconds) = rule.max_age_seconds {
            element(&mut out, "MaxAgeSeconds", &seconds.to_string());
        }
        out.push_str("</CORSRule>");
    }
    out.push_str("</CORSConfiguration>");
    out
}

#[cfg(test)]
mod tests;
