//! The operations on multipart uploads.

use std::ops::Range;

use hex::FromHex;
use http::Method;
use landfall_objects::{Service as _, path};
use md5::{Digest, Md5};

use super::{
    Client, ErrorKind, MultipartUpload, MultipartUploadsPage, ObjectHeaders, ObjectRef, Part,
    Payload, Result,
    objects::put_headers,
    operation::Operation,
    request::{signed, to_bucket, to_object},
    xml,
};

const MAX_TIMEOUT_BYTES: u64 = 64 * 1024 * 1024;

const MAX_PART_NUMBER: u32 = 10_000;

impl Client {
    /// Creates a multipart upload and returns its id.
    ///
    /// A retry after a lost response may leave a second, empty multipart upload.
    pub async fn create_multipart(
        &self,
        object: &ObjectRef,
        headers: &ObjectHeaders,
    ) -> Result<String> {
        let mut request =
            to_object(Operation::CreateMultipartUpload, Method::POST, object).query("uploads", "");
        put_headers(&mut request, headers)?;
        let response = self.inner.send(&request).await?;
        xml::upload_id(&response.body).map_err(|error| request.unexpected(error))
    }

    /// Uploads part `number` (1 to 10,000) and returns its entity tag.
    ///
    /// An earlier part with the same number is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`] and others.
    pub async fn upload_part(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u32,
        payload: Payload,
    ) -> Result<String> {
        let request = to_object(Operation::UploadPart, Method::PUT, object)
            .query("partNumber", &number.to_string())
            .query("uploadId", upload_id)
            .payload(payload);
        let response = self.inner.send(&request).await?;
        request.etag(&response)
    }

    /// Copies `source`, or a range of it, into part `number` and returns the part's entity tag.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`], [`ErrorKind::NoSuchKey`] if the source does not exist, and
    /// others.
    pub async fn upload_part_copy(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        number: u32,
        source: &ObjectRef,
        range: Option<Range<u64>>,
    ) -> Result<String> {
        let from = path(&source.to_string()).to_string();
        let mut request = to_object(Operation::UploadPartCopy, Method::PUT, object)
            .query("partNumber", &number.to_string())
            .query("uploadId", upload_id)
            .header("x-amz-copy-source", &from)?;
        let mut timeout_bytes = MAX_TIMEOUT_BYTES;
        if let Some(range) = range {
            timeout_bytes = timeout_bytes.min(range.end.saturating_sub(range.start));
            request = request.range("x-amz-copy-source-range", &range)?;
        }
        let request = request.works(timeout_bytes);
        let response = self.inner.send(&request).await?;
        xml::result_etag(&response.body).map_err(|error| request.unexpected(error))
    }

