//! A small S3 client: the operations that an upload server needs, over pooled HTTP/1.1 connections.
//!
//! Each call signs its request (SigV4), tries again with growing, jittered waits whatever may pass
//! by itself, and sorts what doesn't into [`ErrorKind`]s. Payloads are [lists of shared
//! bytes](Payload) that are sent without copying.
//!
//! Dropping a call closes its connection. What the call was to do may or may not have happened then.

mod body;
mod credentials;
mod error;
mod listing;
mod object;
mod payload;
mod settings;
mod stats;
mod transport;

use std::{ops::Range, sync::Arc, time::Duration};

use http::{HeaderMap, Method};

pub use self::{
    body::ObjectBody,
    credentials::{CredentialSource, Credentials, ProvideCredentials},
    error::{Error, ErrorKind, Result},
    listing::{CorsRule, Listed, Multipart, MultipartsPage, ObjectsPage, Part, PartsPage},
    object::{Condition, Object, ObjectHead, ObjectHeaders, Place},
    payload::{Payload, PayloadBody},
    settings::{ClientSettings, SettingsError},
    stats::{DURATION_BOUNDS_MS, Operation, OperationStats, Stats},
    transport::{AnswerBody, HttpSend},
};

/// A client of one S3 service. Clones share its connections, credentials and counters.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stats: Stats,
}

#[expect(unused_variables, clippy::unused_async)]
impl Client {
    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SettingsError`] says which setting is wrong and how.
    pub fn new(settings: ClientSettings) -> Result<Self, SettingsError> {
        unimplemented!()
    }

    /// What was done so far, by this client and its clones.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// Begins a multipart upload of an object and returns the service's id for it.
    ///
    /// # Errors
    /// [`Error`], as for every call. A retry after a lost answer may leave a second, empty multipart
    /// upload behind.
    pub async fn create_multipart(&self, place: &Place, object: &ObjectHeaders) -> Result<String> {
        unimplemented!()
    }

    /// Uploads part `number` (1 to 10,000), in place of an earlier one with that number, and returns
    /// its entity tag.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`] and others.
    pub async fn upload_part(
        &self,
        place: &Place,
        upload_id: &str,
        number: u32,
        payload: Payload,
    ) -> Result<String> {
        unimplemented!()
    }

    /// Makes part `number` of the bytes `range` of `source`, or of all of it, inside of the service,
    /// and returns its entity tag.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`], [`ErrorKind::NoSuchKey`] if there is no source, and others.
    pub async fn upload_part_copy(
        &self,
        place: &Place,
        upload_id: &str,
        number: u32,
        source: &Place,
        range: Option<Range<u64>>,
    ) -> Result<String> {
        unimplemented!()
    }

    /// Lists parts with numbers above `after`, up to a thousand.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`] and others.
    pub async fn list_parts(
        &self,
        place: &Place,
        upload_id: &str,
        after: u32,
    ) -> Result<PartsPage> {
        unimplemented!()
    }

    /// Makes the object of these parts (number and entity tag, in the order of their numbers).
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`], [`ErrorKind::EntityTooSmall`] and others.
    pub async fn complete_multipart(
        &self,
        place: &Place,
        upload_id: &str,
        parts: &[(u32, String)],
    ) -> Result<()> {
        unimplemented!()
    }

    /// Drops a multipart upload and its parts. One that isn't there (any more) is no error.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn abort_multipart(&self, place: &Place, upload_id: &str) -> Result<()> {
        unimplemented!()
    }

    /// Lists up to `max` (at most a thousand) unfinished multipart uploads whose key begins with
    /// `prefix`, after the pair of key and upload id `after`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_multiparts(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, String)>,
        max: u32,
    ) -> Result<MultipartsPage> {
        unimplemented!()
    }

    /// Writes an object in one request and returns its entity tag.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] if `condition` doesn't hold, and others.
    pub async fn put_object(
        &self,
        place: &Place,
        payload: Payload,
        object: &ObjectHeaders,
        condition: Condition,
    ) -> Result<String> {
        unimplemented!()
    }

    /// Begins to read an object, or the bytes `range` of it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`], [`ErrorKind::InvalidRange`] and others.
    pub async fn get_object(&self, place: &Place, range: Option<Range<u64>>) -> Result<Object> {
        unimplemented!()
    }

    /// What the service tells about an object without its bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`] and others.
    pub async fn head_object(&self, place: &Place) -> Result<ObjectHead> {
        unimplemented!()
    }

    /// Removes an object. One that isn't there is no error.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_object(&self, place: &Place) -> Result<()> {
        unimplemented!()
    }

    /// Lists up to `max` (at most a thousand) objects whose key begins with `prefix`; `after` is
    /// `next` of the page before.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        unimplemented!()
    }

    /// Asks whether the bucket is there and may be used.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchBucket`], [`ErrorKind::AccessDenied`], [`ErrorKind::WrongRegion`] and
    /// others.
    pub async fn head_bucket(&self, bucket: &str) -> Result<()> {
        unimplemented!()
    }

    /// The bucket's CORS rules; `None` if it has none.
    ///
    /// # Errors
    /// [`ErrorKind::NotImplemented`] where the service has no such thing, and others.
    pub async fn bucket_cors(&self, bucket: &str) -> Result<Option<Vec<CorsRule>>> {
        unimplemented!()
    }

    /// Sets the bucket's CORS rules in place of those it had.
    ///
    /// # Errors
    /// [`ErrorKind::NotImplemented`] where the service has no such thing, and others.
    pub async fn set_bucket_cors(&self, bucket: &str, rules: &[CorsRule]) -> Result<()> {
        unimplemented!()
    }

    /// A URL by which anybody may make one kind of request for `expires` (1 s to 7 days; less if the
    /// credentials end before). `query` and `headers` are signed with it: whoever uses the URL must
    /// send these headers as they are. Nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`], and [`ErrorKind::Other`] for a lifetime out of bounds.
    pub async fn presign(
        &self,
        method: Method,
        place: &Place,
        query: &[(&str, &str)],
        headers: &HeaderMap,
        expires: Duration,
    ) -> Result<String> {
        unimplemented!()
    }
}
