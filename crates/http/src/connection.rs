use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ALT_SVC, ORIGIN, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, Method, Request};
use http_body::Body as _;
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::addresses::{AddressPermit, Admission, TOO_MANY_CONNECTIONS};
use super::handover::Handover;
use super::info::{ConnectionInfo, Endpoint};
use super::interim::InterimQueue;
use super::rejection::HttpRejection;
use super::request_head::{LARGE_HEAD, TOO_MANY_LARGE_HEADS};
use super::stats::NetStats;
use super::timeouts::{ConnectionActivity, Phase, ServerShared};
use super::tls::ClientCertificate;

/// A larger rest of an unread body, or one of unknown size, ends the connection (`Connection: close`).
pub(super) const MAX_DISCARDED_REST: u64 = 64 * 1024;

pub(super) const HELD_BY_SERVICE: u64 = u64::MAX - 1;

#[derive(Debug)]
pub(super) struct ConnectionShared {
    pub(super) activity: Arc<ConnectionActivity>,
    pub(super) server: Arc<ServerShared>,
    pub(super) info: ConnectionInfo,
    _permit: Option<AddressPermit>,
    over_limit: bool,
    pub(super) heads: AtomicU32,
    /// HTTP/1: unread bytes of the current request's body; `u64::MAX` if unknown.
    pub(super) unread_bytes: AtomicU64,
    pub(super) responded: AtomicBool,
    pub(super) resumable: AtomicBool,
    pub(super) wants_large_reads: AtomicBool,
    pub(super) wants_large_head: AtomicBool,
    streams: AtomicU32,
    abandoned: Mutex<Option<Incoming>>,
    /// HTTP/1: bytes of the response that hyper has not written, which would take more than the client does.
    unsent: AtomicUsize,
    awaits_sent: AtomicBool,
    /// HTTP/2: how often the socket has been flushed.
    pub(super) flushes: AtomicU32,
    pub(super) address_limited: AtomicBool,
    pub(super) must_close: AtomicBool,
    pub(super) handover: Handover,
    /// Created by the first request that may send interim responses.
    pub(super) interim: OnceLock<Arc<InterimQueue>>,
    /// Set by the TLS handshake.
    pub(super) client_certificate: OnceLock<ClientCertificate>,
}

impl ConnectionShared {
    /// `None` if the connection is to be closed at once.
    pub(super) fn admit(server: &Arc<ServerShared>, info: ConnectionInfo) -> Option<Arc<Self>> {
        let admission = server.addresses.connect(info.peer.ip());
        Self::new(server, None, info, admission)
    }

    /// Proxies are not limited.
    pub(super) fn admit_proxy(
        server: &Arc<ServerShared>,
        info: ConnectionInfo,
    ) -> Option<Arc<Self>> {
        Self::new(server, None, info, Admission::Allowed(None))
    }

    /// Replaces the address of a proxy with that of its client.
    pub(super) fn admit_client(&self, client: SocketAddr) -> Option<Arc<Self>> {
        let peer = Endpoint::Tcp(client);
        let info = ConnectionInfo { peer, ..self.info };
        let admission = self.server.addresses.connect(peer.ip());
        Self::new(&self.server, Some(self.activity.clone()), info, admission)
    }

    fn new(
        server: &Arc<ServerShared>,
        activity: Option<Arc<ConnectionActivity>>,
        info: ConnectionInfo,
        admission: Admission,
    ) -> Option<Arc<Self>> {
        let (address_permit, over_limit) = match admission {
            Admission::Allowed(address_permit) => (address_permit, false),
            Admission::OverLimit(address_permit) => (Some(address_permit), true),
            Admission::Dropped => {
                NetStats::add(&server.stats.address_connections, 1);
                return None;
            }
        };
        Some(Arc::new(Self {
            activity: activity.unwrap_or_else(|| server.track_new(Phase::Head, true)),
            server: server.clone(),
            info,
            _permit: address_permit,
            over_limit,
            heads: AtomicU32::new(0),
            unread_bytes: AtomicU64::new(0),
            responded: AtomicBool::new(false),
            resumable: AtomicBool::new(false),
            wants_large_reads: AtomicBool::new(false),
            wants_large_head: AtomicBool::new(false),
            streams: AtomicU32::new(0),
            abandoned: Mutex::default(),
            unsent: AtomicUsize::new(0),
            awaits_sent: AtomicBool::new(false),
            flushes: AtomicU32::new(0),
            address_limited: AtomicBool::new(false),
            must_close: AtomicBool::new(false),
            handover: Handover::default(),
            interim: OnceLock::new(),
            client_certificate: OnceLock::new(),
        }))
    }

    /// After the response to a request with both lengths, or to one whose body has failed.
    pub(super) fn set_must_close(&self, must_close: bool) {
        if must_close {
            self.must_close.store(true, Relaxed);
        }
    }

    pub(super) fn set_heads(&self, heads: u32) {
        self.heads.store(heads, Relaxed);
    }

    pub(super) fn set_unread_bytes(&self, bytes: u64) {
        self.unread_bytes.store(bytes, Relaxed);
    }

    pub(super) fn has_unread_body(&self) -> bool {
        self.unread_bytes.load(Relaxed) != 0
    }

    pub(super) fn is_receiving(&self) -> bool {
        self.activity.phase() == Phase::Body
            && self.unread_bytes.load(Relaxed) == HELD_BY_SERVICE
            && !self.responded.load(Relaxed)
    }

