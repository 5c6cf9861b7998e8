//! The needs of sources of credentials: variables, small files, and requests to AWS's services.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use landfall_objects::exchange;
use serde::de::DeserializeOwned;

use super::HttpSend;

/// Timeout of a request to a token or metadata service.
pub(super) const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// The most of the output of a service or program in an error.
const MAX_QUOTE: usize = 300;

/// A sentence for the log in case of an error.
pub(super) type ProviderResult<T> = Result<T, String>;

pub(super) type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Variables and HTTP, which tests replace.
pub(super) struct ProviderContext {
    pub(super) http: Arc<dyn HttpSend>,
    pub(super) variables: Variables,
}

impl fmt::Debug for ProviderContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderContext").finish_non_exhaustive()
    }
}

impl ProviderContext {
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name)
    }

    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
    ) -> ProviderResult<T> {
        parse(&self.body(request, Bytes::new()).await?)
    }

    pub(super) async fn text(&self, request: http::request::Builder) -> ProviderResult<String> {
        let body = self.body(request, Bytes::new()).await?;
        let text = String::from_utf8(body.into()).map_err(|error| error.to_string())?;
        Ok(text.trim().to_owned())
    }

    /// Returns the body of a response of 2xx.
    pub(super) async fn body(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> ProviderResult<Bytes> {
        let request = request.body(body).map_err(|error| error.to_string())?;
        let done = exchange(&self.http, request, HTTP_TIMEOUT).await;
        let (head, body) = done.map_err(|error| error.to_string())?.into_parts();
        match head.status.is_success() {
            true => Ok(body),
            false => Err(format!("{} {}", head.status, quoted(&body))
                .trim_end()
                .to_owned()),
        }
    }
}

/// Parses JSON that contains secrets, which errors do not repeat.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> ProviderResult<T> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let kind = match error.classify() {
            serde_json::error::Category::Data => "JSON without the expected fields",
            _ => "no JSON",
        };
        format!("it returned {kind} (line {line}, column {column})")
    })
}

pub(super) fn read_text(path: &str) -> ProviderResult<String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(text.trim().to_owned())
}

/// Returns the start of the output of a service or program, in one line.
pub(super) fn quoted(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let parts: Vec<_> = text.split_whitespace().collect();
    parts.join(" ").chars().take(MAX_QUOTE).collect()
}
