//! Presigned URLs and forms for clients. It sends no request.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, header::HOST};
use jiff::Timestamp;
use landfall_objects::Endpoint;
use serde_json::json;

use super::{
    Client, Error, ErrorKind, Inner, ObjectRef, Result,
    credentials::Credentials,
    encode::Query,
    sign::{ALGORITHM, S3, Signer},
};

const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Client {
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
        let host = HeaderValue::from_str(&target.host);
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
            let seconds = lifetime.as_secs();
            let why = format!("the lifetime must be from 1 s to 7 days, not {seconds} s");
            return Err(error(ErrorKind::Other).with_message(why));
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
    pub(super) fn object_target(&self, object: &ObjectRef) -> (Arc<str>, Endpoint) {
        let region = self.regions.get(&object.bucket);
        let target = self
            .address
            .target(&region, &object.bucket, Some(&object.key));
        (region, target)
    }
}

const FILENAME: &str = "${filename}";

/// A signed form that uploads one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostPolicy {
    /// URL to POST the form to: the bucket, with a trailing slash.
    pub url: String,
    /// Names and values of the form fields, in order; the field `file` follows them.
    pub fields: Vec<(String, String)>,
}

impl Client {
    /// Signs a form for writing one object during `lifetime`.
    ///
    /// `lifetime` is 1 s to 7 days; the form expires earlier if the credentials do. `size` limits
    /// the length of the file, in bytes. The form is valid only with exactly these `fields` (such
    /// as `Content-Type`, `success_action_status`, `acl`, `x-amz-meta-NAME`), whose names are
    /// returned in lower case. No request is sent.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`]; [`ErrorKind::Other`] for a lifetime out of range, or a key
    /// with `${filename}`, which services replace with a name that the client chooses.
    pub async fn sign_post_policy(
        &self,
        object: &ObjectRef,
        fields: &[(String, String)],
        size: Option<RangeInclusive<u64>>,
        lifetime: Duration,
    ) -> Result<PostPolicy> {
        let error = |kind| Error::new(kind, "SignPostPolicy", object.to_string());
        if object.key.contains(FILENAME) {
            let why = format!("the key of a POST policy must not contain {FILENAME}");
            return Err(error(ErrorKind::Other).with_message(why));
        }
        let credentials = self.credentials_for(lifetime, error).await?;
        let inner = &self.inner;
        let region = inner.regions.get(&object.bucket);
        let now = (inner.settings.clock)();
        let ends = Timestamp::try_from(now + lifetime)
            .map_err(|source| error(ErrorKind::Other).with_source(source))?;
        let signer = Signer::new(&credentials, &region, S3, now);

        let named = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        let mut form: Vec<_> = fields.iter().map(named).collect();
        let mut push = |name: &str, value: &str| form.push((name.to_owned(), value.to_owned()));
        push("key", &object.key);
        push("x-amz-algorithm", ALGORITHM);
        push("x-amz-credential", &signer.credential());
        push("x-amz-date", signer.date_time());
        if let Some(token) = &credentials.session_token {
            push("x-amz-security-token", token);
        }

        let mut conditions = vec![json!({ "bucket": object.bucket })];
        conditions.extend(form.iter().map(|(name, value)| json!({ name: value })));
        if let Some(size) = size {
            conditions.push(json!(["content-length-range", size.start(), size.end()]));
        }
        let policy = json!({
            "expiration": ends.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
            "conditions": conditions,
        });
        let policy = STANDARD.encode(policy.to_string());
        let signature = signer.sign(&policy);
        form.push(("policy".to_owned(), policy));
        form.push(("x-amz-signature".to_owned(), signature));

        let mut url = inner.address.target(&region, &object.bucket, None).url("");
        if !url.ends_with('/') {
            url.push('/');
        }
        Ok(PostPolicy { url, fields: form })
    }
}
