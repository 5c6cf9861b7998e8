//! URLs that every bearer can use for a time: V4 signatures by a key, or by the IAM service. It calls no storage, but
//! to remove what bearers have sent.

use std::time::Duration;

use http::{HeaderMap, Method, Request};
use landfall_objects::{ErrorKind, ObjectRef, Result, one_line, segment};
use reqsign_core::SignRequest as _;
use reqsign_google::RequestSigner;

use crate::{client::Client, credentials::for_signing};

const PRESIGN: &str = "presign";

const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Client {
    /// Returns a presigned URL of the XML API for one kind of request.
    ///
    /// It is valid for `lifetime` (1 s to 7 days). `query` and `headers` are signed with it, so requests must contain
    /// exactly these headers: a `PUT` with `content-type`, or with `x-goog-if-generation-match: 0` to write no
    /// existing object; a `POST` with `x-goog-resumable: start` begins a resumable upload. Without a key of a
    /// service account, each URL costs a call of the IAM service.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`] without credentials that can sign, and [`ErrorKind::Other`] for a lifetime out
    /// of range.
    pub async fn presign(
        &self,
        method: Method,
        object: &ObjectRef,
        query: &[(&str, &str)],
        headers: &HeaderMap,
        lifetime: Duration,
    ) -> Result<String> {
        let inner = &self.inner;
        let error = |kind| inner.error(PRESIGN, object, kind);
        if lifetime.as_secs() < 1 || lifetime > MAX_LIFETIME {
            let seconds = lifetime.as_secs();
            let why = format!("the lifetime must be from 1 s to 7 days, not {seconds} s");
            return Err(error(ErrorKind::Other).with_message(why));
        }
        let signing = for_signing(&inner.credentials).await;
        let (credential, context) = signing.map_err(|why| {
            let refused = error(ErrorKind::BadCredentials);
            refused.with_message(why.to_string())
        })?;
        let mut url = inner.address.signed(object);
        for (index, (name, value)) in query.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            url.push_str(&format!("{separator}{}={}", segment(name), segment(value)));
        }
        let request = Request::builder().method(method).uri(url).body(());
        let request = request.map_err(|source| error(ErrorKind::Other).with_source(source))?;
        let (mut head, ()) = request.into_parts();
        head.headers = headers.clone();
        let signer = RequestSigner::new("storage");
        let signed = signer.sign_request(&context, &mut head, Some(&credential), Some(lifetime));
        signed.await.map_err(|source| {
            let text = one_line(source.to_string());
            let advice = if text.contains("signBlob") {
                "; grant the role Service Account Token Creator (roles/iam.serviceAccountTokenCreator) on the service \
                 account to itself, and enable the API iamcredentials.googleapis.com"
            } else {
                ""
            };
            error(ErrorKind::BadCredentials).with_message(format!("{text}{advice}"))
        })?;
        Ok(head.uri.to_string())
    }
}
