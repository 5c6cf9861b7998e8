//! Interim responses (1xx) of HTTP/1.1, which hyper's server cannot send.
//!
//! They are written to the socket where hyper flushes it: hyper then has nothing left to write.
//! The service runs in the connection's task, and hyper flushes after it has polled the service. A service that
//! responds at once is polled again after that, so that its client gets the announcement. A client that
//! does not read costs no more memory than two responses: one that it has received in part, which must be
//! completed before anything else is written, and one that waits, which a newer one replaces. hyper's
//! connection may be replaced meanwhile (see [`handover`](super::handover)), since both belong to the
//! connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, header};
use landfall::service::InterimSender;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::rejection::write_fields;
use super::timeouts::ConnectionActivity;

#[derive(Debug)]
struct ConnectionInterim {
    queue: Arc<InterimQueue>,
    activity: Arc<ConnectionActivity>,
    number: u32,
}

impl InterimSender for ConnectionInterim {
    fn send(&self, response: Response<()>) {
        if self.queue.push(self.number, &response) {
            // Also for a call from another task.
            self.activity.wake();
        }
    }
}

/// The interim responses of a connection.
#[derive(Debug, Default)]
pub(super) struct InterimQueue(Mutex<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    /// The request that has no final response yet, by its number.
    open_for: Option<u32>,
    waiting: Option<WaitingResponse>,
    /// The rest of a response that has been written in part.
    partial: Bytes,
}

#[derive(Debug)]
struct WaitingResponse {
    head: Bytes,
    has_location: bool,
}

impl InterimQueue {
    /// Returns a sender for the current request.
    pub(super) fn open(
        self: Arc<Self>,
        activity: Arc<ConnectionActivity>,
    ) -> Arc<dyn InterimSender> {
        let number = activity.request_number();
        self.0.lock().open_for = Some(number);
        Arc::new(ConnectionInterim {
            queue: self,
            activity,
            number,
        })
    }

    /// Returns whether there is something to write.
    fn push(&self, request: u32, response: &Response<()>) -> bool {
        let mut state = self.0.lock();
        if state.open_for != Some(request) || !response.status().is_informational() {
            return false;
        }
        let has_location = response.headers().contains_key(header::LOCATION);
        let waiting = state.waiting.as_ref();
        if waiting.is_some_and(|waiting| waiting.has_location && !has_location) {
            return false;
        }
        let head = encode(response);
        state.waiting = Some(WaitingResponse { head, has_location });
        true
    }

    /// Returns whether a response with `Location` waits.
    pub(super) fn has_announcement(&self) -> bool {
        let state = self.0.lock();
        let waiting = state.waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.has_location)
    }

    /// The final response comes next: drops what has not left.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        (state.open_for, state.waiting) = (None, None);
    }

    /// Writes the rest of a response. Then, if `starts`, also the one that waits.
    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        mut stream: Pin<&mut impl AsyncWrite>,
        activity: &ConnectionActivity,
        starts: bool,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        loop {
            let is_new = state.partial.is_empty();
            let bytes = match &state.waiting {
                _ if !is_new => state.partial.clone(),
                Some(waiting) if starts => waiting.head.clone(),
                _ => return Poll::Ready(Ok(())),
            };
            let n = ready!(stream.as_mut().poll_write(cx, &bytes))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            activity.add_written(n);
            state.partial = bytes.slice(n..);
            if is_new {
                state.waiting = None;
            }
        }
    }
}

fn encode(response: &Response<()>) -> Bytes {
    let status = response.status();
    let reason = match status.as_u16() {
        104 => "Upload Resumption Supported",
        _ => status.canonical_reason().unwrap_or_default(),
    };
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    write_fields(&mut head, response.headers());
    head.into()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::StatusCode;

    use super::*;

    /// Takes so many bytes of each write, and then none.
    #[derive(Default)]
    struct Narrow {
        takes: Vec<usize>,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match self.takes.pop() {
                Some(n) => {
                    let n = n.min(bytes.len());
                    self.taken.extend_from_slice(&bytes[..n]);
                    Poll::Ready(Ok(n))
                }
                None => Poll::Pending,
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn response(name: &'static str, value: &str) -> Response<()> {
        let response = Response::builder().status(104).header(name, value);
        response.body(()).unwrap()
    }

    fn write(queue: &InterimQueue, stream: &mut Narrow, starts: bool) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let activity = ConnectionActivity::default();
        let outcome = queue.poll_write(&mut cx, Pin::new(stream), &activity, starts);
        outcome.map(Result::unwrap).is_ready()
    }

    fn open_for(number: u32) -> InterimQueue {
        let queue = InterimQueue::default();
        queue.0.lock().open_for = Some(number);
        queue
    }

    #[test]
    fn a_started_response_is_completed_and_the_newest_follows() {
        let queue = open_for(1);
        assert!(queue.push(1, &response("upload-offset", "1")));
        let mut stream = Narrow::default();
        assert!(!write(&queue, &mut stream, true), "it takes nothing yet");
        assert!(queue.push(1, &response("upload-offset", "2")));
        stream.takes = vec![20];
        assert!(!write(&queue, &mut stream, true));
        for offset in ["3", "4"] {
            assert!(queue.push(1, &response("upload-offset", offset)));
        }
        // Before bytes of hyper.
        stream.takes = vec![10; 5];
        assert!(write(&queue, &mut stream, false));
        stream.takes = vec![100];
        assert!(write(&queue, &mut stream, true));
        let head = |offset| {
            format!("HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: {offset}\r\n\r\n")
        };
        assert_eq!(String::from_utf8(stream.taken).unwrap(), head(2) + &head(4));
    }

    #[test]
    fn a_location_is_not_replaced_by_a_response_without() {
        let queue = open_for(1);
        assert!(queue.push(1, &response("location", "/a")));
        assert!(!queue.push(1, &response("upload-offset", "1")));
        assert!(queue.push(1, &response("location", "/b")));
        let mut stream = Narrow {
            takes: vec![100],
            taken: Vec::new(),
        };
        assert!(write(&queue, &mut stream, true));
        assert!(stream.taken.ends_with(b"Location: /b\r\n\r\n"));
    }

    #[test]
    fn nothing_starts_after_the_final_response() {
        let queue = open_for(1);
        assert!(queue.push(1, &response("location", "/a")));
        queue.close();
        assert!(!queue.push(1, &response("location", "/a")));
        queue.0.lock().open_for = Some(2);
        assert!(!queue.push(1, &response("location", "/a")));
        let mut stream = Narrow::default();
        assert!(write(&queue, &mut stream, true));
        let mut last = response("location", "/a");
        *last.status_mut() = StatusCode::OK;
        assert!(!queue.push(2, &last));
        assert_eq!(stream.taken, b"");
    }
}