    pub(super) fn abandon(&self, body: Incoming) {
        let rest = body.size_hint().exact().unwrap_or(u64::MAX);
        // A client that expects a 100 (Continue) may or may not send a rejected body.
        let small = rest <= MAX_DISCARDED_REST && !self.handover.expects_continue();
        self.set_unread_bytes(if small { rest } else { u64::MAX });
        if small && rest > 0 {
            *self.abandoned.lock() = Some(body);
        }
    }

    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) {
        if !matches!(self.unread_bytes.load(Relaxed), 1..=MAX_DISCARDED_REST) {
            return;
        }
        let mut abandoned = self.abandoned.lock();
        while let Some(body) = abandoned.as_mut() {
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => {
                    *abandoned = None;
                    self.set_unread_bytes(0);
                }
                Poll::Ready(Some(Err(_))) => *abandoned = None,
                Poll::Pending => return,
            }
        }
    }

    pub(super) fn is_address_limited(&self) -> bool {
        self.address_limited.load(Relaxed)
    }

    pub(super) fn check_address_limits<B: http_body::Body>(
        &self,
        request: &Request<B>,
        address_permit: &mut Option<AddressPermit>,
    ) -> Result<(), HttpRejection> {
        let stats = &self.server.stats;
        if is_preflight(request) {
            // A page that cannot ask sees a network error instead of the reason.
            return Ok(());
        }
        if self.over_limit {
            NetStats::add(&stats.address_connections, 1);
            return Err(TOO_MANY_CONNECTIONS);
        }
        let (addresses, peer) = (&self.server.addresses, self.info.peer.ip());
        addresses
            .request(request.headers(), peer)
            .inspect_err(|_| NetStats::add(&stats.address_requests, 1))?;
        if !request.body().is_end_stream() {
            *address_permit = addresses
                .upload(request.headers(), peer)
                .inspect_err(|_| NetStats::add(&stats.address_uploads, 1))?;
        } else if request.method() == Method::GET {
            *address_permit = addresses
                .download(request.headers(), peer)
                .inspect_err(|_| NetStats::add(&stats.address_downloads, 1))?;
        }
        Ok(())
    }

    /// For a response of this layer to a request with these fields.
    pub(super) fn add_fields(&self, request: &HeaderMap, fields: &mut HeaderMap) {
        (self.server.limits.rejection_fields.0)(request, fields);
        self.add_tls_fields(fields);
    }

    pub(super) fn add_tls_fields(&self, fields: &mut HeaderMap) {
        if !self.info.tls {
            return;
        }
        if let Some(hsts) = &self.server.limits.hsts {
            let field = fields.entry(STRICT_TRANSPORT_SECURITY);
            field.or_insert_with(|| hsts.clone());
        }
        if let Some(alt_svc) = self.server.alt_svc.get() {
            fields.insert(ALT_SVC, alt_svc.clone());
        }
    }

    /// hyper drops what exceeds the length of a response.
    pub(super) fn forget_unsent(&self) {
        self.unsent.store(0, Relaxed);
    }

    pub(super) fn add_unsent(&self, bytes: usize) {
        self.unsent
            .store(self.unsent.load(Relaxed) + bytes, Relaxed);
    }

    /// Returns whether the response waits until hyper has written its frames.
    pub(super) fn must_send_first(&self) -> bool {
        let must_wait = self.unsent.load(Relaxed) > 0;
        if must_wait {
            self.awaits_sent.store(true, Relaxed);
        }
        must_wait
    }

    /// The head of the response and its framing are in `written`, too. Returns whether the response continues.
    pub(super) fn sent(&self, written: usize) -> bool {
        let unsent = self.unsent.load(Relaxed).saturating_sub(written);
        self.unsent.store(unsent, Relaxed);
        let continues = unsent == 0 && self.awaits_sent.load(Relaxed);
        if continues {
            self.awaits_sent.store(false, Relaxed);
        }
        continues
    }

    pub(super) fn has_announcement(&self) -> bool {
        let queue = self.interim.get();
        queue.is_some_and(|queue| queue.has_announcement())
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streams.load(Relaxed) > 0
    }
}

fn is_preflight<B: http_body::Body>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && request.body().is_end_stream()
}

#[derive(Debug)]
pub(super) struct RequestGuard {
    pub(super) shared: Arc<ConnectionShared>,
    /// True if streams share the connection: HTTP/2 and HTTP/3.
    pub(super) is_multiplexed: bool,
    pub(super) address_permit: Option<AddressPermit>,
    /// Of a large head, of a stream.
    head_bytes: u64,
}

impl RequestGuard {
    pub(super) fn new(shared: Arc<ConnectionShared>, is_multiplexed: bool) -> Self {
        if is_multiplexed && shared.streams.fetch_add(1, AcqRel) == 0 {
            shared.activity.enter(Phase::Handling);
        }
        Self {
            shared,
            is_multiplexed,
            address_permit: None,
            head_bytes: 0,
        }
    }

    /// Counts the memory of a stream's head while the request runs, as that of a connection of HTTP/1 is.
    pub(super) fn count_head<B>(&mut self, request: &Request<B>) -> Result<(), HttpRejection> {
        let fields = request.headers().iter();
        let bytes: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if bytes <= LARGE_HEAD {
            return Ok(());
        }
        let ServerShared { stats, limits, .. } = &*self.shared.server;
        self.head_bytes = bytes as u64;
        let before = stats.head_bytes.fetch_add(self.head_bytes, Relaxed);
        match before + self.head_bytes > limits.head_memory {
            true => Err(TOO_MANY_LARGE_HEADS),
            false => Ok(()),
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.head_bytes > 0 {
            let head_bytes = &self.shared.server.stats.head_bytes;
            head_bytes.fetch_sub(self.head_bytes, Relaxed);
        }
        if !self.is_multiplexed {
            self.shared.activity.enter(Phase::Finishing);
        } else if self.shared.streams.fetch_sub(1, AcqRel) == 1 {
            self.shared.activity.enter(Phase::Idle);
        }
    }
}
