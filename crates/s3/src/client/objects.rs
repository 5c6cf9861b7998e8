//! Calls on single objects.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED},
    response::Parts,
};
use md5::{Digest, Md5};

use super::{
    Client, Condition, Inner, Object, ObjectBody, ObjectHead, ObjectHeaders, Payload, Place,
    call::{Call, Outcome},
    error::{ErrorKind, Result},
    sign::hex,
    stats::Operation,
    transport::AnswerBody,
};

const METADATA: &str = "x-amz-meta-";

impl Client {
    /// Writes an object in one request and returns its entity tag.
    ///
    /// A conditional write whose answer was lost meets its own effect when it is tried again. The
    /// object that is there is then compared with `payload` by its entity tag, and if it is the same
    /// the write has succeeded; so what several writers contend with should differ from writer to
    /// writer. Where entity tags are no MD5 (SSE-KMS), such a write is reported as
    /// [`ErrorKind::PreconditionFailed`] although it happened.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] if `condition` doesn't hold, and others.
    pub async fn put_object(
        &self,
        place: &Place,
        payload: Payload,
        object: &ObjectHeaders,
        condition: Condition,
    ) -> Result<String> {
        let mut call = Call::new(
            Operation::PutObject,
            Method::PUT,
            &place.bucket,
            Some(&place.key),
        );
        put_headers(&mut call, object)?;
        match &condition {
            Condition::None => {}
            Condition::IfAbsent => call = call.header("if-none-match", "*")?,
            Condition::IfMatch(etag) => call = call.header("if-match", etag)?,
        }
        let call = call.payload(payload.clone());
        let Outcome { result, unsure } = self.inner.call_unsure(&call).await;
        match result {
            Ok(answer) => etag(&answer.head).ok_or_else(|| call.nonsense("the answer has no ETag")),
            Err(error) if unsure && *error.kind() == ErrorKind::PreconditionFailed => {
                let mut md5 = Md5::new();
                payload.chunks().for_each(|chunk| md5.update(chunk));
                let ours = hex(&md5.finalize());
                match self.head_object(place).await {
                    Ok(head) if head.etag.trim_matches('"') == ours => Ok(head.etag),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Begins to read an object, or the bytes `range` of it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`], [`ErrorKind::InvalidRange`] (also for an empty `range`) and others.
    pub async fn get_object(&self, place: &Place, range: Option<Range<u64>>) -> Result<Object> {
        let (head, range, body) = self.inner.open_object(place, range, None).await?;
        let body = ObjectBody::new(
            Arc::clone(&self.inner),
            place.clone(),
            head.etag.clone(),
            range.clone(),
            body,
        );
        Ok(Object { head, range, body })
    }

    /// What the service tells about an object without its bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`] and others.
    pub async fn head_object(&self, place: &Place) -> Result<ObjectHead> {
        let call = Call::new(
            Operation::HeadObject,
            Method::HEAD,
            &place.bucket,
            Some(&place.key),
        );
        let head = self.inner.call(&call).await?.head;
        let size = length(&head).ok_or_else(|| call.nonsense("the answer has no length"))?;
        Ok(object_head(&head, size))
    }

    /// Removes an object. One that isn't there is no error.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub async fn delete_object(&self, place: &Place) -> Result<()> {
        let call = Call::new(
            Operation::DeleteObject,
            Method::DELETE,
            &place.bucket,
            Some(&place.key),
        );
        match self.inner.call(&call).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(()),
            result => result.map(drop),
        }
    }
}

impl Inner {
    /// Opens an object; with `etag`, only that version of it. The range given back is the one that
    /// the body has.
    pub(super) async fn open_object(
        &self,
        place: &Place,
        range: Option<Range<u64>>,
        etag: Option<&str>,
    ) -> Result<(ObjectHead, Range<u64>, AnswerBody)> {
        let mut call = Call::new(
            Operation::GetObject,
            Method::GET,
            &place.bucket,
            Some(&place.key),
        );
        if let Some(Range { start, end }) = &range {
            if start >= end {
                let message = format!("the range {start}..{end} is empty");
                return Err(call.error(ErrorKind::InvalidRange).with_message(message));
            }
            call = call.header("range", &format!("bytes={start}-{}", end - 1))?;
        }
        if let Some(etag) = etag {
            call = call.header("if-match", etag)?;
        }
        let (head, body) = self.open(&call).await?;
        let bounds = if head.status == StatusCode::PARTIAL_CONTENT {
            content_range(&head.headers)
        } else {
            length(&head).map(|length| (0..length, length))
        };
        let (given, size) =
            bounds.ok_or_else(|| call.nonsense("the answer doesn't tell its length"))?;
        let asked = range.map_or(0..size, |range| range.start..range.end.min(size));
        if given != asked {
            return Err(call.nonsense("the service ignored the range"));
        }
        Ok((object_head(&head, size), given, body))
    }
}

/// Adds the headers of an object that is to be written.
pub(super) fn put_headers(call: &mut Call<'_>, object: &ObjectHeaders) -> Result<()> {
    for (name, value) in [
        ("content-type", &object.content_type),
        ("content-disposition", &object.content_disposition),
        ("cache-control", &object.cache_control),
        ("content-encoding", &object.content_encoding),
        ("x-amz-storage-class", &object.storage_class),
        ("x-amz-tagging", &object.tagging),
        ("x-amz-server-side-encryption", &object.sse),
        (
            "x-amz-server-side-encryption-aws-kms-key-id",
            &object.sse_kms_key_id,
        ),
        ("x-amz-acl", &object.acl),
    ] {
        if let Some(value) = value {
            let value = call.header_value(name, value)?;
            call.headers.insert(name, value);
        }
    }
    for (name, value) in &object.metadata {
        let header =
            HeaderName::from_bytes(format!("{METADATA}{name}").as_bytes()).map_err(|_| {
                call.error(ErrorKind::Other)
                    .with_message(format!("{name:?} can't be the name of user metadata"))
            })?;
        let value = call.header_value(name, value)?;
        call.headers.insert(header, value);
    }
    Ok(())
}

/// The entity tag of an answer.
pub(super) fn etag(head: &Parts) -> Option<String> {
    text(&head.headers, ETAG).filter(|etag| !etag.is_empty())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn length(head: &Parts) -> Option<u64> {
    text(&head.headers, CONTENT_LENGTH)?.parse().ok()
}

/// `bytes FIRST-LAST/SIZE`
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
