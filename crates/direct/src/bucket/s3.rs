//! A bucket of S3.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, header};
use landfall_objects::{Cloud, Error, ErrorKind, ObjectHeaders, ObjectRef, Result};
use landfall_s3::client::Client;

use super::{Bucket, BucketRules, DirectBucket, SignedUpload, UploadTerms};

/// S3's limit.
pub(crate) const MAX_SINGLE_PUT: u64 = 5 << 30;

/// A bucket of S3, or of a service with its API.
pub type S3Bucket = Bucket<Client>;

#[async_trait]
impl DirectBucket for S3Bucket {
    fn clouds(&self) -> [&dyn Cloud; 2] {
        [&self.client, &self.signer]
    }

    fn s3(&self) -> Option<&Self> {
        Some(self)
    }

    fn rules(&self) -> BucketRules {
        BucketRules {
            max_put: MAX_SINGLE_PUT,
            larger: "a file larger than 5 GiB must be sent as a multipart upload",
            creates_only: false,
            resumable_creates_only: false,
            fixes_type: true,
            session_lifetime: Duration::ZERO,
        }
    }

    /// The size is signed if it is known; of other headers those of `terms` that cannot be query parameters.
    async fn sign_upload(
        &self,
        object: &ObjectRef,
        terms: &UploadTerms<'_>,
    ) -> Result<SignedUpload> {
        let (query, headers) = put_headers(terms.headers, terms.pins_type, terms.only_once)
            .map_err(|why| {
                let error = Error::new(ErrorKind::Other, "Presign", object.to_string());
                error.with_message(why)
            })?;
        let mut signed = headers.clone();
        if let Some(length) = terms.length {
            signed.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let (method, query) = (Method::PUT, as_pairs(&query));
        let url = self
            .signer
            .presign(method.clone(), object, &query, &signed, terms.lifetime);
        Ok(SignedUpload {
            method,
            url: url.await?,
            headers,
        })
    }
}

/// Signed as query parameters, which the client need not know.
pub(crate) const QUERY_HEADERS: [&str; 2] = ["x-amz-acl", "x-amz-tagging"];

pub(crate) type Query<'a> = Vec<(String, &'a str)>;

/// Returns the query parameters, and the headers that cannot be query parameters and that the client must
/// send. `only_once` makes the service reject a second PUT.
///
/// # Errors
/// The name of a header whose value is invalid.
pub(crate) fn put_headers(
    object: &ObjectHeaders,
    pin_type: bool,
    only_once: bool,
) -> Result<(Query<'_>, HeaderMap), String> {
    let metadata = object.metadata.iter();
    let mut query: Query<'_> = metadata
        .map(|(name, value)| (format!("x-amz-meta-{name}"), value.as_str()))
        .collect();
    let mut headers = HeaderMap::new();
    for (name, value) in object.pairs() {
        match name {
            _ if QUERY_HEADERS.contains(&name) => query.push((name.to_owned(), value)),
            "content-type" if !pin_type => {}
            _ => {
                let invalid = |_| format!("the object's {name} is not a valid header value");
                headers.insert(name, HeaderValue::from_str(value).map_err(invalid)?);
            }
        }
    }
    if only_once {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    Ok((query, headers))
}

pub(crate) fn as_pairs<'a>(query: &'a Query<'_>) -> Vec<(&'a str, &'a str)> {
    let pairs = query.iter();
    pairs.map(|(name, value)| (&**name, *value)).collect()
}
