//! What happens to an upload, whichever protocol asks for it and wherever it is stored.
//!
//! One file per operation. Everything that changes an upload goes through [`Engine::lease`].

mod append;
mod ask;
mod claim;
mod concatenate;
mod counters;
mod create;
mod detached;
mod error;
mod fault;
mod finish;
mod in_flight;
mod inspect;
mod live;
mod peek;
mod progress;
mod receive;
mod settings;
mod stop;
mod sweep;
mod tell;
mod terminate;
mod transfer;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

pub(crate) use self::{
    append::{AppendError, AppendRequest},
    counters::{Counters, add, get},
    create::CreateRequest,
    error::Error,
    inspect::Inspected,
    settings::Settings,
    tell::Reservations,
};
use self::{
    concatenate::FinalUploads, detached::Effects, in_flight::InFlight, live::LiveUploads,
    transfer::Memory,
};
pub use self::{
    fault::RequestBodyError,
    settings::{Lifetimes, Limits},
    sweep::{SweepEntry, SweepReason, SweepSummary, Sweeper},
    tell::Resolution,
};
use crate::{
    Composer,
    event::{EventKinds, EventSink},
    hook::{Hook, HookPoints, RequestInfo},
    lease::{Lease, LeaseError, YieldReason},
    store::StoreError,
    upload::{Snapshot, Upload, UploadId, UploadKind},
};
use landfall_protocol::ProblemKind;

/// How long a transfer waits for the end of the one that is evicted for it.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The request on whose behalf something happens; empty where nobody will ask for it.
pub(crate) type RequestContext = Option<Arc<RequestInfo>>;

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) parts: Composer,
    pub(crate) limits: Limits,
    lifetimes: Lifetimes,
    lease_wait: Duration,
    body_timeout: Option<Duration>,
    progress_interval: Duration,
    hooks: Vec<Arc<dyn Hook>>,
    sinks: Vec<Arc<dyn EventSink>>,
    /// Whether GET is answered before an upload is finished.
    pub(crate) serves_unfinished: bool,
    asks: HookPoints,
    wants: EventKinds,
    live: LiveUploads,
    progress: progress::ProgressTask,
    final_uploads: Arc<FinalUploads>,
    effects: Effects,
    in_flight: Arc<InFlight>,
    transfers: Semaphore,
    memory: Memory,
    pub(crate) counters: Counters,
    started: SystemTime,
}

