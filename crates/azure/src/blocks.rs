//! The calls on blocks, which are the parts of an upload. A blob exists only after its blocks are committed.
//!
//! There is one list of uncommitted blocks for a blob, which nothing names, so the id of a multipart upload is a
//! constant. A block of one byte, the sentinel, marks the blob as unfinished; tusd stages the same one.

use std::ops::Range;

use bytes::Bytes;
use http::Method;
use landfall_objects::{
    ErrorKind, OWNER, ObjectHead, ObjectHeaders, ObjectRef, Part, Payload, Result, if_exists,
};

use crate::{
    block::Block,
    client::AzureClient,
    metadata::blob_headers,
    request::BlobRequest,
    xml::{self, BlockList},
};

/// The id of every multipart upload; it is not stored.
const MULTIPART: &str = "blocks";

/// Metadata of an empty blob that exists only to drop blocks.
const ABORTED: &str = "landfall-aborted";

/// Blocks of a blob, at most.
const MAX_BLOCKS: usize = 50_000;

/// The most bytes of a copy that extend its timeout.
const MAX_TIMEOUT_BYTES: u64 = 64 * 1024 * 1024;

impl AzureClient {
    /// Marks a blob as unfinished and returns the id of its multipart upload. Headers are set by the commit.
    pub async fn create_multipart(&self, object: &ObjectRef) -> Result<String> {
        let sentinel = Payload::from(Bytes::from_static(&[0]));
        self.put_block(object, Block::Sentinel, sentinel).await?;
        Ok(MULTIPART.to_owned())
    }

