//! One connection of any version of HTTP: its requests, their responses, and the heads before them.
//!
//! It knows no version: each has a [`RawConnection`] for its bytes.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::{Client, ClientError, Request, Response};

pub(super) const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
pub(super) const TOO_LONG: ClientError =
    ClientError::Malformed("the body of the response is too long");
const MAX_INTERIM_RESPONSES: usize = 1000;
const WRITE_BYTES: usize = 64 * 1024;

/// The bytes of a version of HTTP.
#[async_trait]
pub(super) trait RawConnection: Send {
    /// Starts a request, and returns the bytes of its head that are not sent yet.
    async fn start(
        &mut self,
        request: &Request,
        given: &[(String, String)],
    ) -> Result<Vec<u8>, ClientError>;

    /// Sends bytes as they are; over HTTP/2 and 3, bytes of the content of the newest request.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError>;

    /// Sends bytes while reading, so that neither side waits for the other longer than `limit`, until the final
    /// response arrives.
    async fn write_or_read(&mut self, bytes: &[u8], limit: Duration) -> Result<(), ClientError>;

    /// Returns whether the head of a final response has arrived.
    fn has_response(&self) -> bool;

    /// Takes the next head that has arrived; with `only_interim`, the final one stays.
    fn take_head(&mut self, only_interim: bool) -> Result<Option<Response>, ClientError>;

    /// Waits for more of a head. Cancel safe.
    async fn receive(&mut self) -> Result<(), ClientError>;

    /// Reads the body that follows a head.
    async fn body(&mut self, head: &Response, has_body: bool) -> Result<Vec<u8>, ClientError>;

    /// Closes the sending half.
    async fn half_close(&mut self) -> Result<(), ClientError>;

    /// Closes the connection, or resets it (TCP RST), also with data that is not sent yet. Streams are always reset.
    fn end(self: Box<Self>, resets: bool);
}

/// A connection to the server. Dropping it closes it.
pub(crate) struct Connection {
    raw: Box<dyn RawConnection>,
    client: Client,
    /// Requests whose responses have not been read.
    pending: VecDeque<Request>,
}

impl Connection {
    pub(super) fn new(raw: impl RawConnection + 'static, client: Client) -> Self {
        Self {
            raw: Box::new(raw),
            client,
            pending: VecDeque::new(),
        }
    }

    /// Records and starts a request, and returns the rest of its head.
    async fn start(&mut self, request: &Request) -> Result<Vec<u8>, ClientError> {
        let given = self.client.given_fields(&request.url);
        self.client.transcript().push(request.transcript(given));
        let started = timeout(self.client.timeout(), self.raw.start(request, given)).await;
        let head = started.map_err(|_| ClientError::Timeout("to accept a request"))??;
        self.pending.push_back(request.clone());
        Ok(head)
    }

    /// Sends the head of a request.
    pub(crate) async fn send_head(&mut self, request: &Request) -> Result<(), ClientError> {
        let head = self.start(request).await?;
        self.write(&head).await
    }

