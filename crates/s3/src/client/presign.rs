//! URLs that carry their signature.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, header::HOST};

use super::{
    Client, Place,
    credentials::Credentials,
    encode::Query,
    error::{Error, ErrorKind, Result},
    sign::{S3, Signer},
};

const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Client {
    /// The address of an object, as everybody may ask for it who may read it.
    #[must_use]
    pub fn object_url(&self, place: &Place) -> String {
        let region = self.inner.regions.of(&place.bucket);
        let target = self
            .inner
            .address
            .target(&region, &place.bucket, Some(&place.key));
        target.url("")
    }

    /// A URL by which anybody may make one kind of request for `expires` (1 s to 7 days; less if the
    /// credentials end before). `query` and `headers` are signed with it: whoever uses the URL must
    /// send these headers as they are. Nothing is sent. An upload of a part is `PUT` with the query
    /// `partNumber` and `uploadId`.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`], and [`ErrorKind::Other`] for a lifetime out of bounds.
    pub async fn presign(
        &self,
        method: Method,
        place: &Place,
        query: &[(&str, &str)],
        headers: &HeaderMap,
        expires: Duration,
    ) -> Result<String> {
        let error = |kind| Error::new(kind, "Presign", place.to_string());
        let credentials = self.keys_for(expires, error).await?;
        let inner = &self.inner;
        let region = inner.regions.of(&place.bucket);
        let target = inner
            .address
            .target(&region, &place.bucket, Some(&place.key));
        let mut pairs = Query::new();
        for (name, value) in query {
            pairs.push(name, value);
        }
        let mut headers = headers.clone();
        let host = target.host_header();
        headers.insert(
            HOST,
            host.map_err(|source| error(ErrorKind::Other).with_source(source))?,
        );
        let now = (inner.settings.now)();
        let signer = Signer::new(&credentials, &region, S3, now);
        let query = signer.sign_query(&method, &target.path, pairs, &headers, expires);
        Ok(target.url(&query))
    }

    /// Keys to sign something with that is good for `lifetime`.
    pub(super) async fn keys_for(
        &self,
        lifetime: Duration,
        error: impl Fn(ErrorKind) -> Error,
    ) -> Result<Arc<Credentials>> {
        if lifetime.as_secs() < 1 || lifetime > LONGEST {
            return Err(error(ErrorKind::Other).with_message(format!(
                "{} s is not from 1 s to 7 days",
                lifetime.as_secs()
            )));
        }
        let keys = self.inner.keeper.get().await;
        keys.map_err(|source| error(ErrorKind::BadCredentials).with_source(source))?
            .ok_or_else(|| {
                error(ErrorKind::BadCredentials).with_message("there are no keys to sign with")
            })
    }
}
