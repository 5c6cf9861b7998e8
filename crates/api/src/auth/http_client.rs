//! An HTTP client for key sets and forward auth.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use landfall::runtime::PerRuntime;
use landfall_messages::error_chain;
use landfall_net::{Connector, Proxies};
use tokio::time::timeout;
use url::Url;

use super::SettingsError;

/// Idle timeout of pooled connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum idle connections per host and runtime.
const MAX_IDLE_PER_HOST: usize = 8;

type Connections = legacy::Client<Connector, Empty<Bytes>>;

/// Sends requests to one URL, without following redirects.
pub(super) struct HttpClient {
    url: Uri,
    connector: Connector,
    proxies: Proxies,
    by_runtime: PerRuntime<Connections>,
}

impl HttpClient {
    pub(super) fn new(url: &str) -> Result<Self, SettingsError> {
        let wrong = || {
            let url = without_secrets(url);
            let expected = "it must start with http:// or https:// and have no password";
            SettingsError(format!("invalid URL {url:?}; {expected}"))
        };
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let has_password = !parsed.username().is_empty() || parsed.password().is_some();
        if !matches!(parsed.scheme(), "http" | "https") || has_password {
            return Err(wrong());
        }
        let uri = Uri::try_from(parsed.as_str()).map_err(|_| wrong())?;
        let tls = landfall_net::system_certificates(parsed.scheme() == "https")
            .and_then(landfall_net::client_config)
            .map_err(|error| {
                SettingsError(format!(
                    "failed to read the system's root certificates: {error}"
                ))
            })?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let proxies = Proxies::from_env();
        Ok(Self {
            url: uri,
            connector: landfall_net::connector(&tls, proxies.clone(), tcp),
            proxies,
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
        self.proxies.authorize(&mut request);
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
