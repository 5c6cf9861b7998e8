//! The calls of the store of uploads. Those on parts are made of those on blocks (`blocks.rs`).

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use http::Method;
use landfall_objects::{
    Cloud, Condition, ErrorKind, OWNER, Object, ObjectHead, ObjectHeaders, ObjectRef, ObjectsPage,
    Part, PartCondition, Payload, Result, Rules, Service as _, Stats, content_length, header_text,
    if_exists, read_object, service_time,
};
use tokio_util::task::TaskTracker;

use crate::{
    block::Block,
    blocks::{commit, is_made_of, tag},
    checksum::md5,
    client::{AzureClient, Inner},
    metadata::blob_headers,
    request::{Extra, of_blob, of_container},
    xml,
};

const CONTENT_MD5: &str = "content-md5";

/// The id of every multipart upload; it is not stored.
const MULTIPART: &str = "blocks";

/// Metadata of an empty blob that exists only to drop blocks.
const ABORTED: &str = "landfall-aborted";

/// Blocks of a blob, at most.
const MAX_BLOCKS: usize = 50_000;

/// The most bytes of a copy that extend its timeout.
const MAX_TIMEOUT_BYTES: u64 = 64 * 1024 * 1024;

/// Of Put Block From URL.
const MAX_COPY: u64 = 4_000 * 1024 * 1024;

#[async_trait]
impl Cloud for AzureClient {
    fn rules(&self) -> Rules {
        Rules {
            name: "Azure Blob Storage",
            store_type: "azurestore",
            bucket_field: "Container",
            implicit_multipart: true,
            versioned_parts: false,
            write_interval: Duration::ZERO,
            max_copy: MAX_COPY,
        }
    }

    fn object_url(&self, object: &ObjectRef) -> String {
        self.inner.address.url(&object.bucket, Some(&object.key))
    }

    fn stats(&self) -> &Stats {
        self.stats()
    }

