//! The bucket of direct uploads: the requests that all clouds have, and the question for those that only S3 has.
//!
//! Buckets decide nothing about uploads, and know no record, job or hook.

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcs")]
mod gcs;
mod s3;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Method};
use landfall_objects::{Cloud, ObjectHeaders, ObjectRef, Result};

pub use self::s3::S3Bucket;
pub(crate) use self::s3::{MAX_SINGLE_PUT, QUERY_HEADERS, as_pairs, put_headers};

/// A bucket or container, of the service of this client.
#[derive(Debug, Clone)]
pub struct Bucket<C> {
    /// The client of the service.
    pub client: C,
    /// Signs for browsers, which may use another endpoint.
    pub signer: C,
}

impl<C: Clone> Bucket<C> {
    /// Creates a bucket that clients reach at the endpoint of the server.
    #[must_use]
    pub fn new(client: C) -> Self {
        let signer = client.clone();
        Self { client, signer }
    }
}

/// The differences between the buckets of direct uploads besides their requests.
#[derive(Debug, Clone, Copy)]
pub struct BucketRules {
    /// The largest file that one PUT can carry, in bytes.
    pub max_put: u64,
    /// A sentence about larger ones, with the request to use.
    pub larger: &'static str,
    /// A signature can forbid to replace an object. For S3 it depends on the service.
    pub creates_only: bool,
    /// So can that of a resumable upload.
    pub resumable_creates_only: bool,
    /// The signature fixes the type of the object.
    pub fixes_type: bool,
    /// The longest time in which an object can arrive after the request that its signature permits, for files that
    /// are sent in more than one request.
    pub session_lifetime: Duration,
}

/// The request that carries a file, or begins to.
#[derive(Debug, Clone, Copy)]
pub struct UploadTerms<'a> {
    /// Headers and metadata of the object.
    pub headers: &'a ObjectHeaders,
    /// The file is sent in several requests, and continues after an interruption: a resumable session of Google, blocks
    /// of Azure.
    pub resumable: bool,
    /// The length in bytes, if it is known.
    pub length: Option<u64>,
    /// The largest accepted length, in bytes.
    pub limit: u64,
    /// The content type is signed, where that is possible.
    pub pins_type: bool,
    /// The request must not replace an object, where that can be signed.
    pub only_once: bool,
    /// The time in which the request, or each of several, must start: 1 s to 7 days.
    pub lifetime: Duration,
}

/// A signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUpload {
    /// PUT, or POST for a resumable session.
    pub method: Method,
    /// The URL.
    pub url: String,
    /// The headers that must be sent unchanged. Browsers send Content-Length on their own.
    pub headers: HeaderMap,
}

/// A bucket to which clients send files by signed requests.
///
/// # Cancel safety
/// A dropped call may have taken effect.
#[async_trait]
pub trait DirectBucket: fmt::Debug + Send + Sync + 'static {
    /// Returns the [client](Bucket::client), and the [signer](Bucket::signer).
    fn clouds(&self) -> [&dyn Cloud; 2];

    /// Returns the client of the service.
    fn cloud(&self) -> &dyn Cloud {
        self.clouds()[0]
    }

    /// Returns what signs the requests of clients, and knows the URLs that they use.
    fn signer(&self) -> &dyn Cloud {
        self.clouds()[1]
    }

    /// Returns the rules of this bucket.
    fn rules(&self) -> BucketRules;

    /// Returns the client of S3, for the requests that no other cloud has: forms, multipart uploads, and those with
    /// temporary credentials.
    fn s3(&self) -> Option<&S3Bucket> {
        None
    }

    /// Removes the bytes of an unfinished resumable upload, if the cloud has kept them and lets others remove them.
    async fn remove_unfinished(&self, _object: &ObjectRef) -> Result<()> {
        Ok(())
    }

    /// Signs the request that carries a file of a client.
    ///
    /// # Errors
    /// [`BadCredentials`](landfall_objects::ErrorKind::BadCredentials) and
    /// [`NotImplemented`](landfall_objects::ErrorKind::NotImplemented) if these credentials cannot sign, and others.
    async fn sign_upload(
        &self,
        object: &ObjectRef,
        terms: &UploadTerms<'_>,
    ) -> Result<SignedUpload>;
}
