use std::{collections::BTreeMap, ops::Range, sync::Arc};

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED},
    response::Parts,
};
use md5::{Digest, Md5};

use super::{
    Client, Condition, Inner, Object, ObjectBody, ObjectHead, ObjectHeaders, ObjectRef, Payload,
    error::{ErrorKind, Result},
    http_send::ResponseBody,
    request::{S3Request, SendOutcome},
    stats::Operation,
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
            Condition::IfMatch(etag) => request = request.header("if-match", etag)?,
        }
        let mut request = request.payload(payload.clone());
        request.task_tracker = self.writes.clone();
        let SendOutcome { result, in_doubt } = self.inner.send_with_outcome(&request).await;
        match result {
            Ok(response) => {
                etag(&response.head).ok_or_else(|| request.unexpected("the response has no ETag"))
            }
            Err(error) if in_doubt && *error.kind() == ErrorKind::PreconditionFailed => {
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
        let (head, range, body) = self.inner.open_object(object, range, None).await?;
        let body = ObjectBody::new(
            Arc::clone(&self.inner),
            object.clone(),
            head.etag.clone(),
            range.clone(),
            body,
        );
        Ok(Object { head, range, body })
    }

    /// Returns the headers and metadata of an object.
    pub async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead> {
        let request = S3Request::for_object(Operation::HeadObject, Method::HEAD, object);
        let head = self.inner.send(&request).await?.head;
        let size = length(&head).ok_or_else(|| request.unexpected("the response has no length"))?;
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

impl Inner {
    pub(super) async fn open_object(
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
        let (head, body) = self.open(&request).await?;
        let bounds = if head.status == StatusCode::PARTIAL_CONTENT {
            content_range(&head.headers)
        } else {
            length(&head).map(|length| (0..length, length))
        };
        let (given, size) =
            bounds.ok_or_else(|| request.unexpected("the response has no length"))?;
        let expected = range.map_or(0..size, |range| range.start..range.end.min(size));
        if given != expected {
            return Err(request.unexpected("the service ignored the range"));
        }
        Ok((object_head(&head, size), given, body))
    }
}

pub(super) fn put_headers(request: &mut S3Request<'_>, headers: &ObjectHeaders) -> Result<()> {
    for (name, value) in [
        ("content-type", &headers.content_type),
        ("content-disposition", &headers.content_disposition),
        ("cache-control", &headers.cache_control),
        ("content-encoding", &headers.content_encoding),
        ("x-amz-storage-class", &headers.storage_class),
        ("x-amz-tagging", &headers.tagging),
        ("x-amz-server-side-encryption", &headers.sse),
        (
            "x-amz-server-side-encryption-aws-kms-key-id",
            &headers.sse_kms_key_id,
        ),
        ("x-amz-acl", &headers.acl),
    ] {
        if let Some(value) = value {
            let value = request.header_value(name, value)?;
            request.headers.insert(name, value);
        }
    }
    for (name, value) in &headers.metadata {
        let header =
            HeaderName::from_bytes(format!("{METADATA}{name}").as_bytes()).map_err(|_| {
                request
                    .error(ErrorKind::Other)
                    .with_message(format!("{name:?} is not a valid name of user metadata"))
            })?;
        let value = request.header_value(name, value)?;
        request.headers.insert(header, value);
    }
    Ok(())
}

pub(super) fn etag(head: &Parts) -> Option<String> {
    text(&head.headers, ETAG).filter(|etag| !etag.is_empty())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn length(head: &Parts) -> Option<u64> {
    text(&head.headers, CONTENT_LENGTH)?.parse().ok()
}

fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = text(headers, CONTENT_RANGE)?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

fn object_head(head: &Parts, size: u64) -> ObjectHead {
    let headers = &head.headers;
    let metadata: BTreeMap<_, _> = headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(METADATA)?;
            Some((
                name.to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ))
        })
        .collect();
    ObjectHead {
        size,
        etag: etag(head).unwrap_or_default(),
        modified: text(headers, LAST_MODIFIED)
            .and_then(|text| httpdate::parse_http_date(&text).ok()),
        metadata,
        content_type: text(headers, CONTENT_TYPE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().expect("a value"));
            content_range(&headers)
        };
        assert_eq!(parse("bytes 0-9/443"), Some((0..10, 443)));
        assert_eq!(parse("bytes 442-442/443"), Some((442..443, 443)));
        for text in [
            "bytes 0-443/443",
            "bytes 5-4/9",
            "bytes */443",
            "bytes 0-9/*",
            "0-9/10",
            "",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
