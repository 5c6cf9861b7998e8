//! The state that a connection shares with its requests, in each version of HTTP.
//!
//! It lives until the last request has ended, and with it the permits of the connection. In HTTP/2 and HTTP/3, a
//! `StreamGuard` per request shows the sweeper whether the connection is idle. Does no I/O.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ALT_SVC, ORIGIN, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, Method, Request};
use landfall::service::Peer;

use super::limits::addresses::{AddressPermit, LimitKind};
use super::limits::timeouts::{ConnectionActivity, Phase, ServerShared};
use super::rejection::HttpRejection;
use super::stats::OpenConnection;
use super::tls::ClientCertificate;

/// Memory of an unfinished head, of one of HTTP/2 and HTTP/3, and of trailers, that is not counted.
pub(super) const SMALL_HEAD: usize = 8 * 1024;

/// Above it, the memory of a head of HTTP/1 is counted while its request runs.
pub(super) const LARGE_HEAD: usize = 64 * 1024;

/// The most bytes of trailers.
pub(super) const MAX_TRAILERS: usize = 16 * 1024;

/// Rejects a large head when unfinished heads use all memory allowed for them.
pub(super) const TOO_MANY_LARGE_HEADS: HttpRejection = HttpRejection::busy(
    "too many clients are sending large request headers; try again in a moment",
);

/// A larger rest of an unread body, or one of unknown size, ends the connection (`Connection: close`).
pub(super) const MAX_DISCARDED_REST: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct ConnectionShared {
    pub(super) activity: Arc<ConnectionActivity>,
    pub(super) server: Arc<ServerShared>,
    /// Until the last of its requests has ended, too.
    _open: OpenConnection,
    /// The client, or the last proxy.
    pub(super) peer: Peer,
    permit: Option<AddressPermit>,
    streams: AtomicU32,
    /// HTTP/2: how often the socket has been flushed.
    pub(super) flushes: AtomicU32,
    pub(super) address_limited: AtomicBool,
    /// Set by the TLS handshake.
    pub(super) client_certificate: OnceLock<ClientCertificate>,
}

impl ConnectionShared {
    /// `None` if the connection is to be closed at once. Those of a proxy itself are not limited.
    pub(super) fn admit(
        server: Arc<ServerShared>,
        activity: Arc<ConnectionActivity>,
        open: OpenConnection,
        peer: Peer,
        is_proxy: bool,
    ) -> Option<Arc<Self>> {
        let (kind, none) = (LimitKind::Connections, HeaderMap::new());
        let permit = match is_proxy {
            true => None,
            false => server.addresses.open(kind, &none, ip(peer)).ok()?,
        };
        Some(Arc::new(Self {
            activity,
            server,
            _open: open,
            peer,
            permit,
            streams: AtomicU32::new(0),
            flushes: AtomicU32::new(0),
            address_limited: AtomicBool::new(false),
            client_certificate: OnceLock::new(),
        }))
    }

    pub(super) fn is_address_limited(&self) -> bool {
        self.address_limited.load(Relaxed)
    }

    pub(super) fn check_address_limits<B>(
        &self,
        request: &Request<B>,
        has_content: bool,
    ) -> Result<Option<AddressPermit>, HttpRejection> {
        if !has_content && is_preflight(request) {
            // A page that cannot ask sees a network error instead of the reason.
            return Ok(None);
        }
        let (addresses, headers) = (&self.server.addresses, request.headers());
        let peer = ip(self.peer);
        if self.permit.as_ref().is_some_and(|own| own.is_over_limit) {
            return Err(addresses.reject(LimitKind::Connections, headers, peer));
        }
        addresses.request(headers, peer)?;
        let kind = match has_content {
            true => LimitKind::Uploads,
            false if request.method() == Method::GET => LimitKind::Downloads,
            false => return Ok(None),
        };
        addresses.open(kind, headers, peer)
    }

    /// For a response of this layer to a request with these fields.
    pub(super) fn add_fields(&self, request: &HeaderMap, fields: &mut HeaderMap) {
        (self.server.limits.rejection_fields.0)(request, fields);
        self.add_tls_fields(fields);
    }

    pub(super) fn add_tls_fields(&self, fields: &mut HeaderMap) {
        if !self.peer.tls {
            return;
        }
        if let Some(hsts) = &self.server.limits.hsts {
            let field = fields.entry(STRICT_TRANSPORT_SECURITY);
            field.or_insert_with(|| hsts.clone());
        }
        if let Some(alt_svc) = &self.server.alt_svc {
            fields.insert(ALT_SVC, alt_svc.clone());
        }
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streams.load(Relaxed) > 0
    }
}

fn ip(peer: Peer) -> Option<IpAddr> {
    peer.address.map(|address| address.ip())
}

fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Returns the memory of fields, which each have two names and places in a map.
pub(super) fn fields_memory(fields: &HeaderMap) -> usize {
    const FIELD: usize = 100;
    let fields = fields.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD)
        .sum()
}

/// A request on a stream: its connection is idle when none is left.
#[derive(Debug)]
pub(super) struct StreamGuard {
    shared: Arc<ConnectionShared>,
    /// Of a head that is not small.
    head_bytes: u64,
}

impl StreamGuard {
    pub(super) fn new(shared: Arc<ConnectionShared>) -> Self {
        if shared.streams.fetch_add(1, AcqRel) == 0 {
            shared.activity.enter(Phase::Handling);
        }
        Self {
            shared,
            head_bytes: 0,
        }
    }

    /// Counts the memory of a head while its request runs: a connection has many of them.
    pub(super) fn count_head<B>(&mut self, request: &Request<B>) -> Result<(), HttpRejection> {
        let bytes = request.uri().path().len() + fields_memory(request.headers());
        if bytes <= SMALL_HEAD {
            return Ok(());
        }
        let server = &self.shared.server;
        match server.count_head(&mut self.head_bytes, bytes as u64) {
            true => Ok(()),
            false => Err(TOO_MANY_LARGE_HEADS),
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.shared.server.count_head(&mut self.head_bytes, 0);
        if self.shared.streams.fetch_sub(1, AcqRel) == 1 {
            self.shared.activity.enter(Phase::Idle);
        }
    }
}

/// A dual-stack socket reports IPv4 peers as IPv4-mapped IPv6 addresses.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
