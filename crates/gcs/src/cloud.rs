//! The calls that a store of uploads makes, as Cloud Storage has them.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use futures_util::join;
use http::{HeaderMap, Method};
use landfall_objects::{
    Cloud, Condition, ErrorKind, ListedObject, Object, ObjectHead, ObjectHeaders, ObjectRef,
    ObjectsPage, PART_WRITER, Part, PartCondition, Payload, Result, Rules, Service as _, Stats,
    read_object, service_time,
};
use tokio_util::task::TaskTracker;

use crate::{
    client::Client,
    compose::{COMPOSE, Source},
    multipart::{REWRITE, keys_of},
    names::{PartTag, is_temporary, part_key, temporary_prefix},
    objects::{INSERT, LIST},
    resource::{Listing, generation, version},
    response::WRITE_INTERVAL,
};

/// The name of every multipart upload, which no request contains.
const MULTIPART: &str = "gcs";

#[async_trait]
impl Cloud for Client {
    fn rules(&self) -> Rules {
        Rules {
            name: "Google Cloud Storage",
            store_type: "gcsstore",
            bucket_field: "Bucket",
            implicit_multipart: true,
            versioned_parts: true,
            write_interval: WRITE_INTERVAL,
            max_copy: u64::MAX,
        }
    }

    fn object_url(&self, object: &ObjectRef) -> String {
        self.inner.address.signed(object)
    }

    fn stats(&self) -> &Stats {
        self.stats()
    }

    async fn put_object(
        &self,
        object: &ObjectRef,
        payload: Payload,
        headers: &ObjectHeaders,
        condition: Condition,
        writes: Option<&TaskTracker>,
    ) -> Result<String> {
        let inner = &self.inner;
        let over = match condition {
            Condition::None => None,
            Condition::IfAbsent => Some(0),
            Condition::IfMatch(version) => {
                // No object has a version of another form.
                let unmet = || inner.error(INSERT, object, ErrorKind::PreconditionFailed);
                Some(generation(&version).ok_or_else(unmet)?)
            }
        };
        let stored = inner
            .insert(object, &payload, headers, over, writes)
            .await?;
        Ok(version(stored.generation))
    }

    async fn get_object(&self, object: &ObjectRef, range: Option<Range<u64>>) -> Result<Object> {
        read_object(&self.inner, object, range).await
    }

    async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead> {
        Ok(self.inner.metadata(object).await?.into_head())
    }

    async fn delete_object(&self, object: &ObjectRef) -> Result<()> {
        self.inner.delete(object, None).await
    }

    async fn delete_version(&self, object: &ObjectRef, version: &str) -> Result<()> {
        let Some(generation) = generation(version) else {
            return Ok(());
        };
        self.inner.delete_if(object, Some(generation)).await
    }

