//! HTTP/1.1 of the reference server of the draft: fields as it reads them, and interim responses.

use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

pub(super) use crate::reference::http::Reply as Response;
use crate::reference::http::{Head, Http};

pub(super) struct Request(Head);

impl std::ops::Deref for Request {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.0
    }
}

impl Request {
    /// Returns all lines of a field, joined.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let lines: Vec<_> = self.all(name).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// Returns the value of an Item without its parameters.
    fn item(&self, name: &str) -> Option<String> {
        let value = self.field(name)?;
        let item = value.split(';').next().unwrap_or_default();
        Some(item.trim().to_owned())
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        match self.item(name)?.as_str() {
            "?0" => Some(false),
            "?1" => Some(true),
            _ => None,
        }
    }

    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        let value = self.item(name)?;
        let is_integer =
            (1..=15).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
        value.parse().ok().filter(|_| is_integer)
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        let length = || self.field("content-length");
        match self.field("transfer-encoding") {
            Some(_) => None,
            None => Some(length().map_or(0, |length| length.parse().unwrap())),
        }
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.field("expect").is_some()
    }
}

pub(super) struct Connection {
    http: Http,
    is_head: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (http, is_head) = (Http::new(stream), false);
        Self { http, is_head }
    }

    pub(super) async fn request(&mut self) -> io::Result<Request> {
        let head = self.http.head().await?;
        // The server decides when it sends 100.
        self.http.expects = false;
        self.is_head = head.method == "HEAD";
        Ok(Request(head))
    }

    /// Returns the next bytes of the content, `None` at its end. Cancel safe.
    pub(super) async fn content(&mut self) -> io::Result<Option<Vec<u8>>> {
        let piece = self.http.piece().await?;
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Sends an interim response.
    pub(super) async fn interim(&mut self, response: &Response) -> io::Result<()> {
        self.http.stream.write_all(response.head().as_bytes()).await
    }

    /// Sends the response; returns whether the connection can be used further.
    pub(super) async fn respond(&mut self, mut response: Response) -> io::Result<bool> {
        let is_read = self.http.is_read();
        if !is_read {
            response = response.with("Connection", "close");
        }
        let has_content = response.status != 204 && !self.is_head;
        if has_content {
            let length = response.body.len();
            response = response.with("Content-Length", length);
        }
        let mut bytes = response.head().into_bytes();
        if has_content {
            bytes.extend_from_slice(&response.body);
        }
        self.http.stream.write_all(&bytes).await?;
        if !is_read {
            self.http.stream.shutdown().await?;
            // Closing with unread data would reset the connection, and the response with it.
            let drain = async { while self.http.read_more().await.is_ok() {} };
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drain).await;
        }
        Ok(is_read)
    }
}
