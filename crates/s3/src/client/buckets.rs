use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use md5::{Digest, Md5};

use super::{
    Client, CorsRule, ObjectsPage,
    error::{ErrorKind, Result},
    request::S3Request,
    stats::Operation,
    xml,
};

impl Client {
    /// Lists up to `max` objects (at most 1,000) whose keys begin with `prefix`.
    ///
    /// `after` is `next` of the previous page.
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        let mut request = S3Request::new(Operation::ListObjectsV2, Method::GET, bucket, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", &max.to_string());
        if !prefix.is_empty() {
            request = request.query("prefix", prefix);
        }
        if let Some(token) = after {
            request = request.query("continuation-token", &token);
        }
        let response = self.inner.send(&request).await?;
        xml::objects(&response.body).map_err(|error| request.unexpected(error))
    }

    /// Checks that the bucket exists and is accessible.
    pub async fn head_bucket(&self, bucket: &str) -> Result<()> {
        let request = S3Request::new(Operation::HeadBucket, Method::HEAD, bucket, None);
        let Err(error) = self.inner.send(&request).await else {
            return Ok(());
        };
        if matches!(
            error.kind(),
            ErrorKind::Unavailable { .. } | ErrorKind::NoSuchBucket
        ) || error.status().is_none()
        {
            return Err(error);
        }
        self.list_objects(bucket, "", None, 1).await.map(drop)
    }

    /// Returns the bucket's CORS rules; `None` if it has none.
    pub async fn bucket_cors(&self, bucket: &str) -> Result<Option<Vec<CorsRule>>> {
        let request =
            S3Request::new(Operation::GetBucketCors, Method::GET, bucket, None).query("cors", "");
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
        let request = S3Request::new(Operation::PutBucketCors, Method::PUT, bucket, None)
            .query("cors", "")
            .header("content-type", "application/xml")?
            .header("content-md5", &STANDARD.encode(Md5::digest(&body)))?
            .text(body);
        self.inner.send(&request).await.map(drop)
    }
}