    async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        let (inner, after) = (&self.inner, after.as_deref());
        let request = inner.list_request(bucket, prefix, after, max);
        let response = inner.send(&request).await?;
        let page: Listing =
            serde_json::from_slice(&response.body).map_err(|error| request.unexpected(error))?;
        let objects = page.items.into_iter().map(|one| ListedObject {
            size: one.size,
            modified: one.modified(),
            etag: version(one.generation),
            key: one.name,
        });
        Ok(ObjectsPage {
            objects: objects.collect(),
            next: page.next_page_token.filter(|token| !token.is_empty()),
            time: service_time(&response.head.headers),
        })
    }

    async fn create_multipart(&self, _: &ObjectRef, _: &ObjectHeaders) -> Result<String> {
        Ok(MULTIPART.to_owned())
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        payload: Payload,
        condition: PartCondition<'_>,
    ) -> Result<String> {
        let inner = &self.inner;
        let part = inner.part(object, number, INSERT)?;
        let over = match condition.over {
            None => 0,
            Some(tag) => {
                let unmet = || inner.error(INSERT, &part, ErrorKind::PreconditionFailed);
                PartTag::parse(tag).ok_or_else(unmet)?.generation
            }
        };
        let mut headers = ObjectHeaders::default();
        let writer = condition.writer;
        let writer = writer.map(|writer| (PART_WRITER.to_owned(), writer.to_owned()));
        headers.metadata.extend(writer);
        let stored = inner.insert(&part, &payload, &headers, Some(over), None);
        Ok(stored.await?.to_string())
    }

    async fn copy_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        source: &ObjectRef,
        range: Range<u64>,
    ) -> Result<String> {
        let inner = &self.inner;
        let part = inner.part(object, number, REWRITE)?;
        let copied = match inner.rewrite(&part, source, &range, 0).await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {
                let over = inner.find(&part).await?.map_or(0, |found| found.generation);
                inner.rewrite(&part, source, &range, over).await?
            }
            copied => copied?,
        };
        Ok(copied.to_string())
    }

    async fn list_parts(&self, object: &ObjectRef, _: &str) -> Result<Vec<Part>> {
        let parts = self.inner.pieces(object, false).await?.parts;
        let parts = self.inner.with_checksums(object, parts).await?;
        let has_first = parts.first().is_some_and(|part| part.number == 1);
        if has_first {
            return Ok(parts);
        }
        match self.inner.find(object).await? {
            // The key of an upload `a_0` is also that of the first part of `a`.
            Some(found) if !found.metadata.contains_key(PART_WRITER) => {
                Err(self.inner.error(LIST, object, ErrorKind::NoSuchUpload))
            }
            _ => Ok(parts),
        }
    }

    async fn complete_multipart(
        &self,
        object: &ObjectRef,
        _: &str,
        parts: &[(u32, String)],
        headers: &ObjectHeaders,
    ) -> Result<String> {
        let inner = &self.inner;
        let sources = parts.iter().map(|(number, tag)| {
            let key = inner.part(object, *number, COMPOSE)?.key;
            let source = PartTag::parse(tag).and_then(|tag| Source::new(key, tag));
            source.ok_or_else(|| {
                let invalid = inner.error(COMPOSE, object, ErrorKind::InvalidPart);
                invalid.with_message(format!("the tag of part {number} is invalid"))
            })
        });
        let sources: Vec<_> = sources.collect::<Result<_>>()?;
        // Late parts of a dead process, and remains of an interrupted finish, are removed, too.
        let (composed, pieces) = join!(
            inner.compose_whole(object, sources, headers),
            inner.pieces(object, true)
        );
        let (generation, made) = composed?;
        let removed = match pieces {
            Ok(pieces) => {
                let mut keys = keys_of(object, pieces);
                keys.extend(made);
                inner.remove_completed(object, keys).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            // The object is complete. Another finish, or a sweep, removes the parts.
            tracing::warn!(%error, "failed to remove the parts of a completed object");
        }
        Ok(version(generation))
    }

    async fn abort_multipart(&self, object: &ObjectRef, _: &str) -> Result<()> {
        let inner = &self.inner;
        let temporary = temporary_prefix(&inner.prefix, &object.key);
        let (pieces, made) = join!(
            inner.pieces(object, true),
            inner.list_all(&object.bucket, &temporary, None)
        );
        let mut keys = keys_of(object, pieces?);
        let made = made?.into_iter().map(|one| one.name);
        keys.extend(made.filter(|name| is_temporary(&temporary, name)));
        let keys: Vec<_> = keys.into_iter().map(|key| (key, None)).collect();
        inner.delete_in_order(&object.bucket, &keys).await
    }

    async fn remove_parts(
        &self,
        object: &ObjectRef,
        _: &str,
        parts: &[(u32, String)],
    ) -> Result<()> {
        let deletion = |(number, tag): &(u32, String)| {
            let generation = PartTag::parse(tag)?.generation;
            Some((part_key(&object.key, *number)?, Some(generation)))
        };
        let deletions: Vec<_> = parts.iter().rev().filter_map(deletion).collect();
        self.inner.delete_in_order(&object.bucket, &deletions).await
    }

    async fn presign_download(
        &self,
        object: &ObjectRef,
        content_type: &str,
        content_disposition: &str,
        lifetime: Duration,
    ) -> Result<String> {
        let query = [
            ("response-content-disposition", content_disposition),
            ("response-content-type", content_type),
        ];
        let none = HeaderMap::new();
        self.presign(Method::GET, object, &query, &none, lifetime)
            .await
    }
}
