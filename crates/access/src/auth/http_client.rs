//! An HTTP client for key sets and forward auth.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Empty;
use landfall_net::{Client, PerRuntime, Proxies, redacted_url};
use rustls::ClientConfig;
use url::Url;

use super::SettingsError;

/// Sends requests to one URL, without following redirects.
pub(super) struct HttpClient {
    url: Uri,
    tls: Arc<ClientConfig>,
    proxies: Proxies,
    by_runtime: PerRuntime<Arc<Client<Empty<Bytes>>>>,
}

impl HttpClient {
    pub(super) fn new(url: &str) -> Result<Self, SettingsError> {
        let wrong = || {
            let url = redacted_url(url);
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
        Ok(Self {
            url: uri,
            tls: tls.into(),
            proxies: Proxies::from_env(),
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
        let client = self
            .by_runtime
            .get(|| Client::new(&self.tls, self.proxies.clone()).into());
        let request = request.map(|()| Empty::new());
        client.send(request, max_bytes, duration).await
    }
}

impl fmt::Display for HttpClient {
    /// Writes the URL without query and credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted_url(&self.url.to_string()))
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpClient({self})")
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
        assert_eq!(web.to_string(), "http://a:1/b?***");
        assert_eq!(format!("{web:?}"), "HttpClient(http://a:1/b?***)");
    }
}
