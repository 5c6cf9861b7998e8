//! Leases without a further server: in the bucket, by conditional writes.

mod attempt;
mod life;
mod peers;
mod records;
mod sweep;
mod table;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use landfall::{
    lease::{Lease, LeaseError, Locker, MemoryLocker},
    upload::UploadId,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::{
    attempt::{Node, Refusal, Request},
    records::{RecordError, Records},
};
pub use self::{
    records::{BucketLockerError, detect},
    sweep::Swept,
};
use crate::client::Client;

/// How long the end of the locker may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Times of a [`BucketLocker`]. All nodes should have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketSettings {
    /// How long the leases of a node that was killed keep others out: 15 seconds. A node that could
    /// not renew its leases for four fifths of it tells their holders that they are lost.
    pub ttl: Duration,
    /// How often a node that holds leases writes its heartbeat, and so sees who asks for one of
    /// them: every 2 seconds. At most a third of `ttl`.
    pub renew: Duration,
    /// How often a waiter looks whether the lease is free: every half second.
    pub poll: Duration,
    /// How long the bucket is waited for: 5 seconds.
    pub patience: Duration,
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(15),
            renew: Duration::from_secs(2),
            poll: Duration::from_millis(500),
            patience: Duration::from_secs(5),
        }
    }
}

/// What a locker did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStats {
    /// Leases held at this moment.
    pub held: usize,
    /// Leases granted.
    pub granted: u64,
    /// Leases that another node had to give up first.
    pub waited: u64,
    /// Leases lost, because they could not be renewed in time.
    pub lost: u64,
    /// Requests for a lease that failed because of the bucket.
    pub unavailable: u64,
}

/// Leases kept in the bucket, for nodes that share nothing else.
///
/// The service must keep conditions on writes (`If-None-Match: *`, `If-Match`): [`detect`] finds
/// out. Where it doesn't, this locker does not exclude anybody, and only fences stand between two
/// writers.
///
/// Within the node it is a [`MemoryLocker`]. In the bucket there is an object for each upload,
/// `PREFIX.landfall/leases/ID`, with the newest fence and who has the lease, and one for each node
/// that holds leases, `PREFIX.landfall/nodes/…`, its sign of life. A lease changes hands by a write
/// on the condition that nobody wrote in between. Who wants one that another node has adds an ask to
/// that node's sign of life; the node finds it when it writes the next heartbeat, and yields. A
/// heartbeat that is missing for the [`ttl`](BucketSettings::ttl), measured by the waiter's own clock
/// from when it saw the last, means that all leases of that node are free. No clock is compared with
/// that of another machine.
///
/// Clones share the leases. One thread of its own makes all calls; it ends with the last clone and
/// the last lease. Waiting needs a tokio runtime with its timer on.
///
/// # What it costs
/// One PutObject to take a lease and one to give it up, and a GetObject before if the node wasn't the
/// last to have it; nothing for what requests of one node pass on among themselves. A node with leases writes one heartbeat every [`renew`](BucketSettings::renew),
/// however many leases it has: half a PutObject a second. A node without leases costs nothing. A
/// waiter reads up to two objects every [`poll`](BucketSettings::poll).
///
/// # How long a takeover takes
/// From a holder that is alive: until its next heartbeat, and until the waiter looks next: a second
/// and a half commonly, three at most, beside the calls themselves. From a node that is gone: the
/// `ttl`, once for all of its leases.
///
/// # Fences
/// The leases of one upload are numbered one by one: the next number means that nobody else had the
/// lease in between. After a node that ended without giving its lease up, a few numbers are left out.
/// Where there is no object yet, or none any more, the count starts from the clock of the node, in
/// nanoseconds.
///
/// # When the bucket is away
/// Taking a lease gives [`LeaseError::Unavailable`] within about
/// [`patience`](BucketSettings::patience). Holders go on until four fifths of the `ttl` have passed
/// since the last heartbeat was sent; then their leases are [lost](landfall::lease::Asked::Lost).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use landfall::{lease::Locker, upload::UploadId};
/// use landfall_s3::{client::{Client, ClientSettings}, lease::{BucketLocker, BucketSettings, detect}};
///
/// let client = Client::new(ClientSettings::default())?;
/// assert!(detect(&client, "my-bucket", "").await?);
/// let locker = BucketLocker::new(client, "my-bucket", "", BucketSettings::default())?;
/// let lease = locker.acquire(&UploadId::random(), Duration::from_secs(20)).await?;
/// drop(lease);
/// locker.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct BucketLocker(Arc<Owner>);

