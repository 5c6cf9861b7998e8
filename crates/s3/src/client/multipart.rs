//! Calls on multipart uploads.

use std::ops::Range;

use http::Method;
use md5::{Digest, Md5};

use super::{
    Client, MultipartsPage, ObjectHeaders, PartsPage, Payload, Place,
    call::{Call, Outcome},
    encode,
    error::{ErrorKind, Result},
    objects::{etag, put_headers},
    sign::hex,
    stats::Operation,
    xml,
};

/// What copying and completing may count as at most, in bytes, when it comes to waiting.
const LARGEST_EFFORT: u64 = 64 * 1024 * 1024;

fn call<'a>(operation: Operation, method: Method, place: &'a Place) -> Call<'a> {
    Call::new(operation, method, &place.bucket, Some(&place.key))
}

impl Client {
    /// Begins a multipart upload of an object and returns the service's id for it.
    ///
    /// # Errors
    /// [`Error`](super::Error), as for every call. A retry after a lost answer may leave a second,
    /// empty multipart upload behind.
    pub async fn create_multipart(&self, place: &Place, object: &ObjectHeaders) -> Result<String> {
        let mut call =
            call(Operation::CreateMultipartUpload, Method::POST, place).query("uploads", "");
        put_headers(&mut call, object)?;
        let answer = self.inner.call(&call).await?;
        xml::upload_id(&answer.body).map_err(|error| call.nonsense(error))
    }

    /// Uploads part `number` (1 to 10,000), in place of an earlier one with that number, and returns
    /// its entity tag.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`] and others.
    pub async fn upload_part(
        &self,
        place: &Place,
        upload_id: &str,
        number: u32,
        payload: Payload,
    ) -> Result<String> {
        let call = call(Operation::UploadPart, Method::PUT, place)
            .query("partNumber", &number.to_string())
            .query("uploadId", upload_id)
            .payload(payload);
        let answer = self.inner.call(&call).await?;
        etag(&answer.head).ok_or_else(|| call.nonsense("the answer has no ETag"))
    }

    /// Makes part `number` of the bytes `range` of `source`, or of all of it, inside of the service,
    /// and returns its entity tag.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`], [`ErrorKind::NoSuchKey`] if there is no source, and others.
    pub async fn upload_part_copy(
        &self,
        place: &Place,
        upload_id: &str,
        number: u32,
        source: &Place,
        range: Option<Range<u64>>,
    ) -> Result<String> {
        let from = encode::path(&format!("{}/{}", source.bucket, source.key));
        let mut call = call(Operation::UploadPartCopy, Method::PUT, place)
            .query("partNumber", &number.to_string())
            .query("uploadId", upload_id)
            .header("x-amz-copy-source", &from)?;
        let mut effort = LARGEST_EFFORT;
        if let Some(Range { start, end }) = range {
            if start >= end {
                let message = format!("the range {start}..{end} is empty");
                return Err(call.error(ErrorKind::InvalidRange).with_message(message));
            }
            effort = effort.min(end - start);
            let range = format!("bytes={start}-{}", end - 1);
            call = call.header("x-amz-copy-source-range", &range)?;
        }
        let call = call.working(effort);
        let answer = self.inner.call(&call).await?;
        xml::copied_etag(&answer.body).map_err(|error| call.nonsense(error))
    }

    /// Lists parts with numbers above `after`, up to a thousand.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`] and others.
    pub async fn list_parts(
        &self,
        place: &Place,
        upload_id: &str,
        after: u32,
    ) -> Result<PartsPage> {
        let mut call = call(Operation::ListParts, Method::GET, place).query("uploadId", upload_id);
        if after > 0 {
            call = call.query("part-number-marker", &after.to_string());
        }
        let answer = self.inner.call(&call).await?;
        xml::parts(&answer.body, after).map_err(|error| call.nonsense(error))
    }

