//! S3 as a cloud of the store. It adds nothing to the calls.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Method};
use landfall_objects::{Cloud, PartCondition, Rules};
use tokio_util::task::TaskTracker;

use super::{
    Client, Condition, MultipartUploadsPage, Object, ObjectHead, ObjectHeaders, ObjectRef,
    ObjectsPage, Part, Payload, Result, Stats,
};

#[async_trait]
impl Cloud for Client {
    fn rules(&self) -> Rules {
        Rules {
            name: "S3",
            store_type: "s3store",
            bucket_field: "Bucket",
            implicit_multipart: false,
            versioned_parts: false,
            write_interval: Duration::ZERO,
            max_copy: 5 << 30,
        }
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
        match writes {
            Some(writes) => {
                let client = self.with_writes(writes);
                client.put_object(object, payload, headers, condition).await
            }
            None => self.put_object(object, payload, headers, condition).await,
        }
    }

    async fn get_object(&self, object: &ObjectRef, range: Option<Range<u64>>) -> Result<Object> {
        self.get_object(object, range).await
    }

    async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead> {
        self.head_object(object).await
    }

    async fn delete_object(&self, object: &ObjectRef) -> Result<()> {
        self.delete_object(object).await
    }

    async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        self.list_objects(bucket, prefix, after, max).await
    }

    async fn create_multipart(
        &self,
        object: &ObjectRef,
        headers: &ObjectHeaders,
    ) -> Result<String> {
        self.create_multipart(object, headers).await
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        multipart: &str,
        number: u32,
        payload: Payload,
        _condition: PartCondition<'_>,
    ) -> Result<String> {
        self.upload_part(object, multipart, number, payload).await
    }

    async fn copy_part(
        &self,
        object: &ObjectRef,
        multipart: &str,
        number: u32,
        source: &ObjectRef,
        range: Range<u64>,
    ) -> Result<String> {
        self.upload_part_copy(object, multipart, number, source, Some(range))
            .await
    }

    async fn list_parts(&self, object: &ObjectRef, multipart: &str) -> Result<Vec<Part>> {
        self.list_parts(object, multipart).await
    }

    async fn complete_multipart(
        &self,
        object: &ObjectRef,
        multipart: &str,
        parts: &[(u32, String)],
        _headers: &ObjectHeaders,
    ) -> Result<String> {
        self.complete_multipart(object, multipart, parts).await
    }

    async fn abort_multipart(&self, object: &ObjectRef, multipart: &str) -> Result<()> {
        self.abort_multipart(object, multipart).await
    }

    async fn list_multiparts(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(String, String)>,
        max: u32,
    ) -> Result<MultipartUploadsPage> {
        self.list_multiparts(bucket, prefix, after, max).await
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
        let headers = HeaderMap::new();
        self.presign(Method::GET, object, &query, &headers, lifetime)
            .await
    }
}
