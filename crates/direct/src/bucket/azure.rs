//! A container of Azure Blob Storage.
//!
//! A shared access signature fixes neither size nor type, so both are checked when the file is complete. With the right
//! to create alone it permits one PUT, of a blob that does not exist; blocks need the right to write, which can also replace
//! the blob.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method, header};
use landfall_azure::AzureClient;
use landfall_objects::{Cloud, ObjectHeaders, ObjectRef, Result};

use super::{Bucket, BucketRules, DirectBucket, SignedUpload, UploadTerms};

/// Of Put Blob.
const MAX_PUT: u64 = 5_000 << 20;

#[async_trait]
impl DirectBucket for Bucket<AzureClient> {
    fn clouds(&self) -> [&dyn Cloud; 2] {
        [&self.client, &self.signer]
    }

    fn rules(&self) -> BucketRules {
        BucketRules {
            max_put: MAX_PUT,
            larger: "a file larger than 5,000 MiB must be sent in blocks: request the signature with \"resumable\": true",
            creates_only: true,
            resumable_creates_only: false,
            fixes_type: false,
            session_lifetime: Duration::ZERO,
        }
    }

    async fn remove_unfinished(&self, object: &ObjectRef) -> Result<()> {
        self.client.abort_multipart(object, "").await
    }

    async fn sign_upload(
        &self,
        object: &ObjectRef,
        terms: &UploadTerms<'_>,
    ) -> Result<SignedUpload> {
        let only_creates = terms.only_once && !terms.resumable;
        let url = self
            .signer
            .presign_upload(object, only_creates, terms.lifetime)
            .await?;
        // Tags need another right.
        let mut headers = landfall_azure::blob_headers(&ObjectHeaders {
            tagging: None,
            ..terms.headers.clone()
        });
        if !terms.resumable {
            headers.insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
        }
        if terms.only_once {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        Ok(SignedUpload {
            method: Method::PUT,
            url,
            headers,
        })
    }
}
