//! The part of a client in its calls: addresses, signatures, and the meaning of errors. It makes no attempt.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, response::Parts};
use landfall::BoxError;

use super::{
    Caller, Failure, Response,
    credentials::{CredentialCache, LoadCredentials},
    error::{ErrorKind, Result},
    headers::{body_range, etag, header_text, modified},
    http_send::ResponseBody,
    request::CallRequest,
};
use crate::object::{ObjectHead, ObjectRef};

/// The credentials of a service.
pub type CredentialsOf<S> = <<S as Service>::Source as LoadCredentials>::Credentials;

/// A client of one service, to the engine of calls.
#[async_trait]
pub trait Service: Sized + Send + Sync + 'static {
    /// The additions to a request.
    type Extra: Default + Send + Sync;

    /// The source of credentials.
    type Source: LoadCredentials;

    /// The operation that opens an object.
    const GET: &'static str;

    /// Returns what makes the calls.
    fn caller(&self) -> &Caller;

    /// Returns the credentials.
    fn credentials(&self) -> &CredentialCache<Self::Source>;

    /// Sets the URI of an attempt, and adds the headers that the service wants, with the signature. The head has
    /// method and headers of `request`, and the user agent.
    ///
    /// # Errors
    /// Nothing is sent.
    async fn sign(
        &self,
        request: &CallRequest<'_, Self::Extra>,
        credentials: Option<&CredentialsOf<Self>>,
        head: &mut http::request::Parts,
    ) -> Result<(), BoxError>;

    /// Returns whether a response that was read whole is one of success.
    fn is_success(&self, _: &CallRequest<'_, Self::Extra>, head: &Parts, _: &Bytes) -> bool {
        head.status.is_success()
    }

    /// Classifies the response to an attempt that the service refused, and mends the cause if that is possible.
    fn refusal(
        &self,
        request: &CallRequest<'_, Self::Extra>,
        head: &Parts,
        body: &Bytes,
    ) -> Failure;

    /// Classifies the error of the source of credentials.
    fn no_credentials(&self, request: &CallRequest<'_, Self::Extra>, error: BoxError) -> Failure {
        let failed = request.error(ErrorKind::BadCredentials);
        failed.with_source(error).into()
    }

    /// Returns the name of user metadata that a header of an object contains.
    fn metadata_name(_header: &str) -> Option<String> {
        None
    }

    /// Reads the head of a response about an object of this size.
    fn object_head(head: &Parts, size: u64) -> ObjectHead {
        let headers = &head.headers;
        let metadata = headers.iter().filter_map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            Some((Self::metadata_name(name.as_str())?, value.into_owned()))
        });
        ObjectHead {
            size,
            etag: etag(head).unwrap_or_default(),
            modified: modified(headers),
            metadata: metadata.collect(),
            content_type: header_text(headers, "content-type").map(str::to_owned),
        }
    }

    /// Makes a call whose response is read whole.
    ///
    /// # Errors
    /// The error of the last attempt.
    async fn send(&self, request: &CallRequest<'_, Self::Extra>) -> Result<Response> {
        self.caller().run(self, request, false).await
    }

    /// Makes a call whose body, on success, is left to the caller.
    ///
    /// # Errors
    /// The error of the last attempt.
    async fn open_body(
        &self,
        request: &CallRequest<'_, Self::Extra>,
    ) -> Result<(Parts, ResponseBody)> {
        let Response { head, stream, .. } = self.caller().run(self, request, true).await?;
        let stream = stream.ok_or_else(|| request.unexpected("the response has no body"))?;
        Ok((head, stream))
    }

    /// Opens a range of an object, or all of it; only this version, if one is named.
    ///
    /// # Errors
    /// The error of the call, or the response has another range.
    async fn open(
        &self,
        object: &ObjectRef,
        range: Option<Range<u64>>,
        version: Option<&str>,
    ) -> Result<(ObjectHead, Range<u64>, ResponseBody)> {
        let extra = Self::Extra::default();
        let request = CallRequest::new(Self::GET, Method::GET, extra, &object.bucket);
        let mut request = request.about(object);
        if let Some(range) = &range {
            request = request.range("range", range)?;
        }
        if let Some(version) = version {
            request = request.header("if-match", version)?;
        }
        let (head, body) = self.open_body(&request).await?;
        let (given, size) = body_range(&head, range).map_err(|why| request.unexpected(why))?;
        Ok((Self::object_head(&head, size), given, body))
    }
}
