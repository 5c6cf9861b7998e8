//! HTTP hooks.

mod address_policy;
mod classify;
mod connect;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod redirect;
mod settings;

use std::{sync::OnceLock, time::Duration};

use crate::{DeliveryError, EventHeaders, HookName, HookResponse, Message, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{sync::Semaphore, time};

use self::{
    address_policy::AddressPolicy,
    classify::{Body, RawResponse, ResponseClassifier, read_body},
    connect::{Client, tls_config},
    redirect::{Endpoint, Hop, HttpCall},
};
use crate::{
    SettingsError,
    format::{self, Format},
};

pub use self::settings::{HttpSettings, Secret};
pub use landfall_net::Proxies;
use landfall_net::redacted_url;

/// Maximum response size in [`Format::V1`], which has no setting for it.
const V1_MAX_RESPONSE_BYTES: usize = 1 << 20;

const MAX_REDIRECTS: usize = 10;

/// Timeout for reading an ignored body, so that its connection can be reused.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends each message as a POST request to one endpoint.
///
/// Connections are kept open and reused. A TLS endpoint may negotiate HTTP/2.
///
/// The meaning of a response depends on the format:
///
/// - [`Format::Auto`]: 2xx with an empty body or plain text allows; JSON is parsed as a version 2
///   response, and everything else is a failure ([`response_json`](crate::response_json)).
///   4xx rejects, and the client gets the status and body; a version 2 response with `RejectUpload` in
///   the body applies instead. 408 and 425 are failures, and without such a response also what a wrong address gives: a
///   404 or 405 without a reason, and any 4xx with an HTML page.
/// - [`Format::V2`]: 2xx with a JSON object and its Content-Type is the response, everything else
///   is a failure. For events other than progress, any 2xx is enough.
/// - [`Format::V1`]: a status below 400 allows, whatever the body. The client of a blocking hook
///   gets any other response, except that a 4xx with an HTML page is a failure.
///
/// Blocking hooks and progress are retried after a 5xx response or a connection error. Other events
/// are sent once, since the outbox retries them.
///
/// Each request has the headers of [Standard Webhooks](https://www.standardwebhooks.com):
/// `webhook-id` ([`Message::id`]), `webhook-timestamp` and, with a [`Secret`], `webhook-signature`.
/// It also has `Landfall-Sequence` ([`Message::sequence`]) and `Hook-Name`.
#[derive(Debug)]
pub struct Http {
    settings: HttpSettings,
    endpoint: Endpoint,
    forward: Vec<HeaderName>,
    classifier: ResponseClassifier,
    calls: Semaphore,
    client: Client,
    redirects: Option<Redirects>,
}

#[derive(Debug)]
struct Redirects {
    policy: AddressPolicy,
    client: Client,
}

#[derive(Debug)]
struct AttemptError {
    failure: DeliveryError,
    may_retry: bool,
}

/// A retry would fail, too.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for AttemptError {
    fn from(error: E) -> Self {
        Self {
            failure: DeliveryError::with_source(error.to_string(), error),
            may_retry: false,
        }
    }
}

impl Http {
    /// Creates the transport. It connects when the first message is delivered.
    ///
    /// # Errors
    /// A setting is invalid, or the system has no root certificates for an `https` endpoint.
    pub fn new(settings: HttpSettings) -> Result<Self, SettingsError> {
        let endpoint = Endpoint::new(settings.url.as_str())?;
        let zero = |what| SettingsError(format!("{what} of HTTP hooks must be greater than 0"));
        if settings.timeout.is_zero() {
            return Err(zero("the timeout"));
        }
        if settings.max_concurrency == 0 {
            return Err(zero("the maximum concurrency"));
        }
        let tls = tls_config(settings.skip_verify, endpoint.url.scheme() == "https");
        let failed = "failed to configure TLS for HTTP hooks";
        let tls = tls.map_err(|error| SettingsError(format!("{failed}: {error}")))?;
        let (proxies, idle) = (&settings.proxies, settings.max_concurrency);
        let client = |policy| Client::new(&tls, proxies.clone(), policy, idle);
        let redirects = settings.follow_redirects.then(|| {
            let policy = AddressPolicy::new(&settings.redirect_allow);
            Redirects {
                client: client(Some(policy.clone())),
                policy,
            }
        });
        Ok(Self {
            client: client(None),
            redirects,
            forward: forwarded(&settings.forward_headers)?,
            classifier: ResponseClassifier {
                format: settings.format,
                endpoint: redacted_url(settings.url.as_str().trim()),
                limit: match settings.format {
                    Format::V1 => V1_MAX_RESPONSE_BYTES,
                    Format::V2 | Format::Auto => settings.size_limit,
                },
                stop_code: settings.stop_code,
                keeps_uploads: settings.keeps_uploads,
            },
            calls: Semaphore::new(settings.max_concurrency.min(Semaphore::MAX_PERMITS)),
            endpoint,
            settings,
        })
    }

