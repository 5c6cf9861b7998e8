use std::fmt;
use std::net::SocketAddr;

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

/// The two ends of a connection, in the extensions of every request.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    /// The client's end: its own address, or that of the last proxy.
    pub peer: Endpoint,
    /// This server's end.
    pub local: Endpoint,
    /// True if the connection is encrypted.
    pub tls: bool,
}

/// A dual-stack socket reports IPv4 peers as IPv4-mapped IPv6 addresses.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
