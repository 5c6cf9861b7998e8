//! The calls that a store of uploads makes, as Cloud Storage has them.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Method};
use landfall_objects::{
    Cloud, Condition, Object, ObjectHead, ObjectHeaders, ObjectRef, ObjectsPage, Part,
    PartCondition, Payload, Result, Rules, Stats, read_object,
};
use tokio_util::task::TaskTracker;

use crate::{client::Client, response::WRITE_INTERVAL};

/// The name of every multipart upload, which no request contains.
const MULTIPART: &str = "gcs";

#[async_trait]
impl Cloud for Client {
    fn rules(&self) -> Rules {
        Rules {
            name: "Google Cloud Storage",
            store_type: "gcsstore",
            bucket_field: "Bucket",
            implicit_multipart: true,
            versioned_parts: true,
            write_interval: WRITE_INTERVAL,
            max_copy: u64::MAX,
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
        let put = self
            .inner
            .put_object(object, &payload, headers, &condition, writes);
        put.await
    }

    async fn get_object(&self, object: &ObjectRef, range: Option<Range<u64>>) -> Result<Object> {
        read_object(&self.inner, object, range).await
    }

    async fn head_object(&self, object: &ObjectRef) -> Result<ObjectHead> {
        Ok(self.inner.metadata(object).await?.into_head())
    }

    async fn delete_object(&self, object: &ObjectRef) -> Result<()> {
        self.inner.delete(object, None).await
    }

    async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        self.inner.list(bucket, prefix, after, max).await
    }

    async fn create_multipart(&self, _: &ObjectRef, _: &ObjectHeaders) -> Result<String> {
        Ok(MULTIPART.to_owned())
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        payload: Payload,
        condition: PartCondition<'_>,
    ) -> Result<String> {
        let uploaded = self.inner.upload_part(object, number, &payload, condition);
        uploaded.await
    }

    async fn copy_part(
        &self,
        object: &ObjectRef,
        _: &str,
        number: u32,
        source: &ObjectRef,
        range: Range<u64>,
    ) -> Result<String> {
        self.inner.copy_part(object, number, source, &range).await
    }

    async fn list_parts(&self, object: &ObjectRef, _: &str) -> Result<Vec<Part>> {
        self.inner.list_parts(object).await
    }

    async fn complete_multipart(
        &self,
        object: &ObjectRef,
        _: &str,
        parts: &[(u32, String)],
        headers: &ObjectHeaders,
    ) -> Result<String> {
        self.inner.complete(object, parts, headers).await
    }

    async fn abort_multipart(&self, object: &ObjectRef, _: &str) -> Result<()> {
        self.inner.abort(object).await
    }

    async fn remove_parts(&self, object: &ObjectRef, _: &str, from: u32) -> Result<()> {
        self.inner.remove_parts(object, from).await
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
        let none = HeaderMap::new();
        self.presign(Method::GET, object, &query, &none, lifetime)
            .await
    }
}
