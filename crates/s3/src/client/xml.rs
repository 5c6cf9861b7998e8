//! The XML of S3: parsing of responses and encoding of request bodies.
//!
//! Responses are untrusted: a missing or malformed value is an error or a `None`, never a panic.

use std::fmt::Write;

use landfall_objects::{MultipartUploadsPage, ObjectsPage, Part};
use quick_xml::{
    Reader,
    de::{DeError, from_str},
    escape::escape,
    events::Event,
};
use serde::{Deserialize, Serialize};

use super::{
    credentials::Credentials,
    encode::decode_listed,
    listing::{self, CorsRule, MultipartXml, ObjectXml, PartXml},
};

#[derive(Debug, thiserror::Error)]
pub(super) enum XmlError {
    #[error("the response is not UTF-8")]
    Text(#[from] std::str::Utf8Error),
    #[error("the response is not valid XML for this operation: {0}")]
    Shape(#[from] DeError),
    #[error("the listing has a key that is not UTF-8")]
    Key,
    #[error("the listing has no valid marker of the next page")]
    Stuck,
    #[error("the credentials have no session token or no expiry time")]
    NotTemporary,
}

type Result<T> = std::result::Result<T, XmlError>;

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Problem {
    #[serde(deserialize_with = "listing::if_filled")]
    pub(super) code: Option<String>,
    #[serde(deserialize_with = "listing::if_filled")]
    pub(super) message: Option<String>,
    #[serde(deserialize_with = "listing::if_filled")]
    pub(super) request_id: Option<String>,
    #[serde(deserialize_with = "listing::if_filled")]
    pub(super) region: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Wrapped {
    error: Problem,
    request_id: Option<String>,
}

pub(super) fn problem(body: &[u8]) -> Option<Problem> {
    let body = text(body).ok()?;
    match &*root(body)? {
        "Error" => Some(from_str(body).unwrap_or_default()),
        "ErrorResponse" => {
            let Wrapped { error, request_id } = from_str(body).unwrap_or_default();
            Some(Problem {
                request_id: error.request_id.or(request_id),
                ..error
            })
        }
        _ => None,
    }
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

fn text(body: &[u8]) -> Result<&str> {
    Ok(std::str::from_utf8(body)?.trim())
}

#[derive(Deserialize)]
struct CreatedXml {
    #[serde(rename = "UploadId", deserialize_with = "listing::filled")]
    upload_id: String,
}

pub(super) fn upload_id(body: &[u8]) -> Result<String> {
    Ok(from_str::<CreatedXml>(text(body)?)?.upload_id)
}

#[derive(Deserialize)]
struct EtagXml {
    #[serde(rename = "ETag", deserialize_with = "listing::filled")]
    etag: String,
}

pub(super) fn result_etag(body: &[u8]) -> Result<String> {
    Ok(from_str::<EtagXml>(text(body)?)?.etag)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PageXml {
    is_truncated: Option<String>,
    encoding_type: Option<String>,
    next_part_number_marker: Option<String>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    next_continuation_token: Option<String>,
    part: Vec<PartXml>,
    upload: Vec<MultipartXml>,
    contents: Vec<ObjectXml>,
}

impl PageXml {
    fn parse(body: &[u8]) -> Result<Self> {
        let mut page: Self = from_str(text(body)?)?;
        if page.encoding_type.as_deref() == Some("url") {
            let uploads = page.upload.iter_mut().map(|upload| &mut upload.key);
            let objects = page.contents.iter_mut().map(|object| &mut object.key);
            for key in uploads.chain(objects).chain(&mut page.next_key_marker) {
                *key = decode_listed(key).ok_or(XmlError::Key)?;
            }
        }
        Ok(page)
    }

    fn next<T>(&self, marker: Option<T>) -> Result<Option<T>> {
        match self.is_truncated.as_deref().map(str::trim) {
            Some(truncated) if truncated.eq_ignore_ascii_case("true") => {
                marker.map(Some).ok_or(XmlError::Stuck)
            }
            _ => Ok(None),
        }
    }
}

/// Also returns the marker of the next page, which is greater than `after`.
pub(super) fn parts(body: &[u8], after: u32) -> Result<(Vec<Part>, Option<u32>)> {
    let page = PageXml::parse(body)?;
    let marker = page.next_part_number_marker.as_deref();
    let marker = marker.and_then(|marker| marker.trim().parse().ok());
    // Services may leave out the marker. The last part is one, too.
    let marker = marker.max(page.part.last().map(|part| part.part_number));
    let next = page.next(marker.filter(|marker| *marker > after))?;
    Ok((page.part.into_iter().map(Part::from).collect(), next))
}

/// Also returns whether the service says that it has encoded the keys.
pub(super) fn multiparts(body: &[u8]) -> Result<(MultipartUploadsPage, bool)> {
    let page = PageXml::parse(body)?;
    let last = page.upload.last();
    let marker = match page.next_key_marker.clone() {
        Some(key) if !key.is_empty() => {
            Some((key, page.next_upload_id_marker.clone().unwrap_or_default()))
        }
        _ => last.map(|last| (last.key.clone(), last.upload_id.clone())),
    };
    let next = page.next(marker)?;
    let is_encoded = page.encoding_type.is_some();
    let uploads = page.upload.into_iter().map(Into::into).collect();
    Ok((MultipartUploadsPage { uploads, next }, is_encoded))
}

pub(super) fn objects(body: &[u8]) -> Result<ObjectsPage> {
    let page = PageXml::parse(body)?;
    let token = page.next_continuation_token.clone();
    let next = page.next(token.filter(|token| !token.is_empty()))?;
    let objects = page.contents.into_iter().map(Into::into).collect();
    Ok(ObjectsPage {
        objects,
        next,
        time: None,
    })
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename = "CORSConfiguration", default)]
struct CorsXml {
    #[serde(rename = "@xmlns")]
    namespace: String,
    #[serde(rename = "CORSRule")]
    rules: Vec<CorsRule>,
}

pub(super) fn cors(body: &[u8]) -> Result<Vec<CorsRule>> {
    Ok(from_str::<CorsXml>(text(body)?)?.rules)
}

pub(super) fn cors_configuration(rules: &[CorsRule]) -> String {
    let configuration = CorsXml {
        namespace: NAMESPACE.to_owned(),
        rules: rules.to_vec(),
    };
    let body = quick_xml::se::to_string(&configuration).expect("rules are XML elements");
    format!("{HEAD}{body}")
}

#[derive(Deserialize)]
struct TokenXml {
    #[serde(
        rename = "GetFederationTokenResult",
        alias = "AssumeRoleResult",
        alias = "AssumeRoleWithWebIdentityResult"
    )]
    result: TokenResultXml,
}

#[derive(Deserialize)]
struct TokenResultXml {
    #[serde(rename = "Credentials")]
    credentials: Credentials,
}

pub(super) fn temporary_credentials(body: &[u8]) -> Result<Credentials> {
    let keys = from_str::<TokenXml>(text(body)?)?.result.credentials;
    match (&keys.session_token, keys.expires) {
        (Some(_), Some(_)) => Ok(keys),
        _ => Err(XmlError::NotTemporary),
    }
}

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

pub(super) fn complete(parts: &[(u32, String)]) -> String {
    let mut out = format!(r#"{HEAD}<CompleteMultipartUpload xmlns="{NAMESPACE}">"#);
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

#[cfg(test)]
mod tests;
