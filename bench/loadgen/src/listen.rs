//! The server side of HTTP/1.1 that `bare-loop` and `receiver` share: a thread for each connection, and
//! requests that are as simple as what they are sent.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use crate::http::{Fault, find};

/// Stack of a connection's thread.
const STACK: usize = 64 << 10;

/// Serves each connection to a port of 127.0.0.1 on a thread of its own, until it is killed. One
/// that fails ends its thread, nothing else.
///
/// # Errors
/// When the port can't be bound.
pub(crate) fn serve(
    port: u16,
    handler: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Result<(), Fault> {
    let listener = TcpListener::bind(("127.0.0.1", port));
    let listener = listener.map_err(|error| format!("port {port}: {error}"))?;
    let handler = Arc::new(handler);
    for stream in listener.incoming().flatten() {
        let handler = Arc::clone(&handler);
        let connection = move || {
            let _ = handler(stream);
        };
        if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(connection) {
            eprintln!("loadgen: no thread for a connection: {error}");
        }
    }
    Ok(())
}

/// A connection and what came on it that isn't used yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// The connection.
    pub(crate) stream: TcpStream,
    /// The first [`Inbox::filled`] bytes came and aren't used yet.
    pub(crate) buffer: Vec<u8>,
    /// How much of the buffer is filled.
    pub(crate) filled: usize,
}

impl Inbox {
    /// A connection with room for `size` bytes that came early.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub(crate) fn new(stream: TcpStream, size: usize) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; size],
            filled: 0,
        })
    }

    /// Where the head ends that the buffer begins with; its last empty line is within. `None` when
    /// the connection is over.
    ///
    /// # Errors
    /// When the connection breaks, or the head doesn't fit.
    pub(crate) fn head(&mut self) -> io::Result<Option<usize>> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.buffer[searched..self.filled], b"\r\n\r\n") {
                return Ok(Some(searched + at + 4));
            }
            searched = self.filled.saturating_sub(3);
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    /// Where the body lies that follows the head, once all of it came. `None` when the connection
    /// is over.
    ///
    /// # Errors
    /// When the connection breaks, or the body doesn't fit.
    pub(crate) fn body(&mut self, head: usize, length: usize) -> io::Result<Option<Range<usize>>> {
        while self.filled - head < length {
            if !self.more()? {
                return Ok(None);
            }
        }
        Ok(Some(head..head + length))
    }

    fn more(&mut self) -> io::Result<bool> {
        if self.filled == self.buffer.len() {
            let _ = self
                .stream
                .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let count = self.stream.read(&mut self.buffer[self.filled..])?;
        self.filled += count;
        Ok(count > 0)
    }

    /// Lets go of the first bytes of the buffer; the next request may have begun behind them.
    pub(crate) fn used(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }
}