    /// Makes the object of these parts (number and entity tag, in the order of their numbers), and
    /// returns its entity tag.
    ///
    /// It may be called again: if the multipart upload is gone because it was completed before, and
    /// the object that is there has the entity tag that these parts give, that is success. Where
    /// entity tags are no MD5 (SSE-KMS), that holds only for a lost answer within one call, and for
    /// an object that has the number of parts in its entity tag.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`], [`ErrorKind::EntityTooSmall`] and others.
    pub async fn complete_multipart(
        &self,
        place: &Place,
        upload_id: &str,
        parts: &[(u32, String)],
    ) -> Result<String> {
        let call = call(Operation::CompleteMultipartUpload, Method::POST, place)
            .query("uploadId", upload_id)
            .header("content-type", "application/xml")?
            .text(xml::complete(parts))
            .working(LARGEST_EFFORT / 2);
        let Outcome { result, unsure } = self.inner.call_unsure(&call).await;
        let error = match result {
            Ok(answer) => match xml::completed(&answer.body) {
                Ok(etag) => return Ok(etag),
                Err(_) => return Ok(self.head_object(place).await?.etag),
            },
            Err(error) => error,
        };
        if *error.kind() != ErrorKind::NoSuchUpload {
            return Err(error);
        }
        match self.head_object(place).await {
            Ok(head) if is_made_of(&head.etag, parts, unsure) => Ok(head.etag),
            _ => Err(error),
        }
    }

    /// Drops a multipart upload and its parts. One that isn't there (any more) is no error.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub async fn abort_multipart(&self, place: &Place, upload_id: &str) -> Result<()> {
        let call = call(Operation::AbortMultipartUpload, Method::DELETE, place)
            .query("uploadId", upload_id);
        match self.inner.call(&call).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(()),
            result => result.map(drop),
        }
    }

    /// Lists up to `max` (at most a thousand) unfinished multipart uploads whose key begins with
    /// `prefix`, after the pair of key and upload id `after`.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub async fn list_multiparts(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, String)>,
        max: u32,
    ) -> Result<MultipartsPage> {
        let mut call = Call::new(Operation::ListMultipartUploads, Method::GET, bucket, None)
            .query("uploads", "")
            .query("encoding-type", "url")
            .query("max-uploads", &max.to_string());
        if !prefix.is_empty() {
            call = call.query("prefix", prefix);
        }
        if let Some((key, upload_id)) = after {
            call = call.query("key-marker", &key);
            if !upload_id.is_empty() {
                call = call.query("upload-id-marker", &upload_id);
            }
        }
        let answer = self.inner.call(&call).await?;
        xml::multiparts(&answer.body).map_err(|error| call.nonsense(error))
    }
}

/// Whether an object with this entity tag was made of these parts, as far as one can tell: by the
/// digest of the parts' digests, or, if `leniently`, by their number.
fn is_made_of(etag: &str, parts: &[(u32, String)], leniently: bool) -> bool {
    let etag = etag.trim_matches('"');
    let mut md5 = Md5::new();
    let mut known = true;
    for (_, part) in parts {
        match digest(part.trim_matches('"')) {
            Some(digest) => md5.update(digest),
            None => known = false,
        }
    }
    let suffix = format!("-{}", parts.len());
    (known && etag == format!("{}{suffix}", hex(&md5.finalize())))
        || (leniently && etag.ends_with(&suffix))
}

fn digest(etag: &str) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    if etag.len() != 32 || !etag.is_ascii() {
        return None;
    }
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(etag.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(etags: &[&str]) -> Vec<(u32, String)> {
        (1..)
            .zip(etags)
            .map(|(number, etag)| (number, format!("\"{etag}\"")))
            .collect()
    }

    /// The parts are "a" and "b"; the digests come from md5sum.
    #[test]
    fn the_tag_of_an_object_made_of_parts() {
        let two = parts(&[
            "0cc175b9c0f1b6a831c399e269772661",
            "92eb5ffee6ae2fec3ad71c777531578f",
        ]);
        let real = "\"96e024ba2074fe77e8e965ba43a704be-2\"";
        let foreign = "\"of-another-kind-2\"";
        assert!(is_made_of(real, &two, false));
        assert!(!is_made_of(real, &two[..1], true));
        assert!(!is_made_of(foreign, &two, false));
        assert!(is_made_of(foreign, &two, true), "the number of parts fits");
        assert!(!is_made_of(
            "\"0cc175b9c0f1b6a831c399e269772661\"",
            &two,
            true
        ));
        let other = parts(&["kms", "é"]);
        assert!(!is_made_of(real, &other, false));
        assert!(is_made_of(real, &other, true));
    }
}
