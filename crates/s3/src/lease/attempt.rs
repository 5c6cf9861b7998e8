//! Taking a lease, and giving it up.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use landfall::{
    lease::{Fence, Lease, LeaseError, LeaseGuard},
    upload::UploadId,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    BucketSettings, Owner,
    life::{Life, Lives},
    peers::Peers,
    records::{Ask, LeaseRecord, RecordError, Records},
    table::{Claim, Grant, Known, Release, Table},
};
use crate::client::Condition;

/// How many attempts to take leases are under way at once.
const ATTEMPTS: usize = 256;
/// How many numbers a node reserves with a lease, so that its requests can pass it on among
/// themselves without writing.
const RESERVED: u64 = 16;
/// How many leases are given up at once.
const RELEASES: usize = 32;
/// How often an attempt begins anew when others have written in between.
const TRIES: u32 = 32;
/// The longest pause before such an attempt, in milliseconds: those who collide part.
const PARTING: u64 = 20;
/// Between two attempts to give up leases while the bucket is away.
const PAUSE: Duration = Duration::from_millis(300);

/// A node, as far as leases go.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) settings: BucketSettings,
    pub(super) records: Records,
    pub(super) table: Table,
    pub(super) lives: Lives,
    pub(super) peers: Peers,
    pub(super) attempts: Arc<Semaphore>,
    pub(super) granted: AtomicU64,
    pub(super) waited: AtomicU64,
    pub(super) unavailable: AtomicU64,
    /// The greatest fence seen.
    newest: AtomicU64,
}

/// A request to yield.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// The offset at which it appends; `None`: the holder is to yield in any case.
    pub(super) offset: Option<u64>,
}

/// Why a lease was not granted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another node has it; the seat goes back.
    Busy(Lease),
    Failed(LeaseError),
}

impl Refusal {
    /// The thread that makes the calls has ended.
    pub(super) fn gone() -> Self {
        Self::Failed(LeaseError::Unavailable("the locker has ended".into()))
    }
}

/// What one try to take a lease came to.
enum Try {
    Granted(Known, Arc<Life>),
    Busy { owner: String, fence: u64 },
}

impl Node {
    pub(super) fn new(records: Records, settings: BucketSettings) -> Self {
        Self {
            settings,
            records,
            table: Table::new(settings.ttl),
            lives: Lives::new(settings),
            peers: Peers::new(settings.ttl),
            attempts: Arc::new(Semaphore::new(ATTEMPTS)),
            granted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            newest: AtomicU64::new(0),
        }
    }

    /// Turns a seat into a lease, if nobody has it.
    pub(super) async fn attempt(
        self: Arc<Self>,
        seat: Lease,
        id: UploadId,
        request: Option<Request>,
        locker: Arc<Owner>,
    ) -> Result<Lease, Refusal> {
        let (written, life) = loop {
            match self
                .try_once(&id)
                .await
                .map_err(|error| self.failed(&error))?
            {
                Try::Granted(written, life) => break (written, life),
                Try::Busy { owner, fence } => {
                    let id = id.as_str().to_owned();
                    let ask = request.map(|Request { offset }| Ask { id, fence, offset });
                    let look = self.peers.look(&self.records, &owner, ask);
                    let looked = self.in_time(look).await;
                    looked.map_err(|error| self.failed(&error))?;
                    if !self.peers.are_over(&owner) {
                        return Err(Refusal::Busy(seat));
                    }
                }
            }
        };
        let (fence, signal) = (Fence(written.fence), seat.signal().clone());
        let grant = Grant {
            owner: life.owner.clone(),
            written,
            signal: signal.clone(),
        };
        self.table.hold(&id, grant);
        let held = Holding {
            locker,
            id,
            _seat: seat,
        };
        // After `hold`, so that the end of the life is seen by it or by us.
        if !life.is_on() {
            drop(held);
            return Err(self.failed(&RecordError::Lapsed));
        }
        self.granted.fetch_add(1, Ordering::Relaxed);
        Ok(Lease::new(fence, signal, Box::new(held)))
    }

    /// Tries to take the lease once. If it is granted, the attempt is still open in the table.
    async fn try_once(&self, id: &UploadId) -> Result<Try, RecordError> {
        let known = self.in_time(async { Ok(self.claim(id).await) }).await?;
        let result = self.in_time(self.take(id, known)).await;
        match &result {
            Ok(Try::Granted(..)) => {}
            Ok(Try::Busy { .. }) => self.table.fail(id, None),
            // Perhaps it was written all the same.
            Err(_) => {
                let life = self.lives.now();
                let owner = life.as_ref().map(|life| life.owner.as_str());
                self.table.fail(id, owner);
            }
        }
        result
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, RecordError>>,
    ) -> Result<T, RecordError> {
        let patience = self.settings.patience;
        timeout(patience, call)
            .await
            .unwrap_or(Err(RecordError::Silent(patience)))
    }

    pub(super) fn failed(&self, error: &RecordError) -> Refusal {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
        Refusal::Failed(LeaseError::Unavailable(error.to_string().into()))
    }

