//! A bucket of Google Cloud Storage.
//!
//! All headers are signed, and the client must send them: `x-goog-if-generation-match: 0` keeps an object from being
//! replaced, `x-goog-content-length-range` limits the size of a PUT. The URL of a resumable session is known to the client
//! alone, so the size of that file is checked when it is complete.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use landfall_gcs::Client;
use landfall_objects::{Cloud, Error, ErrorKind, MAX_OBJECT, ObjectHeaders, ObjectRef, Result};

use super::{Bucket, BucketRules, DirectBucket, SignedUpload, UploadTerms};

/// Of a resumable session.
const SESSION_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[async_trait]
impl DirectBucket for Bucket<Client> {
    fn clouds(&self) -> [&dyn Cloud; 2] {
        [&self.client, &self.signer]
    }

    fn rules(&self) -> BucketRules {
        BucketRules {
            max_put: MAX_OBJECT,
            larger: "a file must not be larger than 5 TiB",
            creates_only: true,
            resumable_creates_only: true,
            fixes_type: true,
            session_lifetime: SESSION_LIFETIME,
        }
    }

    async fn sign_upload(
        &self,
        object: &ObjectRef,
        terms: &UploadTerms<'_>,
    ) -> Result<SignedUpload> {
        let headers = headers(terms).map_err(|name| {
            let error = Error::new(ErrorKind::Other, "Presign", object.to_string());
            error.with_message(format!("the object's {name} is not a valid header value"))
        })?;
        let method = match terms.resumable {
            true => Method::POST,
            false => Method::PUT,
        };
        let url = self
            .signer
            .presign(method.clone(), object, &[], &headers, terms.lifetime);
        Ok(SignedUpload {
            method,
            url: url.await?,
            headers,
        })
    }
}

/// Returns the headers to sign, or the name of one that is invalid.
fn headers(terms: &UploadTerms<'_>) -> Result<HeaderMap, String> {
    let ObjectHeaders {
        content_type,
        content_disposition,
        cache_control,
        content_encoding,
        storage_class,
        metadata,
        ..
    } = terms.headers;
    let condition = terms.only_once.then(|| "0".to_owned());
    let (range, resumable) = match terms.resumable {
        true => (None, Some("start".to_owned())),
        false => {
            let (min, max) = terms.length.map_or((0, terms.limit), |size| (size, size));
            (Some(format!("{min},{max}")), None)
        }
    };
    let fixed = [
        ("content-type", content_type.as_ref()),
        ("content-disposition", content_disposition.as_ref()),
        ("cache-control", cache_control.as_ref()),
        ("content-encoding", content_encoding.as_ref()),
        ("x-goog-storage-class", storage_class.as_ref()),
        ("x-goog-if-generation-match", condition.as_ref()),
        ("x-goog-content-length-range", range.as_ref()),
        ("x-goog-resumable", resumable.as_ref()),
    ];
    let fixed = fixed.into_iter();
    let fixed = fixed.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let metadata = metadata
        .iter()
        .map(|(name, value)| (format!("x-goog-meta-{name}"), value));
    let mut headers = HeaderMap::new();
    for (name, value) in fixed.chain(metadata) {
        // The service signs repeated white space as one blank.
        let value: Vec<_> = value.split_whitespace().collect();
        let value = HeaderValue::from_str(&value.join(" ")).map_err(|_| name.clone())?;
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| name)?;
        headers.insert(header, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(headers: &ObjectHeaders) -> UploadTerms<'_> {
        UploadTerms {
            headers,
            resumable: false,
            length: None,
            limit: 7,
            pins_type: true,
            only_once: true,
            lifetime: Duration::from_secs(60),
        }
    }

    fn pairs(terms: &UploadTerms<'_>) -> Vec<String> {
        let headers = headers(terms).unwrap();
        let pairs = headers.iter();
        let mut pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn everything_is_signed() {
        let mut object = ObjectHeaders {
            content_type: Some("a/b".into()),
            ..ObjectHeaders::default()
        };
        object.metadata.insert("name".into(), "two  blanks".into());
        let mut terms = terms(&object);
        assert_eq!(
            pairs(&terms),
            [
                "content-type: a/b",
                "x-goog-content-length-range: 0,7",
                "x-goog-if-generation-match: 0",
                "x-goog-meta-name: two blanks",
            ]
        );
        (terms.length, terms.only_once) = (Some(5), false);
        assert!(pairs(&terms).contains(&"x-goog-content-length-range: 5,5".to_owned()));
        assert_eq!(pairs(&terms).len(), 3);
        terms.resumable = true;
        let wanted = [
            "content-type: a/b",
            "x-goog-meta-name: two blanks",
            "x-goog-resumable: start",
        ];
        assert_eq!(pairs(&terms), wanted);
    }
}