    /// Makes all attempts. `last_error` is the error of the last attempt that ended without a
    /// response.
    async fn call(
        &self,
        call: &HttpCall<'_>,
        last_error: &mut Option<DeliveryError>,
    ) -> Result<HookResponse, DeliveryError> {
        let hook = call.message.hook;
        let started = time::Instant::now();
        let attempts = if hook.is_blocking() || hook == HookName::PostReceive {
            self.settings.attempts
        } else {
            1
        };
        let mut nth = 1;
        loop {
            let outcome = self.attempt(call).await;
            let would_be_late =
                started.elapsed().saturating_add(self.settings.backoff) >= self.settings.timeout;
            let is_last = nth >= attempts || would_be_late;
            let failure = match outcome {
                Ok(raw) if is_last || !raw.status.is_server_error() => {
                    return self.classifier.classify(hook, &raw);
                }
                Ok(raw) => classify::unexpected(&raw),
                Err(error) if error.may_retry && !is_last => error.failure,
                Err(error) => return Err(error.failure),
            };
            tracing::debug!(%hook, id = call.message.id, attempt = nth, error = %failure, "HookRetry");
            *last_error = Some(failure);
            time::sleep(self.settings.backoff).await;
            nth += 1;
        }
    }

    async fn attempt(&self, call: &HttpCall<'_>) -> Result<RawResponse, AttemptError> {
        let _permit = self.calls.acquire().await?;
        let mut hop = Hop::first(&self.endpoint);
        for _ in 0..=MAX_REDIRECTS {
            let request = hop.request(call);
            let response = self.client_for(&hop)?.send(request).await?;
            if self.redirects.is_none() {
                return self.read(response).await;
            }
            let next = hop.next(&self.endpoint, response.status(), response.headers())?;
            match next {
                None => return self.read(response).await,
                Some(next) => hop = next,
            }
        }
        let text = format!("the hook endpoint redirects more than {MAX_REDIRECTS} times");
        Err(DeliveryError::new(text).into())
    }

    /// Returns the client for a hop. Hops to other hosts use the client with the address policy.
    fn client_for(&self, hop: &Hop) -> Result<&Client, AttemptError> {
        let redirects = self.redirects.as_ref();
        let Some(redirects) = redirects.filter(|_| !hop.is_at(&self.endpoint)) else {
            return Ok(&self.client);
        };
        let is_checked = redirects.policy.check_literal(&hop.url)?;
        if !is_checked && self.settings.proxies.for_uri(&hop.uri).is_some() {
            let text = "a redirect to another host is not followed through a proxy, which resolves \
                        its address";
            return Err(DeliveryError::new(text).into());
        }
        Ok(&redirects.client)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<RawResponse, AttemptError> {
        let (head, body) = response.into_parts();
        let reading = read_body(body, self.classifier.limit);
        let is_ignored =
            self.classifier.format == Format::V1 && head.status < StatusCode::BAD_REQUEST;
        let body = if is_ignored {
            // Only the status counts, unless the sender dies.
            let drained = time::timeout(DRAIN_TIMEOUT, reading).await;
            drained.unwrap_or(Ok(Body::default()))
        } else {
            reading.await
        };
        // These statuses deny without a body, too.
        let is_denied = self.classifier.format != Format::V2 && head.status.is_client_error();
        let body = match body {
            Err(_) if is_denied => Body::default(),
            body => body.map_err(|error| AttemptError {
                failure: DeliveryError::caused_by(
                    "failed to read the hook endpoint's response",
                    error,
                ),
                may_retry: true,
            })?,
        };
        Ok(RawResponse {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

#[async_trait]
impl Transport for Http {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let call = HttpCall {
            http: self,
            message,
            body: Bytes::from(format::body(self.classifier.format, message)),
            cross_origin_body: OnceLock::new(),
        };
        let mut last_error = None;
        let calling = time::timeout(self.settings.timeout, self.call(&call, &mut last_error)).await;
        calling.unwrap_or_else(|_| {
            let limit = self.settings.timeout;
            let before = last_error.map(|failure| format!("; previous error: {failure}"));
            let before = before.unwrap_or_default();
            let text = format!("the hook endpoint did not respond within {limit:?}{before}");
            Err(DeliveryError::new(text))
        })
    }

    fn event_headers(&self) -> EventHeaders {
        EventHeaders::default().with(&self.settings.forward_headers)
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        match time::timeout(CHECK_TIMEOUT, self.client.touch(self.endpoint.uri.clone())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let what = "could not connect to the hook endpoint";
                Err(DeliveryError::caused_by(what, error))
            }
            Err(_) => {
                let text =
                    format!("could not connect to the hook endpoint within {CHECK_TIMEOUT:?}");
                Err(DeliveryError::new(text))
            }
        }
    }
}

/// Parses the names of headers to forward. Some cannot be forwarded, as in Go's client.
fn forwarded(names: &[String]) -> Result<Vec<HeaderName>, SettingsError> {
    let mut headers = Vec::new();
    let names = names.iter().map(|name| name.trim());
    for name in names.filter(|name| !name.is_empty()) {
        let invalid = |_| {
            let text = format!("invalid name of a header to forward: {name:?}");
            SettingsError(text)
        };
        let header = HeaderName::try_from(name).map_err(invalid)?;
        if redirect::is_reserved(&header) {
            tracing::warn!(%header, "this header is in the body of hooks only, and not forwarded as a header");
        } else if !headers.contains(&header) {
            headers.push(header);
        }
    }
    Ok(headers)
}