    /// Begins an attempt once nothing is being written for the last lease.
    async fn claim(&self, id: &UploadId) -> Option<Known> {
        let mut wait = false;
        loop {
            let written = self.table.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            match self.table.claim(id) {
                Claim::Go(known) => return known,
                Claim::Wait { polite } => wait |= polite,
            }
            written.await;
            if std::mem::take(&mut wait) {
                // It was given up for another node, which looks this often.
                sleep(self.settings.poll * 3 / 2).await;
            }
        }
    }

    /// Writes this node's name into the lease, if nobody holds it.
    async fn take(&self, id: &UploadId, mut known: Option<Known>) -> Result<Try, RecordError> {
        let place = self.records.lease(id);
        for round in 0..TRIES {
            if round > 0 {
                sleep(Duration::from_millis(rand::random_range(1..=PARTING))).await;
            }
            let life = self
                .lives
                .get(&self.records, &self.table, &self.peers)
                .await?;
            let (last, condition) = match known.take() {
                Some(known)
                    if known.owner.as_deref() == Some(life.owner.as_str())
                        && known.fence < known.reserved =>
                {
                    let fence = known.fence + 1;
                    return Ok(Try::Granted(Known { fence, ..known }, life));
                }
                Some(known) => (known.fence, Condition::IfMatch(known.etag)),
                None => match self.records.read::<LeaseRecord>(&place).await? {
                    None => (self.clock(), Condition::IfAbsent),
                    Some((lease, etag)) if self.is_free(&lease, &life) => {
                        (lease.fence, Condition::IfMatch(etag))
                    }
                    Some((LeaseRecord { owner, fence, .. }, _)) => {
                        return Ok(Try::Busy { owner, fence });
                    }
                },
            };
            let (fence, reserved) = (last + 1, last + RESERVED);
            let lease = LeaseRecord {
                id: id.as_str().to_owned(),
                fence: reserved,
                owner: life.owner.clone(),
                released: false,
                nonce: rand::random(),
            };
            let written = self.records.write(&place, &lease, condition).await?;
            if let Some(etag) = written {
                self.newest.fetch_max(reserved, Ordering::Relaxed);
                let known = Known {
                    fence,
                    reserved,
                    etag,
                    owner: Some(life.owner.clone()),
                };
                return Ok(Try::Granted(known, life));
            }
        }
        Err(RecordError::Contended)
    }

    /// Whether nobody holds a lease. One of this very life was given up: the seat says so.
    fn is_free(&self, lease: &LeaseRecord, life: &Life) -> bool {
        lease.released || lease.owner == life.owner || self.peers.are_over(&lease.owner)
    }

    /// What counts as the last fence of a lease that the bucket knows nothing of.
    fn clock(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or_default();
        now.max(self.newest.load(Ordering::Relaxed))
    }

    /// Gives up leases, for ever.
    pub(super) async fn release(self: &Arc<Self>) {
        loop {
            let kept = async {
                match self.table.next_kept() {
                    Some(kept) => tokio::time::sleep_until(kept.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.table.released.notified() => {}
                () = kept => {}
            }
            while !self.release_all(Instant::now()).await {
                sleep(PAUSE).await;
            }
        }
    }

    /// Gives up what is to be given up by `now`; false if some of it could not be written.
    pub(super) async fn release_all(self: &Arc<Self>, now: Instant) -> bool {
        let (mut calls, mut all) = (JoinSet::new(), true);
        loop {
            while calls.len() < RELEASES
                && all
                && let Some((id, release)) = self.table.next_release(now)
            {
                let node = Arc::clone(self);
                calls.spawn(async move { node.release_one(&id, &release).await });
            }
            match calls.join_next().await {
                Some(done) => all &= done.unwrap_or(false),
                None => return all,
            }
        }
    }

    async fn release_one(&self, id: &UploadId, release: &Release) -> bool {
        let error = match self.in_time(self.write_release(id, release)).await {
            Ok(known) => {
                self.table.wrote_release(id, known);
                return true;
            }
            Err(error) => error,
        };
        tracing::warn!(upload = %id, %error, "can't give up a lease in the bucket yet");
        self.table.return_release(id);
        false
    }

    /// Writes that a lease is free, unless it is somebody else's by now.
    async fn write_release(
        &self,
        id: &UploadId,
        release: &Release,
    ) -> Result<Option<Known>, RecordError> {
        let place = self.records.lease(id);
        let (fence, etag) = match &release.written {
            Some(known) => (known.fence, known.etag.clone()),
            None => match self.records.read::<LeaseRecord>(&place).await? {
                Some((lease, etag)) if lease.owner == release.owner && !lease.released => {
                    (lease.fence, etag)
                }
                _ => return Ok(None),
            },
        };
        let lease = LeaseRecord {
            id: id.as_str().to_owned(),
            fence,
            owner: release.owner.clone(),
            released: true,
            nonce: rand::random(),
        };
        let condition = Condition::IfMatch(etag);
        let written = self.records.write(&place, &lease, condition).await?;
        Ok(written.map(|etag| Known {
            fence,
            reserved: fence,
            etag,
            owner: None,
        }))
    }
}

/// A lease and its seat; the seat goes last, so that who gets it comes after the release.
struct Holding {
    locker: Arc<Owner>,
    id: UploadId,
    _seat: Lease,
}

impl LeaseGuard for Holding {}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Holding").field(&self.id).finish()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.locker.node.table.release(&self.id);
    }
}
