//! The operations on objects and buckets.

use std::ops::Range;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderName, Method,
    header::{CONTENT_TYPE, ETAG},
    response::Parts,
};
use md5::{Digest, Md5};

use landfall_objects::{
    Caller, IdleObjects, OpenObjects, ResponseBody, body_range, content_length, header_text,
    modified, read_object, service_time,
};

use super::{
    Client, Condition, CorsRule, ErrorKind, Inner, Object, ObjectHead, ObjectHeaders, ObjectRef,
    ObjectsPage, Payload, Result, operation::Operation, request::S3Request, xml,
};

const METADATA: &str = "x-amz-meta-";

impl Client {
    /// Writes an object in one request and returns its entity tag.
    ///
    /// The retry of a conditional write whose response was lost finds the object of the first
    /// attempt. If its entity tag matches `payload`, the write has succeeded; so concurrent writers
    /// should write different bytes. Where entity tags are not MD5 digests (SSE-KMS), such a write
    /// fails with [`ErrorKind::PreconditionFailed`] although it took effect.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] if `condition` is not met, and others.
    pub async fn put_object(
        &self,
        object: &ObjectRef,
        payload: Payload,
        headers: &ObjectHeaders,
        condition: Condition,
    ) -> Result<String> {
        let mut request = S3Request::for_object(Operation::PutObject, Method::PUT, object);
        put_headers(&mut request, headers)?;
        match &condition {
            Condition::None => {}
            Condition::IfAbsent => request = request.header("if-none-match", "*")?,
            Condition::IfMatch(etag) if self.uses_unquoted_if_match() => {
                request = request.header("if-match", etag.trim_matches('"'))?;
            }
            Condition::IfMatch(etag) => request = request.header("if-match", etag)?,
        }
        let mut request = request.payload(payload.clone());
        request.task_tracker = self.writes.clone();
        match self.inner.send(&request).await {
            Ok(response) => {
                etag(&response.head).ok_or_else(|| request.unexpected("the response has no ETag"))
            }
            Err(error) if error.is_in_doubt() && *error.kind() == ErrorKind::PreconditionFailed => {
                let mut md5 = Md5::new();
                payload.chunks().for_each(|chunk| md5.update(chunk));
                let ours = hex::encode(md5.finalize());
                match self.head_object(object).await {
                    Ok(head) if head.etag.trim_matches('"') == ours => Ok(head.etag),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Opens an object, or a range of it, for reading.
    pub async fn get_object(
        &self,
        object: &ObjectRef,
        range: Option<Range<u64>>,
    ) -> Result<Object> {
        read_object(&self.inner, object, range).await
    }

    /// Returns the headers and metadata of an object.
    pub async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead> {
        let request = S3Request::for_object(Operation::HeadObject, Method::HEAD, object);
        let head = self.inner.send(&request).await?.head;
        let size = content_length(&head)
            .ok_or_else(|| request.unexpected("the response has no length"))?;
        Ok(object_head(&head, size))
    }

    /// Deletes an object. A missing one is not an error.
    pub async fn delete_object(&self, object: &ObjectRef) -> Result<()> {
        let request = S3Request::for_object(Operation::DeleteObject, Method::DELETE, object);
        match self.inner.send(&request).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(()),
            result => result.map(drop),
        }
    }
}

#[async_trait]
impl OpenObjects for Inner {
    const OPERATION: &'static str = Operation::GetObject.name();

    async fn open(
        &self,
        object: &ObjectRef,
        range: Option<Range<u64>>,
        etag: Option<&str>,
    ) -> Result<(ObjectHead, Range<u64>, ResponseBody)> {
        let mut request = S3Request::for_object(Operation::GetObject, Method::GET, object);
        if let Some(range) = &range {
            request = request.range("range", range)?;
        }
        if let Some(etag) = etag {
            request = request.header("if-match", etag)?;
        }
        let (head, body) = self.open_body(&request).await?;
        let (given, size) = body_range(&head, range).map_err(|why| request.unexpected(why))?;
        Ok((object_head(&head, size), given, body))
    }

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn idle_objects(&self) -> &IdleObjects {
        &self.idle_objects
    }
}

pub(super) fn put_headers(request: &mut S3Request<'_>, headers: &ObjectHeaders) -> Result<()> {
    for (name, value) in headers.pairs() {
        let value = request.header_value(name, value)?;
        request.headers.insert(name, value);
    }
    for (name, value) in &headers.metadata {
        let header = HeaderName::from_bytes(format!("{METADATA}{name}").as_bytes());
        let header = header.map_err(|_| {
            let why = format!("{name:?} is not a valid name of user metadata");
            request.error(ErrorKind::Other).with_message(why)
        })?;
        let value = request.header_value(name, value)?;
        request.headers.insert(header, value);
    }
    Ok(())
}

pub(super) fn etag(head: &Parts) -> Option<String> {
    header_text(&head.headers, ETAG).map(str::to_owned)
}

fn object_head(head: &Parts, size: u64) -> ObjectHead {
    let headers = &head.headers;
    let metadata = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(METADATA)?;
        let value = String::from_utf8_lossy(value.as_bytes());
        Some((name.to_owned(), value.into_owned()))
    });
    ObjectHead {
        size,
        etag: etag(head).unwrap_or_default(),
        modified: modified(headers),
        metadata: metadata.collect(),
        content_type: header_text(headers, CONTENT_TYPE).map(str::to_owned),
    }
}

impl Client {
    /// Lists up to `max` objects (at most 1,000) whose keys begin with `prefix`.
    ///
    /// `after` is `next` of the previous page.
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        let mut request = S3Request::new(Operation::ListObjectsV2, Method::GET, bucket, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", &max.to_string());
        if !prefix.is_empty() {
            request = request.query("prefix", prefix);
        }
        if let Some(token) = after {
            request = request.query("continuation-token", &token);
        }
        let response = self.inner.send(&request).await?;
        let mut page = xml::objects(&response.body).map_err(|error| request.unexpected(error))?;
        page.time = service_time(&response.head.headers);
        Ok(page)
    }

    /// Checks that the bucket exists and is accessible.
    pub async fn head_bucket(&self, bucket: &str) -> Result<()> {
        let request = S3Request::new(Operation::HeadBucket, Method::HEAD, bucket, None);
        let Err(error) = self.inner.send(&request).await else {
            return Ok(());
        };
        match error.kind() {
            ErrorKind::Unavailable { .. } | ErrorKind::NoSuchBucket => Err(error),
            _ if error.status().is_none() => Err(error),
            _ => self.list_objects(bucket, "", None, 1).await.map(drop),
        }
    }

    /// Returns the bucket's CORS rules; `None` if it has none.
    pub async fn bucket_cors(&self, bucket: &str) -> Result<Option<Vec<CorsRule>>> {
        let request =
            S3Request::new(Operation::GetBucketCors, Method::GET, bucket, None).query("cors", "");
        match self.inner.send(&request).await {
            Ok(response) => {
                let rules = xml::cors(&response.body).map_err(|error| request.unexpected(error))?;
                Ok(Some(rules))
            }
            Err(error) if error.code() == Some("NoSuchCORSConfiguration") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the bucket's CORS rules.
    pub async fn set_bucket_cors(&self, bucket: &str, rules: &[CorsRule]) -> Result<()> {
        let body = xml::cors_configuration(rules);
        let request = S3Request::new(Operation::PutBucketCors, Method::PUT, bucket, None)
            .query("cors", "")
            .header("content-type", "application/xml")?
            .header("content-md5", &STANDARD.encode(Md5::digest(&body)))?
            .text(body);
        self.inner.send(&request).await.map(drop)
    }
}
