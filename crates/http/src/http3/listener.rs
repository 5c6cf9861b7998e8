//! The socket of HTTP/3.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use quinn::{Endpoint, EndpointConfig, ServerConfig};
use socket2::{Domain, Socket, Type};

use crate::tls::Tls;

/// Handshakes that wait for [`serve`](crate::serve), and the bytes that they may send before.
const MAX_INCOMING: usize = 1024;
const MAX_INCOMING_BYTES: u64 = 16 << 20;

/// For bursts of packets; the kernel limits it to `net.core.rmem_max`.
const SOCKET_BUFFER: usize = 4 << 20;

/// How long a browser remembers that HTTP/3 is offered.
const ALT_SVC_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A UDP socket on which HTTP/3 is served.
#[derive(Debug)]
pub(crate) struct QuicListener {
    pub(crate) endpoint: Endpoint,
    /// With the key of the tokens that `endpoint` accepts.
    pub(crate) config: ServerConfig,
}

impl QuicListener {
    /// # Errors
    /// The system rejects the address, or `tls` has no TLS 1.3.
    pub(crate) fn bind(address: SocketAddr, tls: &Tls) -> io::Result<Self> {
        let crypto = tls.quic_config().ok_or_else(|| {
            let reason = "HTTP/3 requires TLS 1.3";
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })?;
        let socket = new_socket(address, Type::DGRAM)?;
        // Best effort: a smaller one only loses packets of bursts, which are sent again.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        let mut config = ServerConfig::with_crypto(crypto);
        config
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size_total(MAX_INCOMING_BYTES);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(config.clone()),
            socket.into(),
            runtime,
        )?;
        Ok(Self { endpoint, config })
    }

    /// Returns the value of `Alt-Svc` (RFC 7838) for responses over TCP.
    pub(crate) fn alt_svc(&self) -> Option<HeaderValue> {
        let port = self.endpoint.local_addr().ok()?.port();
        let age = ALT_SVC_MAX_AGE.as_secs();
        HeaderValue::try_from(format!("h3=\":{port}\"; ma={age}")).ok()
    }
}

/// Creates a socket of TCP or UDP. The address of all interfaces is that of both IP versions.
pub(crate) fn new_socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}
