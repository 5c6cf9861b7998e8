//! The state that clones of a client share, and the calls of all transfers.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use url::Url;

use crate::{
    Capabilities, Control, Error, FingerprintStore, RetryPolicy,
    hosts::Hosts,
    http::{Authentication, Request, Session},
    progress::Meter,
    rate_limit::RateLimiter,
    retry::Backoff,
};

/// The connections, settings and experience that clones of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    pub(crate) idle_timeout: Duration,
    pub(crate) authentication: Option<Arc<Authentication>>,
    pub(crate) headers: HeaderMap,
    pub(crate) retry: RetryPolicy,
    pub(crate) protocol: Protocol,
    pub(crate) fingerprints: Option<Arc<dyn FingerprintStore>>,
    pub(crate) forgets_finished: bool,
    pub(crate) hosts: Hosts,
    pub(crate) limiter: Option<Arc<RateLimiter>>,
}

/// The protocol of uploads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// tus if the server has it, else the IETF draft.
    #[default]
    Auto,
    /// tus 1.0.0.
    Tus,
    /// The IETF draft "Resumable Uploads for HTTP", the newest interop version that the server accepts.
    Draft,
}

impl Shared {
    /// Waits until bytes are within the rate limit of the client.
    pub(crate) async fn limit(&self, bytes: usize) {
        if let Some(limiter) = &self.limiter {
            tokio::time::sleep(limiter.reserve(bytes)).await;
        }
    }

    /// Returns the session of a transfer.
    pub(crate) fn session(
        &self,
        endpoint: &Url,
        headers: HeaderMap,
        control: Control,
        meter: Meter,
    ) -> Session {
        let mut all = self.headers.clone();
        all.extend(headers);
        Session::new(
            self.http.clone(),
            self.idle_timeout,
            self.authentication.clone(),
            all,
            endpoint,
            control,
            Arc::new(meter),
        )
    }

    /// Returns the session of one request.
    pub(crate) fn session_of_call(&self, url: &Url) -> Session {
        let meter = Meter::new(None, None);
        self.session(url, HeaderMap::new(), Control::new(), meter)
    }

    /// Returns the attempts of a transfer or call.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry.clone())
    }
}

/// Returns the response to OPTIONS.
pub(crate) async fn capabilities(session: &Session, endpoint: &Url) -> Result<Capabilities, Error> {
    let request = Request::new(Method::OPTIONS, endpoint.clone());
    let mut response = session.send(request).await?.successful().await?;
    let found = Capabilities::parse(&response.headers);
    // The connection is used again once the response is read.
    response.read().await?;
    Ok(found)
}

pub(crate) fn parse_url(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|error| error.to_string());
    let url = url.and_then(|url| match (url.scheme(), url.has_host()) {
        ("http" | "https", true) => Ok(url),
        _ => Err("it must begin with http:// or https://".into()),
    });
    url.map_err(|reason| Error::Configuration(format!("the URL {text:?} is invalid: {reason}")))
}