    /// Lists the parts, in the order of their numbers.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`] and others.
    pub async fn list_parts(&self, object: &ObjectRef, upload_id: &str) -> Result<Vec<Part>> {
        let (mut parts, mut after) = (Vec::new(), 0);
        while after < MAX_PART_NUMBER {
            let marker = Some(after).filter(|after| *after > 0);
            let request = to_object(Operation::ListParts, Method::GET, object)
                .query("uploadId", upload_id)
                .query_if("part-number-marker", marker);
            let response = self.inner.send(&request).await?;
            let page = xml::parts(&response.body, after);
            let (page, next) = page.map_err(|error| request.unexpected(error))?;
            parts.extend(page);
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// Completes a multipart upload from these parts and returns the entity tag of the object.
    ///
    /// `parts` are pairs of number and entity tag, in order.
    ///
    /// The call is idempotent: if the multipart upload no longer exists and the object has the
    /// entity tag of these parts, it succeeds. Where entity tags are not MD5 digests (SSE-KMS),
    /// this works only for a lost response within one call, and compares only the number of parts.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchUpload`], [`ErrorKind::EntityTooSmall`] and others.
    pub async fn complete_multipart(
        &self,
        object: &ObjectRef,
        upload_id: &str,
        parts: &[(u32, String)],
    ) -> Result<String> {
        let request = to_object(Operation::CompleteMultipartUpload, Method::POST, object)
            .query("uploadId", upload_id)
            .header("content-type", "application/xml")?
            .payload(signed(xml::complete(parts)))
            .works(MAX_TIMEOUT_BYTES / 2);
        let error = match self.inner.send(&request).await {
            Ok(response) => match xml::result_etag(&response.body) {
                Ok(etag) => return Ok(etag),
                Err(_) => return Ok(self.head_object(object).await?.etag),
            },
            Err(error) => error,
        };
        if *error.kind() != ErrorKind::NoSuchUpload {
            return Err(error);
        }
        match self.head_object(object).await {
            Ok(head) if is_made_of(&head.etag, parts, error.is_in_doubt()) => Ok(head.etag),
            _ => Err(error),
        }
    }

    /// Aborts a multipart upload and deletes its parts. A missing one is not an error.
    pub async fn abort_multipart(&self, object: &ObjectRef, upload_id: &str) -> Result<()> {
        let request = to_object(Operation::AbortMultipartUpload, Method::DELETE, object)
            .query("uploadId", upload_id);
        match self.inner.send(&request).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(()),
            result => result.map(drop),
        }
    }

    /// Lists up to `max` unfinished multipart uploads (at most 1,000) with a key prefix.
    ///
    /// `after` is the pair of key and upload id that [`MultipartUploadsPage::next`] returned.
    pub async fn list_multiparts(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, String)>,
        max: u32,
    ) -> Result<MultipartUploadsPage> {
        let list = async |encodes: bool| {
            let (key, upload_id) = after.as_ref().map_or((None, None), |(key, upload_id)| {
                let upload_id = Some(upload_id).filter(|id| !id.is_empty());
                (Some(&**key), upload_id)
            });
            let request = to_bucket(Operation::ListMultipartUploads, Method::GET, bucket)
                .query("uploads", "")
                .query("max-uploads", &max.to_string())
                .query_if("encoding-type", encodes.then_some("url"))
                .page(prefix, "key-marker", key)
                .query_if("upload-id-marker", upload_id);
            let response = self.inner.send(&request).await?;
            xml::multiparts(&response.body).map_err(|error| request.unexpected(error))
        };
        let (page, is_encoded) = list(true).await?;
        // Ceph 16 encodes keys without saying so. Without a request to encode they are plain.
        let is_ambiguous = |upload: &MultipartUpload| upload.key.contains(['%', '+']);
        if !is_encoded && page.uploads.iter().any(is_ambiguous) {
            return Ok(list(false).await?.0);
        }
        Ok(page)
    }
}

/// Returns true if the object with this entity tag consists of these parts.
///
/// Compares the digest of the parts' digests or, if `leniently`, only the number of parts.
fn is_made_of(etag: &str, parts: &[(u32, String)], leniently: bool) -> bool {
    let etag = etag.trim_matches('"');
    let mut md5 = Md5::new();
    let mut all_md5 = true;
    for (_, part) in parts {
        match <[u8; 16]>::from_hex(part.trim_matches('"')) {
            Ok(digest) => md5.update(digest),
            Err(_) => all_md5 = false,
        }
    }
    let suffix = format!("-{}", parts.len());
    (all_md5 && etag == format!("{}{suffix}", hex::encode(md5.finalize())))
        || (leniently && etag.ends_with(&suffix))
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

    /// The parts are "a" and "b"; the digests are from md5sum.
    #[test]
    fn entity_tag_of_a_multipart_object() {
        let two = parts(&[
            "0cc175b9c0f1b6a831c399e269772661",
            "92eb5ffee6ae2fec3ad71c777531578f",
        ]);
        let real = "\"96e024ba2074fe77e8e965ba43a704be-2\"";
        let not_md5 = "\"of-another-kind-2\"";
        assert!(is_made_of(real, &two, false));
        assert!(!is_made_of(real, &two[..1], true));
        assert!(!is_made_of(not_md5, &two, false));
        assert!(is_made_of(not_md5, &two, true), "the number of parts fits");
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