    /// The retry of a conditional write whose response was lost finds the blob of the first attempt. If its digest
    /// is that of `payload`, the write has succeeded; so concurrent writers should write different bytes.
    /// A blob that names its upload has the tier of the settings.
    async fn put_object(
        &self,
        object: &ObjectRef,
        payload: Payload,
        headers: &ObjectHeaders,
        condition: Condition,
        writes: Option<&TaskTracker>,
    ) -> Result<String> {
        let mut request = of_blob("PutBlob", Method::PUT, object)
            .header("x-ms-blob-type", "BlockBlob")?
            .headers(blob_headers(headers))
            .payload(payload.clone())
            .with(Extra::Verified)
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
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => error,
            sent => return request.etag(&sent?),
        };
        match if_exists(self.inner.properties(object).await) {
            Ok(Some((head, digest)))
                if error.is_in_doubt() && digest.as_deref() == Some(&*md5(&payload)) =>
            {
                Ok(head.etag)
            }
            // To Azurite, blocks without a commit are a blob. A commit decides whether there is one.
            Ok(None) if condition == Condition::IfAbsent => {
                let mut parts = Vec::new();
                if !payload.is_empty() {
                    parts.push((1, tag(payload.len())));
                    self.put_block(object, Block::Part(1), payload).await?;
                }
                self.complete_multipart(object, MULTIPART, &parts, headers)
                    .await
            }
            _ => Err(error),
        }
    }

    async fn get_object(&self, object: &ObjectRef, range: Option<Range<u64>>) -> Result<Object> {
        read_object(&self.inner, object, range).await
    }

    async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead> {
        Ok(self.inner.properties(object).await?.0)
    }

    /// With its snapshots. Blocks without a commit stay.
    async fn delete_object(&self, object: &ObjectRef) -> Result<()> {
        self.inner.delete(object, None).await
    }

    async fn delete_version(&self, object: &ObjectRef, etag: &str) -> Result<()> {
        match self.inner.delete(object, Some(etag)).await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(()),
            result => result,
        }
    }

    /// A page may have fewer blobs, even none, and not be the last.
    async fn list_objects(
        &self,
        container: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        let request = of_container("ListBlobs", Method::GET, container)
            .query("restype", "container")
            .query("comp", "list")
            .query("maxresults", &max.to_string())
            .page(prefix, "marker", after.as_deref());
        let response = self.inner.send(&request).await?;
        let mut page = xml::objects(&response.body).map_err(|error| request.unexpected(error))?;
        page.time = service_time(&response.head.headers);
        Ok(page)
    }

    /// Marks a blob as unfinished and returns the id of its multipart upload. Headers are set by the commit.
    async fn create_multipart(&self, object: &ObjectRef, _: &ObjectHeaders) -> Result<String> {
        self.put_sentinel(object).await?;
        Ok(MULTIPART.to_owned())
    }

    /// Stages the block of part `number` (from 1), in place of one with the same number, and returns its tag, which
    /// is its size. The service verifies its checksum.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidPart`] for a part without bytes, and others.
    async fn upload_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        payload: Payload,
        _: PartCondition<'_>,
    ) -> Result<String> {
        let tag = tag(payload.len());
        let block = self.block(object, number)?;
        self.put_block(object, block, payload).await?;
        Ok(tag)
    }

    /// Copies a range of another blob of the account into part `number`, and returns its tag.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`] if the source does not exist, [`ErrorKind::Archived`], and others.
    async fn copy_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        source: &ObjectRef,
        range: Range<u64>,
    ) -> Result<String> {
        let size = range.end.saturating_sub(range.start);
        let block = self.block(object, number)?;
        let request = of_blob("PutBlockFromURL", Method::PUT, object)
            .query("comp", "block")
            .query("blockid", &block.id())
            .range("x-ms-source-range", &range)?
            .with(Extra::CopyOf(source.clone()))
            .works(size.min(MAX_TIMEOUT_BYTES));
        self.inner.send(&request).await?;
        Ok(tag(size))
    }

    /// Lists the parts of an unfinished blob, in the order of their numbers; none if nothing was staged.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`] if the blob was made of an upload, and others.
    async fn list_parts(&self, object: &ObjectRef, _: &str) -> Result<Vec<Part>> {
        Ok(self.staged(object).await?.unwrap_or_default())
    }

    /// Commits these parts, pairs of number and tag, and returns the entity tag of the blob. Blocks that are not
    /// among them vanish. An existing blob is not replaced.
    ///
    /// The call is idempotent: it succeeds if the blob has this size and, in its metadata, the same upload.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] if there is another blob, [`ErrorKind::InvalidPart`] if a block is missing,
    /// [`ErrorKind::EntityTooLarge`], and others.
    async fn complete_multipart(
        &self,
        object: &ObjectRef,
        _: &str,
        parts: &[(u32, String)],
        headers: &ObjectHeaders,
    ) -> Result<String> {
        let mut ids = Vec::with_capacity(parts.len());
        let mut size = 0_u64;
        for (number, tag) in parts {
            ids.push(self.block(object, *number)?.id());
            size = size.saturating_add(tag.parse().unwrap_or(u64::MAX));
        }
        let mut request = commit(object, ids)?.headers(blob_headers(headers));
        let count = parts.len();
        if count > MAX_BLOCKS {
            let message = format!("{count} parts are more than the {MAX_BLOCKS} of a blob");
            let error = request.error(ErrorKind::EntityTooLarge);
            return Err(error.with_message(message));
        }
        if let Some(tier) = self.inner.tier {
            request = request.header("x-ms-access-tier", tier.name())?;
        }
        use ErrorKind::{InvalidPart, PreconditionFailed};
        let error = match self.inner.send(&request).await {
            Err(error) if matches!(error.kind(), PreconditionFailed | InvalidPart) => error,
            sent => return request.etag(&sent?),
        };
        match self.head_object(object).await {
            Ok(head) if is_made_of(&head, size, headers, error.is_in_doubt()) => Ok(head.etag),
            _ => Err(error),
        }
    }

    /// Drops all blocks without a commit. None is no error, and a blob is never deleted.
    ///
    /// The service has no such call: an empty blob is committed, which drops them, and deleted.
    async fn abort_multipart(&self, object: &ObjectRef, _: &str) -> Result<()> {
        let (_, list) = self.block_list(object).await?;
        let Some(list) = list else {
            return Ok(());
        };
        if !list.committed.blocks.is_empty() {
            return Ok(());
        }
        let mut headers = ObjectHeaders::default();
        headers.metadata.insert(ABORTED.to_owned(), "1".to_owned());
        let request = commit(object, Vec::new())?.headers(blob_headers(&headers));
        let version = if list.uncommitted.blocks.is_empty() {
            None
        } else {
            match self.inner.send(&request).await {
                Ok(response) => Some(request.etag(&response)?),
                Err(error) if *error.kind() == ErrorKind::PreconditionFailed => None,
                Err(error) => return Err(error),
            }
        };
        // Of this call, or of one that ended before it could delete the blob.
        let version = match version {
            Some(version) => version,
            None => match if_exists(self.head_object(object).await)? {
                Some(head) if head.size == 0 && head.metadata.contains_key(ABORTED) => head.etag,
                _ => return Ok(()),
            },
        };
        match self.inner.delete(object, Some(&version)).await {
            // An upload with the same name has begun to commit since then.
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(()),
            result => result,
        }
    }

    /// The service drops blocks a week after the last one was staged.
    async fn keep_parts(&self, object: &ObjectRef) -> Result<()> {
        match self.staged(object).await {
            Ok(Some(_)) => self.put_sentinel(object).await,
            Err(error) if *error.kind() != ErrorKind::NoSuchUpload => Err(error),
            _ => Ok(()),
        }
    }

    async fn presign_download(
        &self,
        object: &ObjectRef,
        content_type: &str,
        content_disposition: &str,
        lifetime: Duration,
    ) -> Result<String> {
        self.presign_download(object, content_type, content_disposition, lifetime)
            .await
    }
}

impl Inner {
    /// Returns the head of a blob, and its digest if it has one.
    async fn properties(&self, object: &ObjectRef) -> Result<(ObjectHead, Option<String>)> {
        let request = of_blob("GetBlobProperties", Method::HEAD, object);
        let head = self.send(&request).await?.head;
        let size = content_length(&head)
            .ok_or_else(|| request.unexpected("the response has no length"))?;
        let digest = header_text(&head.headers, CONTENT_MD5).map(str::to_owned);
        Ok((Self::object_head(&head, size), digest))
    }

    /// Deletes a blob, or only this version of it.
    pub(crate) async fn delete(&self, object: &ObjectRef, version: Option<&str>) -> Result<()> {
        let mut request = of_blob("DeleteBlob", Method::DELETE, object)
            .header("x-ms-delete-snapshots", "include")?;
        if let Some(version) = version {
            request = request.header("if-match", version)?;
        }
        if_exists(self.send(&request).await).map(drop)
    }
}
