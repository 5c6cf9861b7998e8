//! Requests to the ACME directory: HTTPS only, with timeouts and a size limit.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use landfall_net::{Proxies, client_config, system_certificates};
use parking_lot::Mutex;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_RESPONSE: usize = 1024 * 1024;

/// An HTTPS client of an ACME directory. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: Arc<landfall_net::Client<BodyWrapper<Bytes>>>,
    /// Of the last response that asked to wait.
    retry_at: Arc<Mutex<Option<SystemTime>>>,
}

impl Client {
    pub(crate) fn new() -> Result<Self, String> {
        let roots = system_certificates(true)
            .map_err(|error| format!("cannot read the authorities of the system: {error}"))?;
        let tls = client_config(roots).map_err(|error| error.to_string())?;
        Ok(Self {
            http: landfall_net::Client::new(&tls, Proxies::from_env()).into(),
            retry_at: Arc::default(),
        })
    }

    /// Returns, once, how long the directory asked to wait.
    pub(crate) fn take_retry_after(&self) -> Option<Duration> {
        let at = self.retry_at.lock().take()?;
        at.duration_since(SystemTime::now()).ok()
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let host = request.uri().authority().map(ToString::to_string);
        let host = host.unwrap_or_default();
        let client = self.clone();
        let exchange = async move {
            // The directory and its responses name the URLs.
            if request.uri().scheme_str() != Some("https") {
                return Err("it has no https:// URL".to_owned());
            }
            let response = client.http.send(request, MAX_RESPONSE, REQUEST_TIMEOUT);
            let (parts, body) = response.await?.into_parts();
            if matches!(
                parts.status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            ) {
                *client.retry_at.lock() = retry_at(&parts.headers, SystemTime::now());
            }
            if is_foreign_error(parts.status, &parts.headers) {
                return Err(format!("it responded {}", parts.status));
            }
            let body = Box::new(body);
            Ok(BytesResponse { parts, body })
        };
        Box::pin(async move {
            exchange.await.map_err(|reason| {
                let text = format!("cannot reach {host}: {reason}");
                Error::Other(io::Error::other(text).into())
            })
        })
    }
}

/// Of a proxy or load balancer: ACME errors are problem documents (RFC 8555 section 6.7).
fn is_foreign_error(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let is_problem =
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    (status.is_client_error() || status.is_server_error()) && !is_problem
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_at(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u32>() {
        Ok(seconds) => Some(now + Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(value).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_proxy_are_not_parsed() {
        let is_foreign = |status, kind: &'static str| {
            let kind = [(header::CONTENT_TYPE, kind.parse().unwrap())];
            is_foreign_error(status, &HeaderMap::from_iter(kind))
        };
        assert!(is_foreign(StatusCode::BAD_GATEWAY, "text/html"));
        assert!(!is_foreign(
            StatusCode::BAD_REQUEST,
            "application/problem+json"
        ));
        assert!(!is_foreign(StatusCode::OK, "application/json"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let parsed = |value: &str| {
            let headers = [(header::RETRY_AFTER, value.parse().unwrap())];
            let at = retry_at(&HeaderMap::from_iter(headers), now)?;
            Some(at.duration_since(now).unwrap().as_secs())
        };
        assert_eq!(parsed("120"), Some(120));
        let date = httpdate::fmt_http_date(now + Duration::from_secs(60));
        assert_eq!(parsed(&date), Some(60));
        assert_eq!(parsed("soon"), None);
        assert_eq!(parsed("99999999999"), None);
    }
}
