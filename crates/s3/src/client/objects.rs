//! Operations of S3 alone on objects and buckets.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Method};
use landfall_objects::{Cloud as _, Service as _};
use md5::{Digest, Md5};

use super::{
    Client, Condition, CorsRule, ErrorKind, ObjectHeaders, ObjectRef, Payload, Result,
    operation::Operation,
    request::{METADATA, S3Request, signed, to_bucket, to_object},
    xml,
};

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
        let mut request = to_object(Operation::PutObject, Method::PUT, object);
        put_headers(&mut request, headers)?;
        match &condition {
            Condition::None => {}
            Condition::IfAbsent => request = request.header("if-none-match", "*")?,
            Condition::IfMatch(etag) if self.uses_unquoted_if_match() => {
                request = request.header("if-match", etag.trim_matches('"'))?;
            }
            Condition::IfMatch(etag) => request = request.header("if-match", etag)?,
        }
        let request = request.payload(payload.clone()).tasks(self.writes.as_ref());
        match self.inner.send(&request).await {
            Ok(response) => request.etag(&response),
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

impl Client {
    /// Checks that the bucket exists and is accessible.
    pub async fn head_bucket(&self, bucket: &str) -> Result<()> {
        let request = to_bucket(Operation::HeadBucket, Method::HEAD, bucket);
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
        let request = to_bucket(Operation::GetBucketCors, Method::GET, bucket).query("cors", "");
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
        let request = to_bucket(Operation::PutBucketCors, Method::PUT, bucket)
            .query("cors", "")
            .header("content-type", "application/xml")?
            .header("content-md5", &STANDARD.encode(Md5::digest(&body)))?
            .payload(signed(body));
        self.inner.send(&request).await.map(drop)
    }
}
