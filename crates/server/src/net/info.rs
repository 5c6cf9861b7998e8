use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and port. IPv4-mapped IPv6 addresses are converted to IPv4.
    Tcp(SocketAddr),
    /// A UNIX socket, displayed as `@`.
    Unix,
}

impl Endpoint {
    /// Returns the IP address; `None` for a UNIX socket.
    #[must_use]
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("@"),
        }
    }
}

/// The two ends of a connection, in the extensions of every request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectionInfo(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    peer: Endpoint,
    local: Endpoint,
}

impl ConnectionInfo {
    pub(super) fn new(peer: Endpoint, local: Endpoint) -> Self {
        Self(Arc::new(Ends { peer, local }))
    }

    /// Returns the client's end: its own address, or that of the last proxy.
    #[must_use]
    pub fn peer(&self) -> Endpoint {
        self.0.peer
    }

    /// Returns this server's end.
    #[must_use]
    pub fn local(&self) -> Endpoint {
        self.0.local
    }

    /// Returns the scheme of this connection.
    #[must_use]
    pub fn scheme(&self) -> http::uri::Scheme {
        http::uri::Scheme::HTTP
    }
}

/// Converts an IPv4-mapped IPv6 address, as a dual-stack socket reports it, to IPv4.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
