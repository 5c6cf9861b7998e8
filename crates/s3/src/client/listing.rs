//! The entries of listings, as the service's XML has them.

use std::time::SystemTime;

use jiff::Timestamp;
use landfall_objects::StoredPart;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// One part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Part {
    /// Part number, from 1 to 10,000.
    #[serde(rename = "PartNumber")]
    pub number: u32,
    /// Length in bytes.
    pub size: u64,
    /// Entity tag as the service sent it, quoted.
    #[serde(rename = "ETag", deserialize_with = "filled")]
    pub etag: String,
    /// Upload time, if the service sent it.
    #[serde(rename = "LastModified", default, deserialize_with = "if_time")]
    pub modified: Option<SystemTime>,
}

impl StoredPart for Part {
    fn number(&self) -> u32 {
        self.number
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn tag(&self) -> &str {
        &self.etag
    }
}

/// An unfinished multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MultipartUpload {
    /// Key of the future object.
    #[serde(deserialize_with = "filled")]
    pub key: String,
    /// Multipart upload id.
    #[serde(deserialize_with = "filled")]
    pub upload_id: String,
    /// Creation time, if the service sent it.
    #[serde(default, deserialize_with = "if_time")]
    pub initiated: Option<SystemTime>,
}

/// One page of [`list_multiparts`](super::Client::list_multiparts).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultipartUploadsPage {
    /// Multipart uploads, in key order on AWS; Garage sorts only across pages.
    pub uploads: Vec<MultipartUpload>,
    /// `after` of the next page; `None` on the last page.
    pub next: Option<(String, String)>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedObject {
    /// Object key.
    #[serde(deserialize_with = "filled")]
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, if the service sent it.
    #[serde(rename = "LastModified", default, deserialize_with = "if_time")]
    pub modified: Option<SystemTime>,
    /// Entity tag as the service sent it, quoted.
    #[serde(rename = "ETag", default)]
    pub etag: String,
}

/// One page of [`list_objects`](super::Client::list_objects).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectsPage {
    /// Objects in key order.
    pub objects: Vec<ListedObject>,
    /// `after` of the next page; `None` on the last page.
    pub next: Option<String>,
    /// The time of the service, if it sent it.
    pub time: Option<SystemTime>,
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
