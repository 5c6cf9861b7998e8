//! Listening sockets: TCP, UNIX sockets, and sockets passed by systemd.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use landfall::service::Peer;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::connection::plain;
use super::http3::listener::{QuicListener, new_socket};
use super::proxy_protocol::TrustedProxies;
use super::tls::Tls;

/// The kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes of responses that the kernel keeps for each connection, besides those in transit.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 256 * 1024;

/// A bound socket from which [`serve`](super::serve) accepts connections.
///
/// Must be created inside a Tokio runtime. The file of a UNIX socket is removed when its listener is
/// dropped.
#[derive(Debug)]
pub struct Listener {
    socket: ListenerSocket,
    pub(super) tls: Option<Tls>,
    pub(super) proxies: Option<TrustedProxies>,
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum ListenerSocket {
    Tcp(TcpListener),
    Quic(Box<QuicListener>),
    Unix(UnixListener),
}

impl From<ListenerSocket> for Listener {
    fn from(socket: ListenerSocket) -> Self {
        Self {
            socket,
            tls: None,
            proxies: None,
            _file: None,
        }
    }
}

impl Listener {
    /// Listens on a TCP port. Port 0 picks a free one; see [`local_addr`](Self::local_addr).
    ///
    /// `host` is an IP address (IPv6 with or without brackets) or a name, which is resolved to its first
    /// IPv4 address, or else its first address. An empty host and `0.0.0.0` listen on all addresses of
    /// both IP versions, or only of IPv4 where the system has no IPv6.
    ///
    /// # Errors
    /// The name cannot be resolved, or the system rejects the address (in use, not permitted).
    pub fn tcp(host: &str, port: u16) -> io::Result<Self> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let address = match bare.unwrap_or(host) {
            "" => any,
            host => {
                let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
                let first = found.iter().find(|a| a.is_ipv4()).or(found.first());
                *first.ok_or_else(|| {
                    let reason = format!("host {host:?} has no address");
                    io::Error::new(io::ErrorKind::NotFound, reason)
                })?
            }
        };
        if address != any {
            return listen(address);
        }
        listen((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            // There is no IPv6.
            _ => listen(any),
        })
    }

    /// Listens on a UNIX socket at `path`.
    ///
    /// A socket file of a dead process is removed first. The umask determines who may connect.
    ///
    /// # Errors
    /// `AddrInUse` if a process listens there; `specified path is not a socket` if another file exists;
    /// else the error of the system.
    pub fn unix(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        remove_stale(&path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        let inode = inode(&path)?;
        let file = SocketFile { path, inode };
        socket.listen(BACKLOG)?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Self {
            _file: Some(file),
            ..ListenerSocket::Unix(listener).into()
        })
    }

    /// Returns the sockets passed by systemd or a program with the same protocol.
    ///
    /// Returns none if `LISTEN_FDS` is not set, or if `LISTEN_PID` names another process.
    ///
    /// Removes both variables from the environment, so that child processes do not use them. Call it
    /// once, before other threads are started.
    ///
    /// # Errors
    /// A socket is neither a listening TCP socket nor a UNIX stream socket.
    pub fn from_systemd() -> io::Result<Vec<Self>> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut listeners = Vec::with_capacity(passed.len());
        for index in 0..passed.len() {
            if let Ok(Some(tcp)) = passed.take_tcp_listener(index) {
                tcp.set_nonblocking(true)?;
                socket2::SockRef::from(&tcp).set_tcp_nodelay(true)?;
                listeners.push(ListenerSocket::Tcp(TcpListener::from_std(tcp)?).into());
            } else if let Some(unix) = passed.take_unix_listener(index).map_err(not_usable)? {
                unix.set_nonblocking(true)?;
                let listener = UnixListener::from_std(unix)?;
                listeners.push(ListenerSocket::Unix(listener).into());
            }
        }
        Ok(listeners)
    }

    /// Listens on a UDP port for HTTP/3, usually that of a TCP listener with TLS, whose responses then offer it
    /// (`Alt-Svc`).
    ///
    /// # Errors
    /// The system rejects the address, or `tls` excludes TLS 1.3.
    pub fn http3(address: SocketAddr, tls: Tls) -> io::Result<Self> {
        let socket = ListenerSocket::Quic(Box::new(QuicListener::bind(address, &tls)?));
        Ok(Self {
            tls: Some(tls),
            ..socket.into()
        })
    }

    /// Returns whether it serves HTTP/3.
    #[must_use]
    pub fn is_http3(&self) -> bool {
        self.quic().is_some()
    }

    pub(super) fn quic(&self) -> Option<&QuicListener> {
        match &self.socket {
            ListenerSocket::Quic(quic) => Some(quic),
            _ => None,
        }
    }

    fn is_tcp(&self) -> bool {
        matches!(self.socket, ListenerSocket::Tcp(_))
    }

    /// Serves TLS on a TCP listener. On a UNIX socket it has no effect.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        if self.is_tcp() {
            self.tls = Some(tls);
        }
        self
    }

    /// Requires a PROXY header, version 1 or 2, at the start of each connection to a TCP listener, and closes those
    /// of other peers. The address in the header becomes that of the peer. On a UNIX socket it has no effect.
    #[must_use]
    pub fn with_proxy_protocol(mut self, trusted: TrustedProxies) -> Self {
        self.proxies = Some(trusted).filter(|_| self.is_tcp());
        self
    }

    /// Returns whether it serves TLS, which HTTP/3 does always.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the address of a TCP or UDP listener with its actual port; `None` for a UNIX socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenerSocket::Tcp(listener) => listener.local_addr().ok(),
            ListenerSocket::Quic(quic) => quic.endpoint.local_addr().ok(),
            ListenerSocket::Unix(_) => None,
        }
    }

    /// Accepts a socket, which is in no runtime. That of a UNIX socket is read and written as one of TCP is.
    ///
    /// Cancel safe: no connection is lost when the future is dropped.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        match &self.socket {
            ListenerSocket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let peer = Peer {
                    address: Some(plain(peer)),
                    tls: self.has_tls(),
                };
                Ok((stream.into_std()?, peer))
            }
            // Its connections share one socket: see `http3`.
            ListenerSocket::Quic(_) => Err(io::ErrorKind::Unsupported.into()),
            ListenerSocket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let socket = OwnedFd::from(stream.into_std()?);
                Ok((socket.into(), Peer::default()))
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = new_socket(address, Type::STREAM)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a system call per connection.
    socket.set_tcp_nodelay(true)?;
    // Also inherited. Best effort: without it the kernel keeps some megabytes for a client that takes nothing.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    Ok(ListenerSocket::Tcp(listener).into())
}

fn not_usable(error: io::Error) -> io::Error {
    let text = "a socket passed by LISTEN_FDS is neither TCP nor a UNIX stream";
    io::Error::new(error.kind(), format!("{text}: {error}"))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !meta.file_type().is_socket() {
        let text = format!("specified path is not a socket: {}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Any other result (accepted, not permitted, backlog full) means that it has an owner.
        _ => {
            let text = format!("another process listens on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// Removes the file on drop, unless it was replaced.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// Device and inode.
fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
