//! An HTTP client for key sets and forward auth.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use landfall::runtime::PerRuntime;
use landfall_messages::error_chain;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::timeout;
use url::Url;

use super::SettingsError;

/// Idle timeout of pooled connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum idle connections per host and runtime.
const MAX_IDLE_PER_HOST: usize = 8;

type Connections = legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Sends requests to one URL, without following redirects.
pub(super) struct HttpClient {
    url: Uri,
    connector: HttpsConnector<HttpConnector>,
    by_runtime: PerRuntime<Connections>,
}

impl HttpClient {
    pub(super) fn new(url: &str) -> Result<Self, SettingsError> {
        let wrong = || {
            let url = without_secrets(url);
            let expected = "it must start with http:// or https:// and have no password";
            SettingsError(format!("invalid URL {url:?}; {expected}"))
        };
        let no_roots = |error: &dyn fmt::Display| {
            SettingsError(format!(
                "failed to read the system's root certificates: {error}"
            ))
        };
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let has_password = !parsed.username().is_empty() || parsed.password().is_some();
        if !matches!(parsed.scheme(), "http" | "https") || has_password {
            return Err(wrong());
        }
        let uri = Uri::try_from(parsed.as_str()).map_err(|_| wrong())?;
        let builder = HttpsConnectorBuilder::new();
        let builder = if parsed.scheme() == "https" {
            builder
                .with_provider_and_native_roots(ring::default_provider())
                .map_err(|error| no_roots(&error))?
        } else {
            let config = ClientConfig::builder_with_provider(ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(|error| no_roots(&error))?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(config)
        };
        Ok(Self {
            url: uri,
            connector: builder.https_or_http().enable_http1().build(),
            by_runtime: PerRuntime::default(),
        })
    }

    /// Sends a request and reads a response of at most `max_bytes`. Errors are texts for the log.
    pub(super) async fn send(
        &self,
        mut request: Request<()>,
        max_bytes: usize,
        duration: Duration,
    ) -> Result<Response<Bytes>, String> {
        *request.uri_mut() = self.url.clone();
        let exchange = async {
            let sent = self.connections().request(request.map(|()| Empty::new()));
            let response = sent.await.map_err(|error| error_chain(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max_bytes).collect().await;
            let body = body.map_err(|error| format!("failed to read the response: {error}"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let response = timeout(duration, exchange).await;
        response.unwrap_or_else(|_| Err(format!("timed out after {duration:?}")))
    }

    fn connections(&self) -> Connections {
        self.by_runtime.get(|| {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
                .build(self.connector.clone())
        })
    }
}

impl fmt::Display for HttpClient {
    /// Writes the URL without query and credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(&self.url.to_string()))
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpClient({self})")
    }
}

fn without_secrets(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match (bare.split_once("://"), bare.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_urls_are_rejected_without_revealing_secrets() {
        for wrong in [
            "",
            "/a",
            "file:///a",
            "ftp://a",
            "http://",
            "http://u:secret@a/",
        ] {
            let error = HttpClient::new(wrong).unwrap_err().to_string();
            assert!(
                error.contains("http://") && !error.contains("secret"),
                "{error}"
            );
        }
        let web = HttpClient::new("http://a:1/b?key=secret").unwrap();
        assert_eq!(web.to_string(), "http://a:1/b");
        assert_eq!(format!("{web:?}"), "HttpClient(http://a:1/b)");
    }
}
