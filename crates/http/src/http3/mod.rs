//! HTTP/3 (RFC 9114), by h3 on quinn.
//!
//! A [`QuicListener`] has one UDP socket: the packets of a client whose address has changed arrive there,
//! too, and its connection goes on. A connection is served on one thread, as those of TCP are. There is no
//! 0-RTT: a replayed request would repeat its effect (RFC 8470).
//!
//! h3 is young, so nothing outside of this module depends on it, and what it does not limit is limited here:
//! the length of frames ([`frames`]), requests at once and the time of their heads ([`connection`]).

mod connection;
mod content;
mod exchange;
mod frames;
mod quic;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

pub(super) use connection::{ConnectionContext, serve_connection};
pub(super) use content::Http3Content;

use super::limits::ConnectionLimits;
use super::listener::no_ipv6_only;
use super::tls::Tls;

/// Bytes of all requests of a connection that a client may send before the service reads them,
const WINDOW: u64 = 2 << 20;
/// and for a long body that arrives fast: what 1 Gb/s sends in 130 ms. `ConnectionLimits::large_reads`
/// limits their number.
const LARGE_WINDOW: u64 = 16 << 20;

/// Bytes of all responses of a connection that are kept until the client confirms them.
const SEND_WINDOW: u64 = 1 << 20;

/// Control streams and those of QPACK, and some of unknown types.
const UNIDIRECTIONAL_STREAMS: u32 = 8;

/// Handshakes that wait for [`serve`](super::serve), and the bytes that they may send before.
const MAX_INCOMING: usize = 1024;
const MAX_INCOMING_BYTES: u64 = 16 << 20;

/// For bursts of packets; the kernel limits it to `net.core.rmem_max`.
const SOCKET_BUFFER: usize = 4 << 20;

/// How long a browser remembers that HTTP/3 is offered.
const ALT_SVC_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A UDP socket on which HTTP/3 is served.
#[derive(Debug)]
pub(super) struct QuicListener {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Tls,
}

impl QuicListener {
    /// # Errors
    /// The system rejects the address, or `tls` has no TLS 1.3.
    pub(super) fn bind(address: SocketAddr, tls: Tls) -> io::Result<Self> {
        let config = tls.quic_config().ok_or_else(|| {
            let reason = "HTTP/3 requires TLS 1.3";
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })?;
        let kind = Type::DGRAM.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
        no_ipv6_only(&socket, address)?;
        // Best effort: a smaller one only loses packets of bursts, which are sent again.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        let mut server = ServerConfig::with_crypto(config);
        server
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size_total(MAX_INCOMING_BYTES);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(server),
            socket.into(),
            runtime,
        )?;
        Ok(Self { endpoint, tls })
    }

    /// Returns the value of `Alt-Svc` (RFC 7838) for responses over TCP.
    pub(super) fn alt_svc(&self) -> Option<HeaderValue> {
        let port = self.endpoint.local_addr().ok()?.port();
        let age = ALT_SVC_MAX_AGE.as_secs();
        HeaderValue::try_from(format!("h3=\":{port}\"; ma={age}")).ok()
    }
}

/// Limits of one connection.
pub(super) fn transport(limits: &ConnectionLimits) -> TransportConfig {
    let integer = |value: u64| VarInt::from_u64(value).unwrap_or(VarInt::MAX);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.max_streams.into())
        .max_concurrent_uni_streams(UNIDIRECTIONAL_STREAMS.into())
        .stream_receive_window(integer(LARGE_WINDOW))
        .receive_window(integer(WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle_timeout(limits));
    transport
}

/// A client that has vanished sends nothing; one that is alive confirms packets, and has the other timeouts.
fn idle_timeout(limits: &ConnectionLimits) -> Option<IdleTimeout> {
    let times = [limits.idle_timeout, limits.body_timeout];
    let longest = times.into_iter().max()?;
    let is_limited = times.iter().all(|time| !time.is_zero());
    IdleTimeout::try_from(longest).ok().filter(|_| is_limited)
}