    /// Stages the block of part `number` (from 1), in place of one with the same number, and returns its tag, which
    /// is its size. The service verifies its checksum.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidPart`] for a part without bytes, and others.
    pub async fn upload_part(
        &self,
        object: &ObjectRef,
        number: u32,
        payload: Payload,
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
    pub async fn copy_part(
        &self,
        object: &ObjectRef,
        number: u32,
        source: &ObjectRef,
        range: Range<u64>,
    ) -> Result<String> {
        let size = range.end.saturating_sub(range.start);
        let block = self.block(object, number)?;
        let request = BlobRequest::of_blob("PutBlockFromURL", Method::PUT, object)
            .query("comp", "block")
            .query("blockid", &block.id())
            .range("x-ms-source-range", &range)?
            .copies(source, size.min(MAX_TIMEOUT_BYTES));
        self.inner.send(&request).await?;
        Ok(tag(size))
    }

    /// Lists the parts of an unfinished blob, in the order of their numbers; none if nothing was staged.
    ///
    /// tusd takes any uncommitted block for a sign of an unfinished upload. Where there is a blob, too, this takes the
    /// sentinel for it: without one, the blocks are late ones of a process that did not know of the commit. A sentinel
    /// alone is late, too, where the blob is of an upload of ours. (In Azurite, it outlives the write of a blob.)
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`]: the blocks were committed; [`ErrorKind::Other`]: there are blocks of another
    /// program.
    pub async fn list_parts(&self, object: &ObjectRef) -> Result<Vec<Part>> {
        Ok(self.staged(object).await?.unwrap_or_default())
    }

    /// Like [`list_parts`](Self::list_parts); `None` if nothing was staged.
    async fn staged(&self, object: &ObjectRef) -> Result<Option<Vec<Part>>> {
        let (request, list) = self.block_list(object).await?;
        let Some(list) = list else {
            return Ok(None);
        };
        let mut parts = Vec::with_capacity(list.uncommitted.len());
        let mut has_sentinel = false;
        for block in list.uncommitted {
            match Block::from_id(&block.id) {
                Some(Block::Sentinel) => has_sentinel = true,
                Some(Block::Part(number)) => parts.push(Part {
                    number,
                    size: block.size,
                    etag: tag(block.size),
                    modified: None,
                    writer: None,
                }),
                None => {
                    let message = "the blob has blocks of another program";
                    return Err(request.error(ErrorKind::Other).with_message(message));
                }
            }
        }
        let is_unfinished = match list.committed.is_empty() {
            // A list without any block is of a blob that was committed empty, or not by blocks.
            true => has_sentinel || !parts.is_empty(),
            false => has_sentinel,
        };
        let is_late = is_unfinished && parts.is_empty() && self.is_of_upload(object).await?;
        if !is_unfinished || is_late {
            return Err(request.error(ErrorKind::NoSuchUpload));
        }
        parts.sort_unstable_by_key(|part| part.number);
        Ok(Some(parts))
    }

    /// Commits these parts, pairs of number and tag, and returns the entity tag of the blob. Blocks that are not
    /// among them vanish. An existing blob is not replaced.
    ///
    /// The call is idempotent: it succeeds if the blob has this size and, in its metadata, the same upload.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] if there is another blob, [`ErrorKind::InvalidPart`] if a block is missing,
    /// [`ErrorKind::EntityTooLarge`], and others.
    pub async fn complete_multipart(
        &self,
        object: &ObjectRef,
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
        if parts.len() > MAX_BLOCKS {
            let message = format!(
                "{} parts are more than the {MAX_BLOCKS} that a blob may have",
                parts.len()
            );
            return Err(request
                .error(ErrorKind::EntityTooLarge)
                .with_message(message));
        }
        if let Some(tier) = self.inner.tier {
            request = request.header("x-ms-access-tier", tier.name())?;
        }
        let error = match self.inner.send(&request).await {
            Ok(response) => return request.version(&response),
            Err(error) => error,
        };
        if !matches!(
            error.kind(),
            ErrorKind::PreconditionFailed | ErrorKind::InvalidPart
        ) {
            return Err(error);
        }
        match self.head_object(object).await {
            Ok(head) if is_made_of(&head, size, headers, error.is_in_doubt()) => Ok(head.etag),
            _ => Err(error),
        }
    }

    /// Drops all blocks without a commit. None is no error, and a blob is never deleted.
    ///
    /// The service has no such call: an empty blob is committed, which drops them, and deleted.
    pub async fn abort_multipart(&self, object: &ObjectRef) -> Result<()> {
        let (_, list) = self.block_list(object).await?;
        let Some(list) = list else {
            return Ok(());
        };
        if !list.committed.is_empty() {
            return Ok(());
        }
        let mut headers = ObjectHeaders::default();
        headers.metadata.insert(ABORTED.to_owned(), "1".to_owned());
        let request = commit(object, Vec::new())?.headers(blob_headers(&headers));
        let version = if list.uncommitted.is_empty() {
            None
        } else {
            match self.inner.send(&request).await {
                Ok(response) => Some(request.version(&response)?),
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

    /// Keeps the blocks of an unfinished blob, which the service drops a week after the last one was staged. Does
    /// nothing if there is none.
    pub async fn keep_parts(&self, object: &ObjectRef) -> Result<()> {
        match self.staged(object).await {
            Ok(Some(_)) => self.create_multipart(object).await.map(drop),
            Err(error) if *error.kind() != ErrorKind::NoSuchUpload => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns whether there is a blob that was made of an upload by this program.
    async fn is_of_upload(&self, object: &ObjectRef) -> Result<bool> {
        let head = if_exists(self.head_object(object).await)?;
        Ok(head.is_some_and(|head| head.metadata.contains_key(OWNER)))
    }

    async fn put_block(&self, object: &ObjectRef, block: Block, payload: Payload) -> Result<()> {
        let request = BlobRequest::of_blob("PutBlock", Method::PUT, object)
            .query("comp", "block")
            .query("blockid", &block.id())
            .verified();
        if payload.is_empty() {
            // The service refuses it; its emulator does not.
            let message = "a block must have a byte";
            return Err(request.error(ErrorKind::InvalidPart).with_message(message));
        }
        self.inner.send(&request.payload(payload)).await.map(drop)
    }

    /// Returns the blocks of a blob; `None` if there is neither a blob nor a block.
    async fn block_list<'a>(
        &self,
        object: &'a ObjectRef,
    ) -> Result<(BlobRequest<'a>, Option<BlockList>)> {
        let request = BlobRequest::of_blob("GetBlockList", Method::GET, object)
            .query("comp", "blocklist")
            .query("blocklisttype", "all");
        match if_exists(self.inner.send(&request).await)? {
            Some(response) => {
                let list = xml::block_list(&response.body);
                let list = list.map_err(|error| request.unexpected(error))?;
                Ok((request, Some(list)))
            }
            None => Ok((request, None)),
        }
    }

    fn block(&self, object: &ObjectRef, number: u32) -> Result<Block> {
        Block::of_part(number).ok_or_else(|| {
            let request = BlobRequest::of_blob("PutBlock", Method::PUT, object);
            let message = format!("there is no part {number}");
            request.error(ErrorKind::InvalidPart).with_message(message)
        })
    }
}

/// Sizes tell whether a block is the planned one.
fn tag(size: u64) -> String {
    size.to_string()
}

fn commit(object: &ObjectRef, ids: Vec<String>) -> Result<BlobRequest<'_>> {
    let body = xml::commit(ids.into_iter());
    BlobRequest::of_blob("PutBlockList", Method::PUT, object)
        .query("comp", "blocklist")
        .header("if-none-match", "*")?
        .header("content-type", "application/xml")
        .map(|request| request.payload(Payload::from(Bytes::from(body))))
}

/// Returns whether a blob is the result of a commit.
///
/// If no upload is named, this takes a lost response for a sign of it.
fn is_made_of(head: &ObjectHead, size: u64, headers: &ObjectHeaders, in_doubt: bool) -> bool {
    let is_ours = match headers.metadata.get(OWNER) {
        Some(owner) => head.metadata.get(OWNER) == Some(owner),
        None => in_doubt,
    };
    is_ours && head.size == size
}
