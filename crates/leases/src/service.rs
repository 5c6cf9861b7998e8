//! The calls of a backend and their types. A backend must not keep leases.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use landfall::{lease::Fence, upload::UploadId};
use tokio::time::Instant;

use crate::table::{LeaseTable, OwnedLease, QueuedRelease};

/// The calls of a [`RemoteLocker`](crate::RemoteLocker) to the service with the leases. Only the clock
/// of the service decides whether a lease has expired.
///
/// All calls are made in the thread of the locker.
pub trait LeaseService: fmt::Debug + Send + Sync + 'static {
    /// A failure of the service.
    type Error: Error + Send + Sync + 'static;
    /// The result of a [check](Self::check).
    type Info: Send + 'static;

    /// The most leases of one renewal or release.
    const MAX_BATCH: usize;
    /// The interval of renewals, and the age at which a lease takes part, as parts of the lifetime.
    /// `None`: [`run`](Self::run) renews all leases at once, and [`renew`](Self::renew) is not called.
    const RENEWAL: Option<(u32, u32)>;

    /// Acquires a lease if it is free, expired, or reserved for this node.
    ///
    /// A lease with a lower number of this node, which the node must have ended, is acquired if no
    /// other node waits. With a request, the holder is made to yield, and the node becomes the next
    /// holder if no other waits.
    ///
    /// After an error, the lease may have been acquired: [release](Self::release) it.
    fn acquire(
        &self,
        id: &UploadId,
        number: u64,
        request: Option<WaitingRequest>,
    ) -> impl Future<Output = Result<Acquisition, Self::Error>> + Send;

    /// Checks that a lease that was granted, and is in the table by now, is not lost already.
    fn confirm(&self, _id: &UploadId, _number: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Extends leases to a lifetime from now, also expired ones that were not acquired since. Returns
    /// an outcome for each.
    fn renew(
        &self,
        _leases: &[OwnedLease],
    ) -> impl Future<Output = Result<Vec<Renewal>, Self::Error>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Releases leases, or reserves them for the nodes that wait, which get a message. Those of other owners
    /// stay. After an error, the call is repeated with all of them.
    fn release(
        &self,
        leases: &[QueuedRelease],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Checks that the service can be used at all.
    fn check(&self) -> impl Future<Output = Result<Self::Info, Self::Error>> + Send;

    /// Keeps the connection, and gives the messages of other nodes to the table. Whenever messages may
    /// have been lost, or the service is [available](Self::is_available) again, it resumes the table.
    /// Does not return.
    fn run(&self, table: &Arc<LeaseTable>) -> impl Future<Output = ()> + Send;

    /// Removes what the service keeps for the node, unless it has leases. The next lease restores it.
    fn retire(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends the connection.
    fn close(&self) -> impl Future<Output = ()> + Send;

    /// Returns whether calls may succeed.
    fn is_available(&self) -> bool;

    /// Returns whether calls may succeed and messages arrive.
    fn is_connected(&self) -> bool;

    /// The thread of the locker has ended.
    fn ended() -> Self::Error;
}

/// The outcome of an attempt to acquire a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquisition {
    /// This node has it.
    Granted(GrantedLease),
    /// Another node holds it.
    Held {
        /// Time until it expires unless renewed.
        remaining: Duration,
        /// Time until the next request, unless a message comes first.
        poll: Duration,
    },
}

/// A lease of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedLease {
    /// Greater than that of each earlier lease of the upload, and by exactly one only if no lease of it
    /// was granted in between.
    pub(crate) fence: Fence,
    /// The request of another node that already waits for it.
    pub(crate) waiting: Option<WaitingRequest>,
    /// When the call was sent.
    pub(crate) sent: Instant,
    /// Whether the service knows that the last holder released it: see [`LeaseTerms`](landfall::lease::LeaseTerms).
    /// That of this node counts as released: [`LeaseTable`] knows it.
    pub(crate) is_settled: bool,
}

/// A request that waits for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingRequest {
    /// The offset at which the request appends; `None` if it does not append.
    pub(crate) offset: Option<u64>,
}

/// The outcome of the renewal of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It is renewed; a request of another node may wait for it.
    Renewed(Option<WaitingRequest>),
    /// Another owner has it.
    Lost,
}

/// A message for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// Another node waits for the lease with this number.
    Yield(UploadId, u64, WaitingRequest),
    /// A lease was released and is reserved for a node that waits.
    Reserved(UploadId),
}

impl Message {
    /// Parses `yield NODE:NUMBER REQUEST UPLOAD`, `free UPLOAD` or `free NODE: UPLOAD`. `None` if it is
    /// for another node.
    pub(crate) fn parse(
        text: &str,
        node: &str,
        request: impl Fn(&str) -> Option<WaitingRequest>,
        upload: impl Fn(&str) -> Option<UploadId>,
    ) -> Option<Self> {
        let fields: Vec<_> = text.split(' ').collect();
        let number = |owner: &'_ str| {
            let number = owner.strip_prefix(node)?.strip_prefix(':')?;
            Some(number.parse::<u64>().ok())
        };
        match *fields {
            ["yield", owner, asked, name] => {
                let number = number(owner)??;
                Some(Self::Yield(upload(name)?, number, request(asked)?))
            }
            ["free", owner, name] => number(owner).and(upload(name)).map(Self::Reserved),
            ["free", name] => upload(name).map(Self::Reserved),
            _ => None,
        }
    }

    pub(crate) fn deliver(&self, table: &LeaseTable) {
        match self {
            Self::Yield(id, number, request) => {
                table.request_yield(id, *number, request.offset);
            }
            Self::Reserved(id) => table.wake(id),
        }
    }
}

/// Returns a random name for a node.
pub(crate) fn node_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}
