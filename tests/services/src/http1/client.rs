use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{Message, Received, TIMEOUT};

/// A connection whose calls do not block.
#[derive(Debug)]
pub struct AsyncClient<S> {
    /// For what this type does not do.
    pub stream: S,
    received: Received,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncClient<S> {
    /// Uses a connection.
    pub fn new(stream: S) -> Self {
        let received = Received::default();
        Self { stream, received }
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(TIMEOUT, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("nothing is read").unwrap();
    }

    /// Reads the next response; `None` if the connection ends before one starts.
    pub async fn answer(&mut self) -> Option<Message> {
        self.answer_to("GET").await
    }

    /// [`Self::answer`] to a request with this method.
    pub async fn answer_to(&mut self, method: &str) -> Option<Message> {
        let read = timeout(TIMEOUT, self.read(method)).await;
        read.expect("no answer came")
    }

    /// Reads the next message without a time limit. `method` is that of the request that a response is for.
    pub async fn read(&mut self, method: &str) -> Option<Message> {
        loop {
            if let Some(message) = self.received.take(method) {
                return Some(message);
            }
            if self.fill().await.unwrap_or(0) == 0 {
                let rest = String::from_utf8_lossy(&self.received.0);
                assert_eq!(rest, "", "a part of a message");
                return None;
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.received.0).await
    }

    /// Sends a request and reads its response.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await.expect("closed without an answer")
    }

    /// Returns whether the server closes the connection without another byte.
    pub async fn closed(&mut self) -> bool {
        assert_eq!(String::from_utf8_lossy(&self.received.0), "");
        match timeout(TIMEOUT, self.fill()).await {
            Ok(Ok(n)) => n == 0,
            Ok(Err(_)) => true,
            Err(_) => panic!("the connection is still open"),
        }
    }

    /// Returns whether nothing happens on the connection for a while.
    pub async fn quiet(&mut self, time: Duration) -> bool {
        timeout(time, self.fill()).await.is_err()
    }
}
