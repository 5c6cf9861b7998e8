//! Questions to other servers: where keys are, and whom the application knows.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use landfall::runtime::PerRuntime;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::timeout;
use url::Url;

/// Connections that nobody used for this long are closed.
const IDLE: Duration = Duration::from_secs(30);

/// How many connections to a server are kept for the next question, for each runtime.
const KEPT: usize = 8;

type Connections = legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Sends requests to one URL. Follows no redirects.
pub(super) struct Web {
    url: Uri,
    connector: HttpsConnector<HttpConnector>,
    by_runtime: PerRuntime<Connections>,
}

/// A URL that nothing can be asked of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It isn't one for HTTP or HTTPS, or says more than where to go.
    #[error("{0:?} is not a URL that begins with http:// or https://, without a password in it")]
    NotHttp(String),
    /// Nobody can be trusted.
    #[error("the certificates of this machine can't be read: {0}")]
    NoRoots(std::io::Error),
}

impl Web {
    pub(super) fn new(url: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError::NotHttp(without_secrets(url));
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
                .map_err(UrlError::NoRoots)?
        } else {
            let config = ClientConfig::builder_with_provider(ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(|error| UrlError::NoRoots(std::io::Error::other(error)))?
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

    /// Sends a request, whose URL is filled in, and reads an answer of at most `most` bytes.
    ///
    /// # Errors
    /// What kept it from an answer, for the log.
    pub(super) async fn ask(
        &self,
        mut request: Request<()>,
        most: usize,
        patience: Duration,
    ) -> Result<Response<Bytes>, String> {
        *request.uri_mut() = self.url.clone();
        let exchange = async {
            let sent = self.connections().request(request.map(|()| Empty::new()));
            let (head, body) = sent.await.map_err(|error| causes(&error))?.into_parts();
            let body = Limited::new(body, most).collect().await;
            let body = body.map_err(|error| format!("the answer can't be read: {error}"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        timeout(patience, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    }

    fn connections(&self) -> Connections {
        self.by_runtime.get(|| {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(KEPT)
                .build(self.connector.clone())
        })
    }
}

impl fmt::Display for Web {
    /// The URL without what may be secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(&self.url.to_string()))
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Web({self})")
    }
}

fn without_secrets(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match (bare.split_once("://"), bare.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => bare.to_owned(),
    }
}

/// An error and all its causes, each once.
fn causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !told.ends_with(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        next = cause.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_asked() {
        for wrong in [
            "",
            "/a",
            "file:///a",
            "ftp://a",
            "http://",
            "http://u:secret@a/",
        ] {
            let error = Web::new(wrong).unwrap_err().to_string();
            assert!(
                error.contains("http://") && !error.contains("secret"),
                "{error}"
            );
        }
        let web = Web::new("http://a:1/b?key=secret").unwrap();
        assert_eq!(web.to_string(), "http://a:1/b");
        assert_eq!(format!("{web:?}"), "Web(http://a:1/b)");
    }
}
