//! The additions of the JSON API to the calls of all clouds: tokens, JSON, the meaning of errors. It knows no operation.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, header::AUTHORIZATION, response::Parts};
use landfall::BoxError;
use landfall_objects::{
    CallRequest, Caller, CredentialCache, ErrorKind, Failure, ObjectHead, ObjectRef, ResponseBody,
    Result, Retry, Service, body_range, header_text,
};
use reqsign_google::Credential;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    client::Inner,
    credentials::{Source, TokenError},
    resource, response,
};

pub(crate) const GET: &str = "objects.get";

/// A request of the URL in it.
pub(crate) type ApiRequest<'a> = CallRequest<'a, String>;

/// Adds a body of JSON.
pub(crate) fn with_json<'a>(request: ApiRequest<'a>, body: &Value) -> Result<ApiRequest<'a>> {
    request.text("application/json", body.to_string())
}

impl Inner {
    /// Sends a request whose response is JSON.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, request: &ApiRequest<'_>) -> Result<T> {
        let response = self.send(request).await?;
        serde_json::from_slice(&response.body).map_err(|error| request.unexpected(error))
    }
}

#[async_trait]
impl Service for Inner {
    type Extra = String;
    type Source = Source;

    const GET: &'static str = GET;

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn credentials(&self) -> &CredentialCache<Source> {
        &self.credentials
    }

    async fn sign(
        &self,
        request: &ApiRequest<'_>,
        credential: Option<&Credential>,
        head: &mut http::request::Parts,
    ) -> Result<(), BoxError> {
        let mark = if request.query.is_empty() { "" } else { "?" };
        head.uri = format!("{}{mark}{}", request.extra, request.query).parse()?;
        if let Some(token) = credential.and_then(|credential| credential.token.as_ref()) {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.access_token))?;
            value.set_sensitive(true);
            head.headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    fn refusal(&self, request: &ApiRequest<'_>, head: &Parts, body: &Bytes) -> Failure {
        response::classify(request.bucket, head, body, |kind| request.error(kind))
    }

    fn no_credentials(&self, request: &ApiRequest<'_>, error: BoxError) -> Failure {
        let token = error.downcast_ref::<TokenError>();
        let (is_transient, is_absent) = token.map_or((false, false), |error| {
            (error.is_transient, error.is_absent)
        });
        let kind = match is_transient && !is_absent {
            true => ErrorKind::Unavailable { retry_after: None },
            false => ErrorKind::BadCredentials,
        };
        Failure {
            error: request.error(kind).with_message(error.to_string()),
            retry: if is_transient {
                Retry::Later(None)
            } else {
                Retry::No
            },
        }
    }

    /// The head has no metadata, which the service does not send with the bytes.
    async fn open(
        &self,
        object: &ObjectRef,
        range: Option<Range<u64>>,
        version: Option<&str>,
    ) -> Result<(ObjectHead, Range<u64>, ResponseBody)> {
        let mut request = self
            .object_request(GET, Method::GET, object)
            .query("alt", "media")
            .query_if("generation", version.and_then(resource::generation))
            // Without it, the service unpacks compressed objects.
            .header("accept-encoding", "gzip")?;
        if let Some(range) = &range {
            request = request.range("range", range)?;
        }
        let (head, body) = match self.open_body(&request).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchKey && version.is_some() => {
                let why = "the object has changed or was deleted during the download";
                let changed = request.error(ErrorKind::PreconditionFailed);
                return Err(changed.with_message(why));
            }
            opened => opened?,
        };
        let (given, size) = body_range(&head, range).map_err(|why| request.unexpected(why))?;
        let generation = header_text(&head.headers, "x-goog-generation");
        let generation = generation.and_then(|text| text.parse().ok());
        let head = ObjectHead {
            etag: generation.map(resource::version).unwrap_or_default(),
            ..Self::object_head(&head, size)
        };
        Ok((head, given, body))
    }
}
