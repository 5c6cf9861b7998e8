//! Operations on uploads, independent of HTTP and of the store.
//!
//! One file per operation. Every change to an upload holds its lease ([`Engine::lease`]).

mod acknowledgement;
mod append;
mod body_error;
mod concatenate;
mod counters;
mod create;
mod ends;
mod error;
mod events;
mod expiry;
mod finish;
mod finishing;
mod hooks;
mod in_flight;
mod inspect;
mod join;
mod live;
mod progress;
mod receive;
mod request_log;
mod sweep;
mod terminate;
mod transfer;
mod verifier;

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use self::{
    acknowledgement::Acknowledgements, concatenate::FinalUploads, expiry::ExpiryClock,
    in_flight::InFlight, live::LiveUploads, transfer::Memory,
};
pub(crate) use self::{
    append::AppendRequest,
    counters::{Counters, add, get},
    create::{CreateRequest, Created},
    ends::log_end,
    error::Error,
    events::Reservations,
    hooks::{HookCall, HookReply},
    inspect::Inspected,
    request_log::{LoggedRequest, log_request},
    transfer::{BoxedObserver, TransferObserver},
};
pub use self::{
    body_error::RequestBodyError,
    counters::Stats,
    events::Resolution,
    sweep::{SweepEntry, SweepReason, SweepSummary, Sweeper},
};
use crate::{
    Composer, Config,
    event::EventKinds,
    external::registry::ExternalUploads,
    hook::{HookPoints, RequestInfo},
    lease::{Lease, LeaseError, YieldReason},
    store::{StoreError, now_or_later},
    upload::{Snapshot, UploadId},
};
use landfall_protocol::ProblemKind;

const MAX_EFFECTS: usize = 4096;
/// For how long a client may ask for an upload whose file was moved away, if unfinished uploads do not expire.
const MOVED_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const EVICTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The request that causes an operation, if one does.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// `None` if no hook or sink needs it.
    pub(crate) info: Option<Arc<RequestInfo>>,
    /// For the log; unspecified if unknown. An IPv4 address is mapped: the future of a request stores few bytes.
    client: Ipv6Addr,
    /// `None` if the lines of requests are not logged.
    log: Option<Arc<LoggedRequest>>,
}

impl<T: Into<Option<Arc<RequestInfo>>>> From<T> for RequestContext {
    fn from(info: T) -> Self {
        let info = info.into();
        Self::new(info, None, None)
    }
}

impl RequestContext {
    pub(crate) const NONE: &Self = &Self {
        info: None,
        client: Ipv6Addr::UNSPECIFIED,
        log: None,
    };

    pub(crate) fn new(
        info: Option<Arc<RequestInfo>>,
        client: Option<IpAddr>,
        log: Option<Arc<LoggedRequest>>,
    ) -> Self {
        let client = match client {
            None => Ipv6Addr::UNSPECIFIED,
            Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
            Some(IpAddr::V6(address)) => address,
        };
        Self { info, client, log }
    }

    pub(crate) fn log(&self) -> Option<&LoggedRequest> {
        self.log.as_deref()
    }

    fn client(&self) -> Option<IpAddr> {
        (!self.client.is_unspecified()).then(|| self.client.to_canonical())
    }
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) composer: Composer,
    pub(crate) config: Config,
    pub(crate) serves_unfinished: bool,
    hook_points: HookPoints,
    event_kinds: EventKinds,
    acknowledgements: Acknowledgements,
    live: LiveUploads,
    emits_progress: Arc<AtomicBool>,
    final_uploads: Arc<FinalUploads>,
    effects: Arc<Semaphore>,
    in_flight: Arc<InFlight>,
    transfers: Semaphore,
    memory: Memory,
    pub(crate) counters: Counters,
    expiry_clock: Arc<ExpiryClock>,
}

