//! What listings give: parts, multipart uploads, objects, CORS rules.

use std::time::SystemTime;

/// One part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1 to 10,000.
    pub number: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Its entity tag as the service wrote it, with its quotes.
    pub etag: String,
    /// When it was uploaded; `None` if the service didn't say.
    pub modified: Option<SystemTime>,
}

/// One page of [`list_parts`](super::Client::list_parts).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartsPage {
    /// Parts in the order of their numbers.
    pub parts: Vec<Part>,
    /// What to pass as `after` for the next page; `None` on the last one.
    pub next: Option<u32>,
}

/// One unfinished multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// The key its object will have.
    pub key: String,
    /// The service's name for the multipart upload.
    pub upload_id: String,
    /// When it was begun; `None` if the service didn't say.
    pub initiated: Option<SystemTime>,
}

/// One page of [`list_multiparts`](super::Client::list_multiparts).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultipartsPage {
    /// Multipart uploads. AWS lists them in the order of their keys; Garage keeps to that from page
    /// to page only.
    pub uploads: Vec<Multipart>,
    /// What to pass as `after` for the next page; `None` on the last one.
    pub next: Option<(String, String)>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written; `None` if the service didn't say.
    pub modified: Option<SystemTime>,
    /// Its entity tag as the service wrote it, with its quotes.
    pub etag: String,
}

/// One page of [`list_objects`](super::Client::list_objects).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectsPage {
    /// Objects in the order of their keys.
    pub objects: Vec<Listed>,
    /// What to pass as `after` for the next page; `None` on the last one.
    pub next: Option<String>,
}

/// One rule of a bucket's CORS configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsRule {
    /// A name for people; may be empty.
    pub id: Option<String>,
    /// Origins that may ask, with at most one `*` each.
    pub allowed_origins: Vec<String>,
    /// Methods they may use.
    pub allowed_methods: Vec<String>,
    /// Request headers they may send.
    pub allowed_headers: Vec<String>,
    /// Answer headers they may read; uploads by presigned URL need `ETag`.
    pub expose_headers: Vec<String>,
    /// For how many seconds a browser may remember the answer.
    pub max_age_seconds: Option<u32>,
}
