//! The client as the store of uploads uses it. It adds nothing to the calls.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use landfall_objects::{
    Cloud, Condition, Object, ObjectHead, ObjectHeaders, ObjectRef, ObjectsPage, Part,
    PartCondition, Payload, Result, Rules, Stats,
};
use tokio_util::task::TaskTracker;

use crate::client::AzureClient;

/// Of Put Block From URL.
const MAX_COPY: u64 = 4_000 * 1024 * 1024;

#[async_trait]
impl Cloud for AzureClient {
    fn rules(&self) -> Rules {
        Rules {
            name: "Azure Blob Storage",
            store_type: "azurestore",
            bucket_field: "Container",
            implicit_multipart: true,
            versioned_parts: false,
            write_interval: Duration::ZERO,
            max_copy: MAX_COPY,
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
        self.put_object(object, payload, headers, condition, writes)
            .await
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

    async fn create_multipart(&self, object: &ObjectRef, _: &ObjectHeaders) -> Result<String> {
        self.create_multipart(object).await
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        payload: Payload,
        _: PartCondition<'_>,
    ) -> Result<String> {
        self.upload_part(object, number, payload).await
    }

    async fn copy_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        source: &ObjectRef,
        range: Range<u64>,
    ) -> Result<String> {
        self.copy_part(object, number, source, range).await
    }

    async fn list_parts(&self, object: &ObjectRef, _: &str) -> Result<Vec<Part>> {
        self.list_parts(object).await
    }

    async fn complete_multipart(
        &self,
        object: &ObjectRef,
        _: &str,
        parts: &[(u32, String)],
        headers: &ObjectHeaders,
    ) -> Result<String> {
        self.complete_multipart(object, parts, headers).await
    }

    async fn abort_multipart(&self, object: &ObjectRef, _: &str) -> Result<()> {
        self.abort_multipart(object).await
    }

    async fn keep_parts(&self, object: &ObjectRef) -> Result<()> {
        self.keep_parts(object).await
    }

    async fn presign_download(
        &self,
        object: &ObjectRef,
        content_type: &str,
        content_disposition: &str,
        lifetime: Duration,
    ) -> Result<String> {
        self.presign_download(object, content_type, content_disposition, lifetime)
            .await
    }
}
