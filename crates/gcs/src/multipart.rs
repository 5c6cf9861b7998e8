//! Multipart uploads whose parts are objects with the names of tusd's chunks. An object has one, which exists as
//! long as it has parts; nothing names it.
//!
//! tusd counts the sizes of all parts that it finds, so there must be none after a missing one:
//!
//! - Parts of an unfinished upload are removed from the last to the first.
//! - After the object was made of them, the first is removed before all others. If there is an object and the first
//!   part is missing, the other parts are remains of a finish. If all are there, a finish was interrupted before
//!   its deletions, and can be repeated.

use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use landfall_objects::{ErrorKind, ObjectHeaders, ObjectRef, Part, Payload, Result};
use serde_json::json;

use crate::{
    address::Address,
    checksum::Checksum,
    client::Inner,
    compose::{COMPOSE, Source, whole},
    names::{PartTag, Pieces, part_key, part_prefix, pieces, temporary_prefix},
    objects::LIST,
    request::{ApiRequest, with_json},
    resource::{FIELDS, Rewrite},
};

pub(crate) const REWRITE: &str = "objects.rewrite";

/// The steps of one rewrite: each copies a GiB or more, unless all is done at once.
const MAX_STEPS: u32 = 10_000;

/// Of the requests for the checksums of parts.
const MAX_CONCURRENCY: usize = 16;

const REWRITE_WORK: u64 = 64 * 1024 * 1024;

impl Inner {
    pub(crate) fn part(
        &self,
        object: &ObjectRef,
        number: u32,
        operation: &'static str,
    ) -> Result<ObjectRef> {
        let invalid = || self.error(operation, object, ErrorKind::InvalidPart);
        let key = part_key(&object.key, number);
        let key = key.ok_or_else(|| invalid().with_message("parts have numbers from 1"))?;
        Ok(ObjectRef::new(&object.bucket, key))
    }

    /// Copies a whole object, whose length is that of the range; `over` is the generation of the part that it replaces.
    pub(crate) async fn rewrite(
        &self,
        part: &ObjectRef,
        source: &ObjectRef,
        range: &Range<u64>,
        over: u64,
    ) -> Result<PartTag> {
        let url = format!(
            "{}/rewriteTo{}",
            self.address.object(source),
            Address::name(&part.bucket, &part.key)
        );
        let fields = format!("done,objectSize,rewriteToken,resource({FIELDS})");
        let mut token: Option<String> = None;
        for _ in 0..MAX_STEPS {
            let request = ApiRequest::new(REWRITE, Method::POST, url.clone(), &part.bucket)
                .about(part)
                .query("fields", &fields)
                .query("ifGenerationMatch", &over.to_string())
                .query_if("rewriteToken", token.as_ref())
                .works(REWRITE_WORK);
            // Without attributes, the part would have those of the source, among them its upload.
            let attributes = json!({"contentType": "application/octet-stream"});
            let request = with_json(request, &attributes)?;
            let step: Rewrite = self.fetch(&request).await?;
            if range.start != 0 || range.end != step.object_size {
                if let Some(made) = step.resource.filter(|_| step.done) {
                    self.delete(part, Some(made.generation)).await?;
                }
                let why = format!(
                    "only whole objects are copied: {source} has {} bytes, not {}..{}",
                    step.object_size, range.start, range.end
                );
                return Err(request.error(ErrorKind::InvalidRange).with_message(why));
            }
            match (step.done, step.resource, step.rewrite_token) {
                (true, Some(made), _) if made.generation != 0 => return Ok(PartTag::from(&made)),
                (false, _, Some(next)) => token = Some(next),
                _ => return Err(request.unexpected("the response has no object and no token")),
            }
        }
        let error = self.error(REWRITE, part, ErrorKind::Other);
        Err(error.with_message("the copy does not end"))
    }