    /// Sends bytes as they are; over HTTP/2 and 3, bytes of the content of the newest request.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let sent = timeout(self.client.timeout(), self.raw.write(bytes)).await;
        sent.map_err(|_| ClientError::Timeout("to accept data"))?
    }

    /// Sends the rest of a request, and returns the response.
    pub(crate) async fn finish(&mut self, rest: &[u8]) -> Result<Response, ClientError> {
        self.write(rest).await?;
        self.response().await
    }

    /// Sends a request and returns the response. The response may come before the request is sent.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Response, ClientError> {
        let mut bytes = self.start(request).await?;
        bytes.extend(request.encoded_body());
        let mut sent = Ok(());
        for piece in bytes.chunks(WRITE_BYTES) {
            if sent.is_err() || self.raw.has_response() {
                break;
            }
            sent = self.raw.write_or_read(piece, self.client.timeout()).await;
        }
        // A server that has responded may have closed its side: the response matters.
        match (self.response().await, sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(error)) => Err(error),
            (Err(error), Ok(())) => Err(error),
        }
    }

    /// Sends a part of the content while reading. Returns false if it is useless: the response is there, or will never be.
    pub(crate) async fn send_part(&mut self, bytes: &[u8]) -> bool {
        let limit = self.client.timeout();
        !self.raw.has_response() && self.raw.write_or_read(bytes, limit).await.is_ok()
    }

    /// Waits for the response, and leaves it to be read. Returns whether it is there, or will never be.
    pub(crate) async fn has_ended(&mut self, limit: Duration) -> bool {
        let ended = async { while !self.raw.has_response() && self.raw.receive().await.is_ok() {} };
        timeout(limit, ended).await.is_ok()
    }

    /// Waits for an interim response with this status; `None` if another response comes first.
    pub(crate) async fn interim(&mut self, status: u16, limit: Duration) -> Option<Response> {
        let interim = async {
            loop {
                match self.raw.take_head(true) {
                    Ok(Some(head)) => {
                        self.client.record_head(self.pending.front(), &head);
                        if head.status == status {
                            return Some(head);
                        }
                    }
                    Ok(None) if !self.raw.has_response() => self.raw.receive().await.ok()?,
                    _ => return None,
                }
            }
        };
        timeout(limit, interim).await.ok().flatten()
    }

    /// Reads the response to the oldest request, with its interim responses.
    pub(crate) async fn response(&mut self) -> Result<Response, ClientError> {
        self.response_within(self.client.timeout()).await
    }

    /// Reads the response to the oldest request if it arrives in this time.
    pub(crate) async fn response_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let read = timeout(limit, self.read_response()).await;
        let result = read.unwrap_or(Err(ClientError::Timeout("to respond")));
        let request = self.pending.pop_front();
        self.client.record_end(request.as_ref(), &result);
        result
    }

    /// Reads one head, which may be that of an interim response.
    pub(crate) async fn interim_within(
        &mut self,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let head = timeout(limit, self.read_head()).await;
        let head = head.unwrap_or(Err(ClientError::Timeout("to respond")))?;
        self.client.record_head(self.pending.front(), &head);
        Ok(head)
    }

    async fn read_head(&mut self) -> Result<Response, ClientError> {
        loop {
            match self.raw.take_head(false)? {
                Some(head) => return Ok(head),
                None => self.raw.receive().await?,
            }
        }
    }

    async fn read_response(&mut self) -> Result<Response, ClientError> {
        let mut interim = Vec::new();
        let mut response = loop {
            let head = self.read_head().await?;
            if !is_interim(head.status) {
                break head;
            }
            if interim.len() == MAX_INTERIM_RESPONSES {
                return Err(ClientError::Malformed("too many interim responses"));
            }
            interim.push(head);
        };
        response.interim = interim;
        let oldest = self.pending.front();
        let is_head = oldest.is_some_and(|request| request.method == "HEAD");
        let has_body = !is_head && !matches!(response.status, 204 | 304);
        response.body = self.raw.body(&response, has_body).await?;
        Ok(response)
    }

    /// Closes the sending half: no more data comes, but responses can be read.
    pub(crate) async fn half_close(&mut self) -> Result<(), ClientError> {
        self.record("sending half closed");
        self.raw.half_close().await
    }

    /// Resets the connection (TCP RST), also with data that is not sent yet; over HTTP/2 and 3, its streams.
    pub(crate) fn reset(self) {
        self.record("connection reset");
        self.raw.end(true);
    }

    /// Closes the connection.
    pub(crate) fn close(self) {
        self.record("connection closed");
        self.raw.end(false);
    }

    fn record(&self, step: &str) {
        self.client.transcript().push(format!("> ({step})\n"));
    }
}

pub(super) const fn is_interim(status: u16) -> bool {
    matches!(status, 100..=199) && status != 101
}
