//! The calls on whole blobs.

use std::ops::Range;

use async_trait::async_trait;
use http::Method;
use landfall_objects::{
    Caller, Condition, Error, ErrorKind, IdleObjects, OWNER, Object, ObjectHead, ObjectHeaders,
    ObjectRef, ObjectsPage, OpenObjects, Payload, ResponseBody, Result, body_range, content_length,
    header_text, if_exists, read_object, service_time,
};
use tokio_util::task::TaskTracker;

use crate::{
    checksum::md5,
    client::{AzureClient, Inner},
    metadata::{blob_headers, object_head},
    request::BlobRequest,
    xml,
};

const CONTENT_MD5: &str = "content-md5";

const GET_BLOB: &str = "GetBlob";

impl AzureClient {
    /// Writes a blob in one request and returns its entity tag.
    ///
    /// The retry of a conditional write whose response was lost finds the blob of the first attempt. If its digest
    /// is that of `payload`, the write has succeeded; so concurrent writers should write different bytes.
    /// A blob that names its upload has the tier of the settings. With `writes`, the request of a dropped call ends in
    /// a task of it, and is not repeated.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] if `condition` is not met, and others.
    pub async fn put_object(
        &self,
        object: &ObjectRef,
        payload: Payload,
        headers: &ObjectHeaders,
        condition: Condition,
        writes: Option<&TaskTracker>,
    ) -> Result<String> {
        let mut request = BlobRequest::of_blob("PutBlob", Method::PUT, object)
            .header("x-ms-blob-type", "BlockBlob")?
            .headers(blob_headers(headers))
            .payload(payload.clone())
            .verified()
            .tasks(writes);
        // Descriptions and the like stay where they can be read at once.
        let is_data = headers.metadata.contains_key(OWNER);
        if let Some(tier) = self.inner.tier.filter(|_| is_data) {
            request = request.header("x-ms-access-tier", tier.name())?;
        }
        request = match &condition {
            Condition::None => request,
            Condition::IfAbsent => request.header("if-none-match", "*")?,
            Condition::IfMatch(etag) => request.header("if-match", etag)?,
        };
        let error = match self.inner.send(&request).await {
            Ok(response) => return request.version(&response),
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => error,
            Err(error) => return Err(error),
        };
        match if_exists(self.inner.properties(object).await) {
            Ok(Some((head, digest)))
                if error.is_in_doubt() && digest.as_deref() == Some(&*md5(&payload)) =>
            {
                Ok(head.etag)
            }
            // To Azurite, blocks without a commit are a blob. A commit decides whether there is one.
            Ok(None) if condition == Condition::IfAbsent => {
                self.put_as_block(object, payload, headers).await
            }
            _ => Err(error),
        }
    }

    async fn put_as_block(
        &self,
        object: &ObjectRef,
        payload: Payload,
        headers: &ObjectHeaders,
    ) -> Result<String> {
        let mut parts = Vec::new();
        if !payload.is_empty() {
            parts.push((1, self.upload_part(object, 1, payload).await?));
        }
        self.complete_multipart(object, &parts, headers).await
    }

    /// Opens a blob, or a range of it, for reading.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`], [`ErrorKind::Archived`] and others.
    pub async fn get_object(
        &self,
        object: &ObjectRef,
        range: Option<Range<u64>>,
    ) -> Result<Object> {
        read_object(&self.inner, object, range).await
    }

    /// Returns the headers and metadata of a blob; blocks without a commit are no blob.
    pub async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead> {
        Ok(self.inner.properties(object).await?.0)
    }

    /// Deletes a blob with its snapshots. A missing one is not an error. Blocks without a commit stay.
    pub async fn delete_object(&self, object: &ObjectRef) -> Result<()> {
        self.inner.delete(object, None).await
    }

    /// Lists up to `max` blobs (at most 5,000) whose names begin with `prefix`, in the order of their names.
    ///
    /// `after` is `next` of the previous page. A page may have fewer blobs, even none, and not be the last.
    pub async fn list_objects(
        &self,
        container: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        let mut request = BlobRequest::new("ListBlobs", Method::GET, container)
            .query("restype", "container")
            .query("comp", "list")
            .query("maxresults", &max.to_string());
        if !prefix.is_empty() {
            request = request.query("prefix", prefix);
        }
        if let Some(marker) = after {
            request = request.query("marker", &marker);
        }
        let response = self.inner.send(&request).await?;
        let mut page = xml::objects(&response.body).map_err(|error| request.unexpected(error))?;
        page.time = service_time(&response.head.headers);
        Ok(page)
    }
}

impl Inner {
    /// Returns the head of a blob, and its digest if it has one.
    async fn properties(&self, object: &ObjectRef) -> Result<(ObjectHead, Option<String>)> {
        let request = BlobRequest::of_blob("GetBlobProperties", Method::HEAD, object);
        let head = self.send(&request).await?.head;
        let size = content_length(&head)
            .ok_or_else(|| request.unexpected("the response has no length"))?;
        let digest = header_text(&head.headers, CONTENT_MD5).map(str::to_owned);
        Ok((object_head(&head, size), digest))
    }

    /// Deletes a blob, or only this version of it.
    pub(crate) async fn delete(&self, object: &ObjectRef, version: Option<&str>) -> Result<()> {
        let mut request = BlobRequest::of_blob("DeleteBlob", Method::DELETE, object)
            .header("x-ms-delete-snapshots", "include")?;
        if let Some(version) = version {
            request = request.header("if-match", version)?;
        }
        match self.send(&request).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(()),
            result => result.map(drop),
        }
    }
}

#[async_trait]
impl OpenObjects for Inner {
    const OPERATION: &'static str = GET_BLOB;

    async fn open(
        &self,
        object: &ObjectRef,
        range: Option<Range<u64>>,
        version: Option<&str>,
    ) -> Result<(ObjectHead, Range<u64>, ResponseBody)> {
        let mut request = BlobRequest::of_blob(GET_BLOB, Method::GET, object);
        if let Some(range) = &range {
            request = request.range("range", range)?;
        }
        if let Some(version) = version {
            request = request.header("if-match", version)?;
        }
        let response = self.run(&request, true).await?;
        let unexpected = |why: &'static str| -> Error { request.unexpected(why) };
        let body = response
            .stream
            .ok_or_else(|| unexpected("the response has no body"))?;
        let head = response.head;
        let (given, size) = body_range(&head, range).map_err(unexpected)?;
        Ok((object_head(&head, size), given, body))
    }

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn idle_objects(&self) -> &IdleObjects {
        &self.idle_objects
    }
}
