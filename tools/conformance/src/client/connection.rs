//! One connection, of the version of HTTP that the options choose.

use std::time::Duration;

use super::http1::Http1;
use super::streams::Streams;
use super::{ClientError, Request, Response};

/// A connection to the server. Dropping it closes it.
pub(crate) enum Connection {
    Http1(Box<Http1>),
    Streams(Box<Streams>),
}

impl Connection {
    /// Sends the head of a request.
    pub(crate) async fn send_head(&mut self, request: &Request) -> Result<(), ClientError> {
        match self {
            Self::Http1(connection) => connection.send_head(request).await,
            Self::Streams(streams) => streams.send_head(request).await,
        }
    }

    /// Sends bytes as they are; over HTTP/2 and 3, bytes of the content of the newest request.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        match self {
            Self::Http1(connection) => connection.write(bytes).await,
            Self::Streams(streams) => streams.write(bytes).await,
        }
    }

    /// Sends a request and returns the response. The response may come before the request is sent.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Response, ClientError> {
        match self {
            Self::Http1(connection) => connection.send(request).await,
            Self::Streams(streams) => streams.send(request).await,
        }
    }

    /// Reads the response to the oldest request, with its interim responses.
    pub(crate) async fn response(&mut self) -> Result<Response, ClientError> {
        match self {
            Self::Http1(connection) => connection.response().await,
            Self::Streams(streams) => streams.response().await,
        }
    }

    /// Reads the response to the oldest request if it arrives in this time.
    pub(crate) async fn response_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        match self {
            Self::Http1(connection) => connection.response_within(limit).await,
            Self::Streams(streams) => streams.response_within(limit).await,
        }
    }

    /// Reads one head, which may be that of an interim response.
    pub(crate) async fn interim_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        match self {
            Self::Http1(connection) => connection.interim_within(limit).await,
            Self::Streams(streams) => streams.interim_within(limit).await,
        }
    }

    /// Closes the sending half: no more data comes, but responses can be read.
    pub(crate) async fn half_close(&mut self) -> Result<(), ClientError> {
        match self {
            Self::Http1(connection) => connection.half_close().await,
            Self::Streams(_) => Err(ClientError::NeedsHttp1("a connection closed by half")),
        }
    }

    /// Resets the connection (TCP RST), also with data that is not sent yet; over HTTP/2 and 3, its streams.
    pub(crate) fn reset(self) {
        match self {
            Self::Http1(connection) => connection.reset(),
            Self::Streams(streams) => streams.reset(),
        }
    }

    /// Closes the connection.
    pub(crate) fn close(self) {
        match self {
            Self::Http1(connection) => connection.close(),
            Self::Streams(streams) => streams.close(),
        }
    }
}
