use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and port; IPv4 addresses seen through an IPv6 socket are given as IPv4.
    Tcp(SocketAddr),
    /// A UNIX socket, which has no address to speak of. Shown as `@`.
    Unix,
}

impl Endpoint {
    /// The IP address, if there is one.
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

/// Where a request came from: found in the extensions of every request. Cheap to clone.
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

    /// The client's end: its own address, or that of the last proxy before this server.
    #[must_use]
    pub fn peer(&self) -> Endpoint {
        self.0.peer
    }

    /// This server's end.
    #[must_use]
    pub fn local(&self) -> Endpoint {
        self.0.local
    }

    /// The scheme spoken on this connection.
    #[must_use]
    pub fn scheme(&self) -> http::uri::Scheme {
        http::uri::Scheme::HTTP
    }
}

/// An IPv4 address in IPv6 clothes, as a dual-stack socket reports it, is given back as IPv4.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
