//! The entries of listings, as the service's XML has them.

use std::time::SystemTime;

use jiff::Timestamp;
use landfall_objects::{ListedObject, MultipartUpload, Part};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// A part, as S3 lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartXml {
    pub(super) part_number: u32,
    size: u64,
    #[serde(rename = "ETag", deserialize_with = "filled")]
    etag: String,
    #[serde(default, deserialize_with = "if_time")]
    last_modified: Option<SystemTime>,
}

impl From<PartXml> for Part {
    fn from(part: PartXml) -> Self {
        Self {
            number: part.part_number,
            size: part.size,
            etag: part.etag,
            modified: part.last_modified,
            writer: None,
        }
    }
}

/// A multipart upload, as S3 lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MultipartXml {
    #[serde(deserialize_with = "filled")]
    pub(super) key: String,
    #[serde(deserialize_with = "filled")]
    pub(super) upload_id: String,
    #[serde(default, deserialize_with = "if_time")]
    initiated: Option<SystemTime>,
}

impl From<MultipartXml> for MultipartUpload {
    fn from(upload: MultipartXml) -> Self {
        Self {
            key: upload.key,
            upload_id: upload.upload_id,
            initiated: upload.initiated,
        }
    }
}

/// An object, as S3 lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ObjectXml {
    #[serde(deserialize_with = "filled")]
    pub(super) key: String,
    size: u64,
    #[serde(default, deserialize_with = "if_time")]
    last_modified: Option<SystemTime>,
    #[serde(rename = "ETag", default)]
    etag: String,
}

impl From<ObjectXml> for ListedObject {
    fn from(object: ObjectXml) -> Self {
        Self {
            key: object.key,
            size: object.size,
            modified: object.last_modified,
            etag: object.etag,
        }
    }
}

/// One rule of a bucket's CORS configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CorsRule {
    /// Rule name.
    #[serde(
        rename = "ID",
        deserialize_with = "if_filled",
        skip_serializing_if = "Option::is_none"
    )]
    pub id: Option<String>,
    /// Allowed origins, with at most one `*` each.
    #[serde(rename = "AllowedOrigin")]
    pub allowed_origins: Vec<String>,
    /// Allowed methods.
    #[serde(rename = "AllowedMethod")]
    pub allowed_methods: Vec<String>,
    /// Allowed request headers.
    #[serde(rename = "AllowedHeader")]
    pub allowed_headers: Vec<String>,
    /// Response headers that pages may read; multipart uploads with presigned URLs need `ETag`.
    #[serde(rename = "ExposeHeader")]
    pub expose_headers: Vec<String>,
    /// Time that browsers may cache a preflight response, in seconds.
    #[serde(
        deserialize_with = "if_number",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_age_seconds: Option<u32>,
}

pub(super) fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Err(D::Error::custom("an element of the response is empty"));
    }
    Ok(text)
}

pub(super) fn if_filled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.filter(|text| !text.is_empty()))
}

pub(super) fn if_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(from).unwrap_or_default();
    let time = text.trim().parse::<Timestamp>();
    Ok(time.ok().map(SystemTime::from))
}

pub(super) fn if_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    Ok(String::deserialize(from)?.trim().parse().ok())
}
