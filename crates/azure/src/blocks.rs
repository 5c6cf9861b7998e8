//! The calls on blocks, which are the parts of an upload. A blob exists only after its blocks are committed.
//!
//! There is one list of uncommitted blocks for a blob, which nothing names, so the id of a multipart upload is a
//! constant. A block of one byte, the sentinel, marks the blob as unfinished; tusd stages the same one.

use bytes::Bytes;
use http::Method;
use landfall_objects::{
    Cloud as _, ErrorKind, OWNER, ObjectHead, ObjectHeaders, ObjectRef, Part, Payload, Result,
    Service as _, if_exists,
};

use crate::{
    block::Block,
    client::AzureClient,
    request::{BlobRequest, Extra, of_blob},
    xml::{self, BlockList},
};

impl AzureClient {
    /// Lists the parts of an unfinished blob, in the order of their numbers; `None` if nothing was staged.
    ///
    /// tusd takes any uncommitted block for a sign of an unfinished upload. Where there is a blob, too, this takes the
    /// sentinel for it: without one, the blocks are late ones of a process that did not know of the commit. A sentinel
    /// alone is late, too, where the blob is of an upload of ours. (In Azurite, it outlives the write of a blob.)
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`]: the blocks were committed; [`ErrorKind::Other`]: there are blocks of another
    /// program.
    pub(crate) async fn staged(&self, object: &ObjectRef) -> Result<Option<Vec<Part>>> {
        let (request, list) = self.block_list(object).await?;
        let Some(list) = list else {
            return Ok(None);
        };
        let mut parts = Vec::with_capacity(list.uncommitted.blocks.len());
        let mut has_sentinel = false;
        for block in list.uncommitted.blocks {
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
        let is_unfinished = match list.committed.blocks.is_empty() {
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

    /// Returns whether there is a blob that was made of an upload by this program.
    async fn is_of_upload(&self, object: &ObjectRef) -> Result<bool> {
        let head = if_exists(self.head_object(object).await)?;
        Ok(head.is_some_and(|head| head.metadata.contains_key(OWNER)))
    }

    pub(crate) async fn put_block(
        &self,
        object: &ObjectRef,
        block: Block,
        payload: Payload,
    ) -> Result<()> {
        let request = of_blob("PutBlock", Method::PUT, object)
            .query("comp", "block")
            .query("blockid", &block.id())
            .with(Extra::Verified);
        if payload.is_empty() {
            // The service refuses it; its emulator does not.
            let message = "a block must have a byte";
            return Err(request.error(ErrorKind::InvalidPart).with_message(message));
        }
        self.inner.send(&request.payload(payload)).await.map(drop)
    }

    pub(crate) async fn put_sentinel(&self, object: &ObjectRef) -> Result<()> {
        let sentinel = Payload::from(Bytes::from_static(&[0]));
        self.put_block(object, Block::Sentinel, sentinel).await
    }

    /// Returns the blocks of a blob; `None` if there is neither a blob nor a block.
    pub(crate) async fn block_list<'a>(
        &self,
        object: &'a ObjectRef,
    ) -> Result<(BlobRequest<'a>, Option<BlockList>)> {
        let request = of_blob("GetBlockList", Method::GET, object)
            .query("comp", "blocklist")
            .query("blocklisttype", "all");
        match if_exists(self.inner.send(&request).await)? {
            Some(response) => {
                let list = xml::parse(&response.body);
                let list = list.map_err(|error| request.unexpected(error))?;
                Ok((request, Some(list)))
            }
            None => Ok((request, None)),
        }
    }

    pub(crate) fn block(&self, object: &ObjectRef, number: u32) -> Result<Block> {
        Block::of_part(number).ok_or_else(|| {
            let request = of_blob("PutBlock", Method::PUT, object);
            let message = format!("there is no part {number}");
            request.error(ErrorKind::InvalidPart).with_message(message)
        })
    }
}

/// Sizes tell whether a block is the planned one.
pub(crate) fn tag(size: u64) -> String {
    size.to_string()
}

pub(crate) fn commit(object: &ObjectRef, ids: Vec<String>) -> Result<BlobRequest<'_>> {
    let body = xml::commit(ids.into_iter());
    of_blob("PutBlockList", Method::PUT, object)
        .query("comp", "blocklist")
        .header("if-none-match", "*")?
        .text("application/xml", body)
}

/// Returns whether a blob is the result of a commit.
///
/// If no upload is named, this takes a lost response for a sign of it.
pub(crate) fn is_made_of(
    head: &ObjectHead,
    size: u64,
    headers: &ObjectHeaders,
    in_doubt: bool,
) -> bool {
    let is_ours = match headers.metadata.get(OWNER) {
        Some(owner) => head.metadata.get(OWNER) == Some(owner),
        None => in_doubt,
    };
    is_ours && head.size == size
}
