use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, header::HOST};

use super::{
    Client, Inner, ObjectRef,
    address::Target,
    credentials::Credentials,
    encode::Query,
    error::{Error, ErrorKind, Result},
    sign::{S3, Signer},
};

const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Client {
    /// Returns the unsigned URL of an object.
    #[must_use]
    pub fn object_url(&self, object: &ObjectRef) -> String {
        self.inner.object_target(object).1.url("")
    }

    /// Returns a presigned URL for one kind of request.
    ///
    /// It is valid for `expires` (1 s to 7 days), or until the credentials expire. `query` and
    /// `headers` are signed with it, so requests must contain exactly these headers. To upload a
    /// part, presign `PUT` with the query parameters `partNumber` and `uploadId`. No request is
    /// sent.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`], and [`ErrorKind::Other`] for a lifetime out of range.
    pub async fn presign(
        &self,
        method: Method,
        object: &ObjectRef,
        query: &[(&str, &str)],
        headers: &HeaderMap,
        expires: Duration,
    ) -> Result<String> {
        let error = |kind| Error::new(kind, "Presign", object.to_string());
        let credentials = self.credentials_for(expires, error).await?;
        let inner = &self.inner;
        let (region, target) = inner.object_target(object);
        let mut pairs = Query::new();
        for (name, value) in query {
            pairs.push(name, value);
        }
        let mut headers = headers.clone();
        let host = target.host_header();
        let host = host.map_err(|source| error(ErrorKind::Other).with_source(source))?;
        headers.insert(HOST, host);
        let now = (inner.settings.clock)();
        let signer = Signer::new(&credentials, &region, S3, now);
        let query = signer.sign_query(&method, &target.path, pairs, &headers, expires);
        Ok(target.url(&query))
    }

    pub(super) async fn credentials_for(
        &self,
        lifetime: Duration,
        error: impl Fn(ErrorKind) -> Error,
    ) -> Result<Arc<Credentials>> {
        if lifetime.as_secs() < 1 || lifetime > MAX_LIFETIME {
            return Err(error(ErrorKind::Other).with_message(format!(
                "the lifetime must be from 1 s to 7 days, not {} s",
                lifetime.as_secs()
            )));
        }
        let credentials = self.inner.credentials.get().await;
        credentials
            .map_err(|source| error(ErrorKind::BadCredentials).with_source(source))?
            .ok_or_else(|| {
                error(ErrorKind::BadCredentials)
                    .with_message("there are no credentials to sign with")
            })
    }
}

impl Inner {
    fn object_target(&self, object: &ObjectRef) -> (Arc<str>, Target) {
        let region = self.regions.get(&object.bucket);
        let target = self
            .address
            .target(&region, &object.bucket, Some(&object.key));
        (region, target)
    }
}
