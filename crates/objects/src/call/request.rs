//! The request of one call, without what each attempt adds: address, credentials, signature. It knows no service.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use landfall::BoxError;
use tokio_util::task::TaskTracker;

use super::{
    Response,
    encode::segment,
    error::{Error, ErrorKind, Result},
    headers::etag,
};
use crate::{object::ObjectRef, payload::Payload};

/// The request of a call, with the additions `X` of its service.
#[derive(Debug)]
pub struct CallRequest<'a, X> {
    /// The operation, as its service names it.
    pub operation: &'static str,
    /// The method.
    pub method: Method,
    /// The additions of this service.
    pub extra: X,
    /// The bucket; empty for the service itself.
    pub bucket: &'a str,
    /// The key of an object.
    pub key: Option<&'a str>,
    /// The parameters, encoded.
    pub query: String,
    /// The headers, besides those that every request has.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
    /// The bytes that the service works on before it responds, for the timeout.
    pub worked: u64,
    /// The tasks in which attempts run, to end even if the call is dropped.
    pub tasks: Option<TaskTracker>,
}

impl<'a, X> CallRequest<'a, X> {
    /// Creates a request about a bucket.
    pub fn new(operation: &'static str, method: Method, extra: X, bucket: &'a str) -> Self {
        Self {
            operation,
            method,
            extra,
            bucket,
            key: None,
            query: String::new(),
            headers: HeaderMap::new(),
            payload: Payload::default(),
            worked: 0,
            tasks: None,
        }
    }

    /// Names the object.
    #[must_use]
    pub fn about(mut self, object: &'a ObjectRef) -> Self {
        self.key = Some(&object.key);
        self
    }

    /// Sets the additions of this service.
    #[must_use]
    pub fn with(mut self, extra: X) -> Self {
        self.extra = extra;
        self
    }

    /// Sets headers.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Adds a parameter, whose name needs no encoding.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let and = if self.query.is_empty() { "" } else { "&" };
        self.query += &format!("{and}{name}={}", segment(value));
        self
    }

    /// Adds a parameter if it has a value.
    #[must_use]
    pub fn query_if(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(name, &value.to_string()),
            None => self,
        }
    }

    /// Adds the parameters of a page of a listing; an empty prefix is none.
    #[must_use]
    pub fn page(self, prefix: &str, token_name: &str, token: Option<&str>) -> Self {
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        self.query_if("prefix", prefix).query_if(token_name, token)
    }

    /// Sets a header.
    ///
    /// # Errors
    /// The value is invalid.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = self.header_value(name, value)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Converts the value of a header.
    ///
    /// # Errors
    /// The value is invalid.
    pub fn header_value(&self, name: &str, value: &str) -> Result<HeaderValue> {
        HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            let message = format!("invalid value of {name}: {value:?}");
            self.error(ErrorKind::Other).with_message(message)
        })
    }

    /// Sets a header to a range of bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`]: it is empty.
    pub fn range(self, name: &'static str, range: &Range<u64>) -> Result<Self> {
        let Range { start, end } = range;
        if start >= end {
            let message = format!("the range {start}..{end} is empty");
            return Err(self.error(ErrorKind::InvalidRange).with_message(message));
        }
        self.header(name, &format!("bytes={start}-{}", end - 1))
    }

    /// Sets the body.
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Sets a body of text.
    ///
    /// # Errors
    /// The content type is invalid.
    pub fn text(self, content_type: &str, text: String) -> Result<Self> {
        let request = self.header("content-type", content_type)?;
        Ok(request.payload(Bytes::from(text).into()))
    }

    /// Sets the bytes that the service works on before it responds.
    #[must_use]
    pub fn works(mut self, bytes: u64) -> Self {
        self.worked = bytes;
        self
    }

    /// Runs attempts in tasks, to end even if the call is dropped.
    #[must_use]
    pub fn tasks(mut self, tasks: Option<&TaskTracker>) -> Self {
        self.tasks = tasks.cloned();
        self
    }

    /// Returns an error of this call.
    pub fn error(&self, kind: ErrorKind) -> Error {
        let target = match self.key {
            Some(key) => format!("{}/{}", self.bucket, key.escape_debug()),
            None => self.bucket.to_owned(),
        };
        Error::new(kind, self.operation, target)
    }

    /// Returns the error of a response that cannot be read, or of a request that cannot be made.
    pub fn unexpected(&self, source: impl Into<BoxError>) -> Error {
        self.error(ErrorKind::Other).with_source(source)
    }

    /// Returns the entity tag of the object or part that was written.
    ///
    /// # Errors
    /// The response has none.
    pub fn etag(&self, response: &Response) -> Result<String> {
        etag(&response.head).ok_or_else(|| self.unexpected("the response has no ETag"))
    }
}