    /// Lists what belongs to an upload besides its file.
    pub(crate) async fn pieces(&self, object: &ObjectRef, with_composites: bool) -> Result<Pieces> {
        let prefix = part_prefix(&object.key);
        // After the digits comes the colon.
        let digits = (!with_composites).then_some(("0", ":"));
        let listed = self.list_all(&object.bucket, &prefix, digits).await?;
        Ok(pieces(&object.key, listed))
    }

    /// Requests the checksums that a listing does not have: those of objects that are encrypted with a key of the
    /// customer (CMEK).
    pub(crate) async fn with_checksums(
        &self,
        object: &ObjectRef,
        parts: Vec<Part>,
    ) -> Result<Vec<Part>> {
        let parts = parts.into_iter().map(|mut part| async move {
            if PartTag::parse(&part.etag).is_some_and(|tag| tag.crc32c.is_none())
                && let Some(found) = self.find(&self.part(object, part.number, LIST)?).await?
            {
                part.size = found.size;
                part.etag = PartTag::from(&found).to_string();
            }
            Ok(part)
        });
        let parts: Vec<_> = parts.collect();
        let parts = stream::iter(parts).buffered(MAX_CONCURRENCY);
        parts.try_collect().await
    }

    /// Makes the object; returns its generation, and the keys of the temporary objects.
    pub(crate) async fn compose_whole(
        &self,
        object: &ObjectRef,
        sources: Vec<Source>,
        headers: &ObjectHeaders,
    ) -> Result<(u64, Vec<String>)> {
        let wanted = whole(&sources);
        if sources.is_empty() {
            let empty = Payload::default();
            let stored = self.insert(object, &empty, headers, Some(0), None).await;
            let generation = self.or_completed(object, wanted, stored.map(|tag| tag.generation));
            return Ok((generation.await?, Vec::new()));
        }
        let temporary = temporary_prefix(&self.prefix, &object.key);
        let reduced = self.reduce(&object.bucket, &temporary, sources).await;
        let (composed, made) = match reduced {
            Ok((sources, made)) => (self.compose(object, &sources, headers, 0).await, made),
            Err(error) => (Err(error), Vec::new()),
        };
        let generation = self.or_completed(object, wanted, composed).await?;
        Ok((generation, made))
    }

    /// Finds the object that an earlier call, or another process, has made of the same bytes.
    async fn or_completed(
        &self,
        object: &ObjectRef,
        wanted: Checksum,
        composed: Result<u64>,
    ) -> Result<u64> {
        let error = match composed {
            Ok(generation) => return Ok(generation),
            Err(error) => error,
        };
        let is_missing = *error.kind() == ErrorKind::NoSuchKey;
        if !is_missing && *error.kind() != ErrorKind::PreconditionFailed {
            return Err(error);
        }
        match self.find(object).await? {
            Some(found) if found.checksum() == Some(wanted) => Ok(found.generation),
            Some(_) => {
                let exists = self.error(COMPOSE, object, ErrorKind::PreconditionFailed);
                Err(exists.with_message("the object exists already, with other bytes"))
            }
            None if is_missing => {
                let invalid = self.error(COMPOSE, object, ErrorKind::InvalidPart);
                Err(invalid.with_message("a part does not exist any more, or was replaced"))
            }
            None => Err(error),
        }
    }

    /// Removes parts of an object that exists, the first one before all others.
    pub(crate) async fn remove_completed(
        &self,
        object: &ObjectRef,
        mut keys: Vec<String>,
    ) -> Result<()> {
        let first = self.part(object, 1, COMPOSE)?;
        if keys.contains(&first.key) {
            self.delete(&first, None).await?;
            keys.retain(|key| *key != first.key);
        }
        let keys: Vec<_> = keys.into_iter().map(|key| (key, None)).collect();
        self.delete_all(&object.bucket, &keys).await
    }
}

/// Returns the keys of all pieces: first what tusd adds to the parts, then the parts from the last to the first.
pub(crate) fn keys_of(object: &ObjectRef, pieces: Pieces) -> Vec<String> {
    let parts = pieces.parts.iter().rev();
    let parts = parts.filter_map(|part| part_key(&object.key, part.number));
    pieces.composites.into_iter().chain(parts).collect()
}
