//! The calls of a cloud that a store of uploads needs, in the shape of multipart uploads: an object is made of
//! numbered parts that are stored one by one and then completed. A cloud decides nothing about uploads.

use std::{fmt, ops::Range, time::Duration};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use crate::{
    call::{Result, Stats},
    object::{
        Condition, MultipartUploadsPage, Object, ObjectHead, ObjectHeaders, ObjectRef, ObjectsPage,
        Part,
    },
    payload::Payload,
};

/// The differences between clouds besides their calls.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The name of the service, for people.
    pub name: &'static str,
    /// `Type` in the description, as tusd writes it.
    pub store_type: &'static str,
    /// The field of the description with the bucket.
    pub bucket_field: &'static str,
    /// Every object has one multipart upload, which nothing names, and tusd counts all of its parts: so there
    /// must never be one after a missing one. The bytes that are too few for a part are kept where tusd does not look.
    pub implicit_multipart: bool,
    /// A part has any size; it is replaced only by a call that names its tag, and can be removed. Otherwise
    /// late writes of a dead process may replace parts, and are kept away by numbers and planned sizes.
    pub versioned_parts: bool,
    /// The shortest time between two writes of one object, if the service limits them.
    pub write_interval: Duration,
    /// The longest range of a copy, in bytes.
    pub max_copy: u64,
}

/// The metadata with the writer of a versioned part that is a separate object.
pub const PART_WRITER: &str = "landfall-writer";

/// The metadata with the upload that an object was made of.
pub const OWNER: &str = "landfall-upload";

/// Which part a versioned one replaces, and who wrote it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PartCondition<'a> {
    /// The tag of the part that is replaced.
    pub over: Option<&'a str>,
    /// The writer, which listings of the parts return.
    pub writer: Option<&'a str>,
}

/// A client of one cloud. Clones share connections, credentials and counters.
///
/// Missing objects are [`NoSuchKey`](crate::ErrorKind::NoSuchKey). A call repeats attempts that failed for a
/// passing reason.
///
/// # Cancel safety
/// A dropped call may have taken effect, or take effect later, unless it says otherwise.
#[async_trait]
pub trait Cloud: fmt::Debug + Send + Sync + 'static {
    /// Returns the rules of this cloud.
    fn rules(&self) -> Rules;

    /// Returns the URL of an object, without a signature.
    fn object_url(&self, object: &ObjectRef) -> String;

    /// Returns the counters of this client and its clones.
    fn stats(&self) -> &Stats;

    /// Writes an object and returns its version.
    ///
    /// With `writes`, the request of a dropped call ends in a task of it, and is not repeated.
    ///
    /// # Errors
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) if `condition` is not met, and others.
    async fn put_object(
        &self,
        object: &ObjectRef,
        payload: Payload,
        headers: &ObjectHeaders,
        condition: Condition,
        writes: Option<&TaskTracker>,
    ) -> Result<String>;

    /// Opens an object, or a range of it, for reading.
    async fn get_object(&self, object: &ObjectRef, range: Option<Range<u64>>) -> Result<Object>;

    /// Returns the metadata of an object.
    async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead>;

    /// Deletes an object. A missing one is no error.
    async fn delete_object(&self, object: &ObjectRef) -> Result<()>;

    /// Deletes an object that has this entity tag; where the cloud has no condition for that, any. A missing one, or
    /// another, is no error.
    async fn delete_version(&self, object: &ObjectRef, _etag: &str) -> Result<()> {
        self.delete_object(object).await
    }

    /// Lists at most `max` objects (up to 1,000) whose keys begin with `prefix`, in key order; `after` is
    /// [`ObjectsPage::next`] of the page before.
    async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage>;

    /// Creates a multipart upload and returns its id.
    async fn create_multipart(&self, object: &ObjectRef, headers: &ObjectHeaders)
    -> Result<String>;

    /// Stores part `number`, from 1, and returns its tag.
    ///
    /// With [`Rules::versioned_parts`], it replaces the part that the condition names, or none; otherwise any.
    ///
    /// # Errors
    /// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) if there is another part, and others.
    async fn upload_part(
        &self,
        object: &ObjectRef,
        multipart: &str,
        number: u32,
        payload: Payload,
        condition: PartCondition<'_>,
    ) -> Result<String>;

    /// Copies a range of another object into part `number`, and returns its tag.
    ///
    /// With [`Rules::versioned_parts`], the range is always the whole object, and any part is replaced.
    async fn copy_part(
        &self,
        object: &ObjectRef,
        multipart: &str,
        number: u32,
        source: &ObjectRef,
        range: Range<u64>,
    ) -> Result<String>;

    /// Lists the parts, in the order of their numbers.
    ///
    /// # Errors
    /// [`NoSuchUpload`](crate::ErrorKind::NoSuchUpload): the multipart upload was completed or removed.
    async fn list_parts(&self, object: &ObjectRef, multipart: &str) -> Result<Vec<Part>>;

    /// Makes the object of these parts, pairs of number and tag, and returns its version. Parts that are not
    /// among them vanish.
    ///
    /// # Errors
    /// [`NoSuchUpload`](crate::ErrorKind::NoSuchUpload), [`InvalidPart`](crate::ErrorKind::InvalidPart) and
    /// others.
    async fn complete_multipart(
        &self,
        object: &ObjectRef,
        multipart: &str,
        parts: &[(u32, String)],
        headers: &ObjectHeaders,
    ) -> Result<String>;

    /// Removes a multipart upload with its parts. A missing one is no error; an object is never removed.
    async fn abort_multipart(&self, object: &ObjectRef, multipart: &str) -> Result<()>;

    /// Removes parts, pairs of number and tag, the highest number first; one that has another tag by now stays. Only
    /// with [`Rules::versioned_parts`].
    async fn remove_parts(
        &self,
        _object: &ObjectRef,
        _multipart: &str,
        _parts: &[(u32, String)],
    ) -> Result<()> {
        Ok(())
    }

    /// Lists at most `max` multipart uploads (up to 1,000); `after` is [`MultipartUploadsPage::next`] of the page
    /// before. Without [`Rules::implicit_multipart`] only.
    async fn list_multiparts(
        &self,
        _bucket: &str,
        _prefix: &str,
        _after: Option<(String, String)>,
        _max: u32,
    ) -> Result<MultipartUploadsPage> {
        Ok(MultipartUploadsPage::default())
    }

    /// Keeps the parts of an unfinished upload from expiring where the cloud drops idle ones.
    async fn keep_parts(&self, _object: &ObjectRef) -> Result<()> {
        Ok(())
    }

    /// Returns a URL from which every client can download an object for a time, with these response headers.
    async fn presign_download(
        &self,
        object: &ObjectRef,
        content_type: &str,
        content_disposition: &str,
        lifetime: Duration,
    ) -> Result<String>;
}
