//! Calls on buckets.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use md5::{Digest, Md5};

use super::{
    Client, CorsRule, ObjectsPage,
    call::Call,
    error::{ErrorKind, Result},
    stats::Operation,
    xml,
};

impl Client {
    /// Lists up to `max` (at most a thousand) objects whose key begins with `prefix`; `after` is
    /// `next` of the page before.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> Result<ObjectsPage> {
        let mut call = Call::new(Operation::ListObjects, Method::GET, bucket, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", &max.to_string());
        if !prefix.is_empty() {
            call = call.query("prefix", prefix);
        }
        if let Some(token) = after {
            call = call.query("continuation-token", &token);
        }
        let answer = self.inner.call(&call).await?;
        xml::objects(&answer.body).map_err(|error| call.nonsense(error))
    }

    /// Asks whether the bucket is there and may be used.
    ///
    /// The service can't say in its answer to a HEAD what is wrong, so a listing is asked for then.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchBucket`], [`ErrorKind::AccessDenied`], [`ErrorKind::WrongRegion`] and
    /// others.
    pub async fn head_bucket(&self, bucket: &str) -> Result<()> {
        let call = Call::new(Operation::HeadBucket, Method::HEAD, bucket, None);
        let Err(error) = self.inner.call(&call).await else {
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

    /// The bucket's CORS rules; `None` if it has none.
    ///
    /// # Errors
    /// [`ErrorKind::NotImplemented`] where the service has no such thing, and others.
    pub async fn bucket_cors(&self, bucket: &str) -> Result<Option<Vec<CorsRule>>> {
        let call = Call::new(Operation::GetBucketCors, Method::GET, bucket, None).query("cors", "");
        match self.inner.call(&call).await {
            Ok(answer) => {
                let rules = xml::cors(&answer.body).map_err(|error| call.nonsense(error))?;
                Ok(Some(rules))
            }
            Err(error) if error.code() == Some("NoSuchCORSConfiguration") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the bucket's CORS rules in place of those it had.
    ///
    /// # Errors
    /// [`ErrorKind::NotImplemented`] where the service has no such thing, and others.
    pub async fn set_bucket_cors(&self, bucket: &str, rules: &[CorsRule]) -> Result<()> {
        let body = xml::cors_configuration(rules);
        let call = Call::new(Operation::PutBucketCors, Method::PUT, bucket, None)
            .query("cors", "")
            .header("content-type", "application/xml")?
            .header("content-md5", &STANDARD.encode(Md5::digest(&body)))?
            .text(body);
        self.inner.call(&call).await.map(drop)
    }
}