/// The last of its clones ends the thread.
struct Owner {
    seats: MemoryLocker,
    node: Arc<Node>,
    /// The runtime of the thread. Calls are made there, so that none is cut short with the request
    /// that wanted it: what it came to would not be known.
    runtime: Handle,
    stop: watch::Sender<bool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl BucketLocker {
    /// A locker for everybody who keeps uploads below `prefix` in `bucket`. Nothing is sent before
    /// the first lease is wanted.
    ///
    /// # Errors
    /// [`BucketLockerError`], never because the service is away.
    pub fn new(
        client: Client,
        bucket: impl Into<String>,
        prefix: &str,
        settings: BucketSettings,
    ) -> Result<Self, BucketLockerError> {
        let BucketSettings { ttl, renew, .. } = settings;
        let range = Duration::from_millis(500)..=Duration::from_secs(3600);
        if !range.contains(&ttl)
            || renew > ttl / 3
            || [renew, settings.poll, settings.patience].contains(&Duration::ZERO)
        {
            return Err(BucketLockerError::Times { renew, ttl });
        }
        let records = Records::new(client, bucket.into(), prefix);
        let node = Arc::new(Node::new(records, settings));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BucketLockerError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = watch::channel(false);
        let keeper = Arc::clone(&node);
        thread::Builder::new()
            .name("landfall-leases".into())
            .spawn(move || {
                runtime.block_on(keep(&keeper, stopped));
                // A name that is still being resolved must not hold up the end.
                runtime.shutdown_background();
            })
            .map_err(BucketLockerError::Thread)?;
        Ok(Self(Arc::new(Owner {
            seats: MemoryLocker::new(),
            node,
            runtime: handle,
            stop,
        })))
    }

    /// What the locker did so far.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        let node = &self.0.node;
        let (held, lost) = node.table.count();
        LeaseStats {
            held,
            granted: node.granted.load(Ordering::Relaxed),
            waited: node.waited.load(Ordering::Relaxed),
            lost,
            unavailable: node.unavailable.load(Ordering::Relaxed),
        }
    }

    /// Waits until the leases that were dropped are free in the bucket, for
    /// [`BucketSettings::patience`] at most, and takes the node's sign of life away if no lease is
    /// left: for the end of a program, after which other nodes would have to wait for the `ttl`. A
    /// lease taken later begins anew.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn close(&self) {
        let table = &self.0.node.table;
        let all = async {
            loop {
                let written = table.written.notified();
                tokio::pin!(written);
                written.as_mut().enable();
                if table.all_released() {
                    return;
                }
                written.await;
            }
        };
        let done = timeout(self.0.node.settings.patience, all).await;
        // Without leases the node needs no sign of life either.
        if done.is_ok() && table.is_idle() {
            let node = Arc::clone(&self.0.node);
            let sleep = async move {
                node.lives
                    .sleep(&node.records, &node.table, &node.peers)
                    .await
            };
            // It can't panic, and only the end of the thread could end it.
            drop(self.0.runtime.spawn(sleep).await);
        }
    }

    /// One attempt to take the lease, which goes on by itself when the caller is dropped, and gives
    /// up then what it got.
    async fn attempt(
        &self,
        seat: Lease,
        id: &UploadId,
        request: Option<Request>,
    ) -> Result<Lease, Refusal> {
        let owner = Arc::clone(&self.0);
        let node = &self.0.node;
        let permit = Arc::clone(&node.attempts).acquire_owned();
        let Ok(Ok(permit)) = timeout(node.settings.patience, permit).await else {
            return Err(node.failed(&RecordError::Busy));
        };
        let id = id.clone();
        let attempt = self.0.runtime.spawn(async move {
            let _permit = permit;
            Arc::clone(&owner.node)
                .attempt(seat, id, request, owner)
                .await
        });
        // It neither panics nor is it aborted: only the end of the thread could end it.
        attempt.await.unwrap_or_else(|_| Err(Refusal::gone()))
    }
}

/// What the thread does until it is told to stop.
async fn keep(node: &Arc<Node>, mut stop: watch::Receiver<bool>) {
    let work = async {
        tokio::join!(
            node.lives.watch(&node.table, &node.peers),
            node.lives.beat(&node.records, &node.table, &node.peers),
            node.release(),
        );
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // What was cut short by that is done again.
    node.table.return_releases();
    let last_words = async {
        node.release_all(std::time::Instant::now() + LAST_WORDS)
            .await;
        if node.table.is_idle() {
            node.lives
                .sleep(&node.records, &node.table, &node.peers)
                .await;
        }
    };
    drop(timeout(LAST_WORDS, last_words).await);
}

impl BucketLocker {
    async fn acquire_for(
        &self,
        id: &UploadId,
        request: Request,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let begun = Instant::now();
        let mut seat = match request.offset {
            Some(offset) => self.0.seats.acquire_at(id, offset, wait).await?,
            None => self.0.seats.acquire(id, wait).await?,
        };
        let mut first = true;
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            seat = match self.attempt(seat, id, Some(request)).await {
                Ok(lease) => return Ok(lease),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::Busy(seat)) => seat,
            };
            if left.is_zero() {
                return Err(LeaseError::Locked);
            }
            if std::mem::take(&mut first) {
                self.0.node.waited.fetch_add(1, Ordering::Relaxed);
            }
            // Not all waiters of all nodes at once.
            let poll = self.0.node.settings.poll;
            let poll = poll.mul_f64(rand::random_range(0.7..1.0));
            sleep(poll.min(left)).await;
        }
    }
}

#[async_trait]
impl Locker for BucketLocker {
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        self.acquire_for(id, Request { offset: None }, wait).await
    }

    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: u64,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        let offset = Some(offset);
        self.acquire_for(id, Request { offset }, wait).await
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let seat = self.0.seats.try_acquire(id).await?;
        match self.attempt(seat, id, None).await {
            Ok(lease) => Ok(lease),
            Err(Refusal::Failed(error)) => Err(error),
            Err(Refusal::Busy(_)) => Err(LeaseError::Locked),
        }
    }
}

impl fmt::Debug for BucketLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketLocker")
            .field("leases", &self.0.node.records.leases())
            .field("bucket", &self.0.node.records.bucket)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
