//! A TCP connection with TLS.
//!
//! tokio-rustls reads 4 KiB of the socket at a time, which costs four system calls for each record of a
//! large body. Here a read takes what the caller has space for, and fills that space.

use std::cell::RefCell;
use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{ClientCertificate, challenge};

/// Largest read of the socket.
const MAX_READ: usize = 256 * 1024;

/// Smallest one, which may leave plaintext for the next call.
const MIN_READ: usize = 4 * 1024;

/// Encrypted bytes that a client has not taken.
const MAX_UNSENT: usize = 32 * 1024;

const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 45\r\nConnection: close\r\n\r\nThis port needs TLS: use a URL with https://.";

thread_local! {
    /// Ciphertext within a call.
    static CIPHERTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The server's side.
#[derive(Debug)]
pub(in super::super) struct TlsStream {
    tcp: TcpStream,
    tls: ServerConnection,
    /// Plaintext that had no space, at most that of one record and of [`MIN_READ`].
    rest: Vec<u8>,
    is_new: bool,
    ended: bool,
}

impl TlsStream {
    pub(in super::super) fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(MAX_UNSENT));
        Ok(Self {
            tcp,
            tls,
            rest: Vec::new(),
            is_new: true,
            ended: false,
        })
    }

    /// Returns whether the client chose HTTP/2; `None` after a validation of ACME, which ends here.
    ///
    /// # Errors
    /// The client speaks no TLS, has no version or cipher in common, or closed the connection.
    pub(in super::super) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<bool>>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.tls.is_handshaking() {
                let protocol = self.tls.alpn_protocol();
                if protocol == Some(challenge::PROTOCOL) {
                    self.tls.send_close_notify();
                    let _ = self.poll_send(cx);
                    return Poll::Ready(Ok(None));
                }
                return Poll::Ready(Ok(Some(protocol == Some(b"h2"))));
            }
            let mut space = [const { std::mem::MaybeUninit::uninit() }; MIN_READ];
            let mut buf = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let mut none = ReadBuf::uninit(&mut []);
            let is_first = std::mem::take(&mut self.is_new);
            if is_first && buf.filled()[0].is_ascii_uppercase() {
                let _ = Pin::new(&mut self.tcp).poll_write(cx, PLAIN_HTTP);
                let kind = io::ErrorKind::InvalidData;
                return Poll::Ready(Err(io::Error::new(kind, "HTTP without TLS")));
            }
            if let Err(error) = self.decrypt(buf.filled(), &mut none) {
                // The alert that names the reason.
                let _ = self.poll_send(cx);
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Returns the certificate of a client whose handshake has ended.
    pub(in super::super) fn client_certificate(&self) -> Option<ClientCertificate> {
        let chain = self.tls.peer_certificates()?;
        chain.first().map(ClientCertificate::new)
    }

    fn decrypt(&mut self, mut ciphertext: &[u8], buf: &mut ReadBuf<'_>) -> io::Result<()> {
        while !ciphertext.is_empty() {
            if self.tls.read_tls(&mut ciphertext)? == 0 {
                // The client said that it sends no more.
                self.ended = true;
                return Ok(());
            }
            let state = self.tls.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let mut left = state.plaintext_bytes_to_read();
            let mut plaintext = self.tls.reader();
            while left > 0 {
                let chunk = plaintext.fill_buf()?;
                let fits = chunk.len().min(buf.remaining());
                buf.put_slice(&chunk[..fits]);
                self.rest.extend_from_slice(&chunk[fits..]);
                let taken = chunk.len();
                left -= taken;
                plaintext.consume(taken);
            }
            self.ended |= state.peer_has_closed();
        }
        Ok(())
    }

    fn copy_rest(&mut self, buf: &mut ReadBuf<'_>) {
        let fits = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..fits]);
        if fits == self.rest.len() {
            // A silent connection keeps no memory.
            self.rest = Vec::new();
        } else {
            self.rest.drain(..fits);
        }
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut socket = Socket {
                tcp: &mut self.tcp,
                cx,
            };
            match self.tls.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let before = buf.filled().len();
        me.copy_rest(buf);
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            while buf.remaining() > 0 && !me.ended {
                // Such as an answer to a change of keys. The waker waits for both directions.
                let _ = me.poll_send(cx)?;
                let wanted = buf.remaining().clamp(MIN_READ, MAX_READ);
                if ciphertext.len() < wanted {
                    ciphertext.resize(wanted, 0);
                }
                let mut read = ReadBuf::new(&mut ciphertext[..wanted]);
                match Pin::new(&mut me.tcp).poll_read(cx, &mut read)? {
                    Poll::Pending if buf.filled().len() > before => break,
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) if read.filled().is_empty() => me.ended = true,
                    Poll::Ready(()) => {
                        let read = read.filled();
                        if let Err(error) = me.decrypt(read, buf) {
                            let _ = me.poll_send(cx);
                            return Poll::Ready(Err(error));
                        }
                        if read.len() < wanted && buf.filled().len() > before {
                            break;
                        }
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// Takes as much as the buffer of rustls has space for.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let taken = self.tls.writer().write_vectored(slices)?;
            let sent = self.poll_send(cx)?;
            if taken > 0 || slices.iter().all(|slice| slice.is_empty()) {
                return Poll::Ready(Ok(taken));
            }
            ready!(sent);
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tls.send_close_notify();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// [`io::Write`] of a socket, which fails with `WouldBlock` and then wakes the task.
struct Socket<'a, 'b> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl io::Write for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, slices) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