impl Engine {
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings {
            parts,
            limits,
            lifetimes,
            hooks,
            sinks,
            progress_interval,
            lease_wait,
            body_timeout,
            disable_unfinished_download,
        } = settings;
        let mut asks = HookPoints::default();
        for asked in hooks.iter().map(|hook| hook.points()) {
            asks.before_create |= asked.before_create;
            asks.before_finish |= asked.before_finish;
            asks.before_terminate |= asked.before_terminate;
            asks.on_access |= asked.on_access;
        }
        let wants = sinks.iter().map(|sink| sink.event_kinds());
        let wants = wants.fold(EventKinds::NONE, EventKinds::union);
        Self {
            parts,
            limits,
            lifetimes,
            lease_wait,
            body_timeout,
            progress_interval,
            hooks,
            sinks,
            serves_unfinished: !disable_unfinished_download && !asks.before_finish,
            asks,
            wants,
            live: LiveUploads::new(wants.progress),
            progress: progress::ProgressTask::default(),
            final_uploads: Arc::new(FinalUploads::new(limits.max_concatenations)),
            effects: Effects::default(),
            in_flight: Arc::default(),
            transfers: Semaphore::new(limits.max_transfers.min(Semaphore::MAX_PERMITS)),
            memory: Memory::new(limits.max_buffered_bytes),
            counters: Counters::default(),
            started: SystemTime::now(),
        }
    }

    /// Whether hooks or sinks will want to know the request behind what happens.
    pub(crate) fn wants_requests(&self) -> bool {
        self.asks != HookPoints::default() || self.wants != EventKinds::NONE
    }

    /// Whether hooks decide who may read an upload.
    pub(crate) fn checks_access(&self) -> bool {
        self.asks.on_access
    }

    /// Takes the permit that a transfer needs; if there is none, from a transfer whose client is silent
    /// or slow.
    ///
    /// # Errors
    /// [`Fault::TooManyUploads`] if all transfers move.
    async fn transfer_permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(permit) = self.transfers.try_acquire() {
            return Ok(permit);
        }
        if self.live.evict()
            && let Ok(Ok(permit)) = timeout(EVICTION_TIMEOUT, self.transfers.acquire()).await
        {
            return Ok(permit);
        }
        Err(ProblemKind::TooManyUploads.into())
    }

    /// Uploads whose bytes are coming in right now.
    pub(crate) fn live_uploads(&self) -> usize {
        self.live.len()
    }

    /// The right to change an upload: asks whoever has it to yield.
    async fn lease(&self, id: &UploadId) -> Result<Lease, Error> {
        Ok(self.parts.get_locker().acquire(id, self.lease_wait).await?)
    }

    /// The same if nobody has it; nobody is disturbed.
    async fn free_lease(&self, id: &UploadId) -> Result<Option<Lease>, Error> {
        match self.parts.get_locker().try_acquire(id).await {
            Ok(lease) => Ok(Some(lease)),
            Err(LeaseError::Held) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a change under a lease, and drops it when the lease is lost: a repetition of one of its
    /// requests could undo what the next holder stores.
    async fn while_held<T>(
        lease: &Lease,
        change: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        if lease.signal().reason() == Some(YieldReason::LeaseLost) {
            return Err(ProblemKind::Unavailable.into());
        }
        tokio::select! {
            biased;
            changed = change => Ok(changed?),
            () = lease.signal().lost() => Err(ProblemKind::Unavailable.into()),
        }
    }

    /// The upload as the store has it, unless it has expired.
    async fn load(&self, id: &UploadId) -> Result<Snapshot, Error> {
        let snapshot = self.parts.get_store().load(id).await?;
        if self.has_expired(&snapshot) {
            return Err(ProblemKind::Gone.into());
        }
        Ok(snapshot)
    }

    /// When the upload may be removed.
    pub(crate) fn expiry(
        &self,
        upload: &Upload,
        offset: u64,
        modified: SystemTime,
    ) -> Option<SystemTime> {
        self.expiry_from(upload, offset, modified, self.started)
    }

    /// When the upload may be removed, if the time of those that another program made begins at
    /// `foreign_from` at the earliest.
    fn expiry_from(
        &self,
        upload: &Upload,
        offset: u64,
        modified: SystemTime,
        foreign_from: SystemTime,
    ) -> Option<SystemTime> {
        // A partial upload is unfinished until it is part of a final one.
        let is_finished = upload.is_complete_at(offset) && upload.kind != UploadKind::Partial;
        let at = if is_finished {
            modified.checked_add(self.lifetimes.finished?)
        } else if upload.expires.is_some() {
            upload.expires
        } else if upload.created_by_tusd {
            let from = modified.max(foreign_from);
            from.checked_add(self.lifetimes.unfinished?)
        } else {
            modified.checked_add(self.lifetimes.unfinished?)
        };
        at.and_then(whole_second)
    }

    fn has_expired(&self, snapshot: &Snapshot) -> bool {
        self.has_expired_from(snapshot, self.started)
    }

    fn has_expired_from(&self, snapshot: &Snapshot, foreign_from: SystemTime) -> bool {
        self.expiry_of(snapshot, foreign_from)
            .is_some_and(|at| at <= SystemTime::now())
    }

    fn expiry_of(&self, snapshot: &Snapshot, foreign_from: SystemTime) -> Option<SystemTime> {
        let Snapshot {
            upload,
            offset,
            modified,
        } = snapshot;
        self.expiry_from(upload, *offset, *modified, foreign_from)
    }
}

/// The first whole second that is not before `at`: a header tells no fractions, and an upload expires
/// when the header says.
fn whole_second(at: SystemTime) -> Option<SystemTime> {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let fraction = u64::from(since.subsec_nanos() > 0);
    let seconds = Duration::from_secs(since.as_secs().checked_add(fraction)?);
    SystemTime::UNIX_EPOCH.checked_add(seconds)
}

/// Whether an error of the store means that the upload isn't there.
fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound(_))
}