impl Engine {
    pub(crate) fn new(config: &Config) -> Self {
        let mut hook_points = HookPoints::default();
        for points in config.hooks.iter().map(|hook| hook.points()) {
            hook_points.before_create |= points.before_create;
            hook_points.before_finish |= points.before_finish;
            hook_points.before_terminate |= points.before_terminate;
            hook_points.on_access |= points.on_access;
        }
        let event_kinds = config.sinks.iter().map(|sink| sink.event_kinds());
        let event_kinds = event_kinds.fold(EventKinds::NONE, EventKinds::union);
        let limits = config.limits;
        Self {
            composer: config.store.clone(),
            config: config.clone(),
            serves_unfinished: !config.disable_unfinished_download && !hook_points.before_finish,
            hook_points,
            event_kinds,
            acknowledgements: Acknowledgements::new(&config.sinks),
            live: LiveUploads::new(event_kinds.progress),
            emits_progress: Arc::default(),
            final_uploads: Arc::new(FinalUploads::new(limits.max_concatenations)),
            effects: Arc::new(Semaphore::new(MAX_EFFECTS)),
            in_flight: Arc::default(),
            transfers: Semaphore::new(limits.max_transfers.min(Semaphore::MAX_PERMITS)),
            memory: Memory::new(limits.max_buffered_bytes),
            counters: Counters::default(),
            expiry_clock: Arc::default(),
        }
    }

    pub(crate) fn needs_request_info(&self) -> bool {
        self.hook_points != HookPoints::default() || self.event_kinds != EventKinds::NONE
    }

    pub(crate) fn checks_access(&self) -> bool {
        self.hook_points.on_access
    }

    pub(crate) fn registry_of(&self, id: &UploadId) -> Option<&dyn ExternalUploads> {
        let registry = self.config.external_uploads.as_deref();
        registry.filter(|registry| registry.owns(id))
    }

    /// If no permit is free, evicts a silent or slow transfer; fails if all transfers make progress.
    async fn transfer_permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(permit) = self.transfers.try_acquire() {
            return Ok(permit);
        }
        if self.live.evict()
            // Boxed because it is rare: the largest branch sets the size of every request's future.
            && let Ok(Ok(permit)) =
                Box::pin(timeout(EVICTION_TIMEOUT, self.transfers.acquire())).await
        {
            return Ok(permit);
        }
        Err(ProblemKind::TooManyUploads.into())
    }

    pub(crate) fn live_uploads(&self) -> usize {
        self.live.len()
    }

    async fn lease(&self, id: &UploadId) -> Result<Lease, Error> {
        let locker = self.composer.locker();
        let wait = self.config.lease_wait;
        let acquired = locker.acquire_now(id).map(Ok);
        Ok(now_or_later!(acquired, locker.acquire_at(id, None, wait))?)
    }

    /// Leaves a holder alone.
    async fn free_lease(&self, id: &UploadId) -> Result<Option<Lease>, Error> {
        let locker = self.composer.locker();
        if let Some(lease) = locker.acquire_now(id) {
            return Ok(Some(lease));
        }
        match locker.try_acquire(id).await {
            Ok(lease) => Ok(Some(lease)),
            Err(LeaseError::Locked) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn check_held(lease: &Lease) -> Result<(), Error> {
        match lease.signal().reason() {
            Some(YieldReason::LeaseLost) => Err(ProblemKind::Unavailable.into()),
            _ => Ok(()),
        }
    }

    /// Drops the change when the lease is lost: its requests to the store, if repeated, could undo changes
    /// of the next holder.
    async fn while_held<T>(
        lease: &Lease,
        change: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        Self::check_held(lease)?;
        match lease.signal().unless_lost(pin!(change)).await {
            Some(changed) => Ok(changed?),
            None => Err(ProblemKind::Unavailable.into()),
        }
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot, Error> {
        self.load_usable(id).await.map(|(snapshot, _)| snapshot)
    }

    async fn load_usable(&self, id: &UploadId) -> Result<Inspected, Error> {
        let store = self.composer.store();
        let snapshot = now_or_later!(store.load_now(id), store.load(id))?;
        let expires = self.check_usable(&snapshot).await?;
        Ok((snapshot, expires))
    }

    /// Only clients see that an upload was denied or moved away: for all others it is removed.
    async fn load_present(&self, id: &UploadId) -> Result<Snapshot, StoreError> {
        let snapshot = self.composer.store().load(id).await?;
        if snapshot.upload.is_description_only() {
            return Err(StoreError::NotFound(id.clone()));
        }
        Ok(snapshot)
    }
}

fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound(_) | StoreError::Gone(_))
}
