//! Leases in Redis or Valkey.
//!
//! Each change is a Lua script (`scripts/*.lua`), which Redis runs atomically; messages of other nodes
//! arrive on the same connection. `redis::aio::ConnectionManager` cannot be used: after it reconnects, a
//! call could reach a server that has lost the leases. `connection.rs` identifies each server before the
//! first call.

mod connection;
mod scripts;

use std::{
    fmt, str,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use landfall::upload::UploadId;

pub use self::connection::ConnectionError;
use self::{
    connection::{RedisConnection, field},
    scripts::Scripts,
};
use crate::{
    locker::RemoteLocker,
    service::{Acquisition, LeaseService, Message, Renewal, WaitingRequest, node_name},
    settings::{LeaseSettings, SettingsError},
    table::{LeaseTable, OwnedLease, QueuedRelease},
    thread::LeaseThread,
};

/// A locker that stores leases in Redis (6 or newer) or Valkey.
///
/// # Cost
/// Two calls for each lease: one acquires and one releases it; concurrent calls share a packet. A lease
/// held for longer than a quarter of its [`ttl`](LeaseSettings::ttl) is renewed at that interval, in
/// batches of 256: with 10,000 concurrent uploads and the default of 5 seconds, Redis executes 8,000
/// small scripts a second, in 32 packets. A lease takes some 200 bytes in Redis, and its fence as many
/// for a day.
///
/// # Fencing tokens
/// The leases of one upload are numbered consecutively: the next number proves that no other node had
/// the lease in between. If there is no number, because the upload is new, was idle for a day, or Redis
/// has lost its state, the count starts from the clock of Redis in nanoseconds, so that numbers never
/// decrease.
///
/// # Availability
/// A restart, or a failover to a replica, is detected by the server's run id. Leases from before it are
/// ignored, since they may be outdated: holders write theirs again, and no node gets an unknown lease
/// until those of the previous primary have expired. The same happens if the state vanishes (`FLUSHALL`): the key that
/// names the primary is missing then. So the first lease after a start, a failover or a loss of the data may take one
/// lifetime. A replica that lacks the last writes is a new primary, too. A single lease that is evicted is unknown:
/// the next one is not [settled](landfall::lease::LeaseTerms).
///
/// Redis needs `maxmemory-policy noeviction` (its default), a single primary, and the permission to run
/// scripts and `INFO`, `PUBLISH` and `SUBSCRIBE`. Cluster mode and Sentinel are not supported.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use landfall::{Composer, store::file::FileStore};
/// use landfall_leases::{LeaseSettings, RedisLocker};
///
/// let url = "redis://user:password@127.0.0.1:6379/0";
/// let locker = RedisLocker::new(url, LeaseSettings::redis())?;
/// let composer = Composer::join(FileStore::new("/srv/uploads")?).with_locker(locker.clone());
/// // …
/// locker.close().await;
/// # Ok(()) }
/// ```
pub type RedisLocker = RemoteLocker<RedisLeases>;

impl RedisLocker {
    /// Creates a locker on the Redis server at `address`, and starts to connect.
    ///
    /// The address is `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or
    /// `redis+unix:///path/of/socket[?db=…&user=…&pass=…]`. Use [`check`](Self::check) to wait for the
    /// connection.
    ///
    /// # Errors
    /// [`SettingsError`], but never because Redis is unavailable.
    pub fn new(address: &str, settings: LeaseSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let runtime = LeaseThread::runtime().map_err(SettingsError::Thread)?;
        let node = node_name();
        let scripts = Scripts::new(settings.clone(), node.clone());
        let connection = RedisConnection::new(address, scripts)?;
        let service = RedisLeases {
            connection: Arc::new(connection),
            node: node.into(),
            max_fence: AtomicU64::new(0),
        };
        Self::start(runtime, service, settings)
    }
}

/// The connection of a [`RedisLocker`].
pub struct RedisLeases {
    connection: Arc<RedisConnection>,
    node: Arc<str>,
    max_fence: AtomicU64,
}

/// The server at the address, as found by [`RedisLocker::check`](RemoteLocker::check).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `redis` or `valkey`.
    pub name: String,
    /// The version.
    pub version: String,
    /// The eviction policy, if it can evict leases when the memory is full.
    pub eviction_policy: Option<String>,
}

impl ServerInfo {
    fn parse(info: &str) -> Self {
        let valkey = field(info, "valkey_version");
        let limited = field(info, "maxmemory").is_some_and(|limit| limit != "0");
        let policy = field(info, "maxmemory_policy").filter(|policy| *policy != "noeviction");
        let version = valkey.or_else(|| field(info, "redis_version"));
        Self {
            name: if valkey.is_some() { "valkey" } else { "redis" }.into(),
            version: version.unwrap_or_default().into(),
            eviction_policy: policy.filter(|_| limited).map(str::to_owned),
        }
    }
}

impl LeaseService for RedisLeases {
    type Error = ConnectionError;
    type Info = ServerInfo;

    const MAX_BATCH: usize = 256;
    const RENEWAL: Option<(u32, u32)> = Some((50, 4));

    async fn acquire(
        &self,
        id: &UploadId,
        number: u64,
        request: Option<WaitingRequest>,
    ) -> Result<Acquisition, ConnectionError> {
        let connection = &self.connection;
        let max_fence = self.max_fence.load(Ordering::Relaxed);
        let acquire =
            connection.call(|scripts, run| scripts.acquire(run, id, number, max_fence, request));
        let (reply, sent) = acquire.await?;
        let acquired = connection.scripts.acquisition(reply, sent);
        if let Acquisition::Granted(granted) = &acquired {
            self.max_fence.fetch_max(granted.fence.0, Ordering::Relaxed);
        }
        Ok(acquired)
    }

    async fn renew(&self, leases: &[OwnedLease]) -> Result<Vec<Renewal>, ConnectionError> {
        let connection = &self.connection;
        let renew = |scripts: &Scripts, run: &_| {
            leases
                .iter()
                .map(|lease| scripts.renew(run, lease))
                .collect()
        };
        let replies = connection.pipeline(connection.scripts.settings.renewal_timeout(), renew);
        let replies: Vec<String> = replies.await?;
        Ok(replies
            .iter()
            .map(|reply| Scripts::renewal(reply))
            .collect())
    }

    async fn release(&self, leases: &[QueuedRelease]) -> Result<(), ConnectionError> {
        let connection = &self.connection;
        let release = |scripts: &Scripts, run: &_| {
            let leases = leases.iter();
            leases.map(|lease| scripts.release(run, lease)).collect()
        };
        let released =
            connection.pipeline::<u8>(connection.scripts.settings.attempt_timeout(), release);
        released.await.map(drop)
    }

    async fn check(&self) -> Result<ServerInfo, ConnectionError> {
        let (info, _): (String, _) = self.connection.call(|_, _| redis::cmd("INFO")).await?;
        Ok(ServerInfo::parse(&info))
    }

    async fn run(&self, table: &Arc<LeaseTable>) {
        let (messages, node) = (Arc::clone(table), Arc::clone(&self.node));
        let on_message = move |text: &[u8]| {
            let upload = |id: &str| UploadId::new(id).ok();
            let text = str::from_utf8(text).unwrap_or_default();
            if let Some(message) = Message::parse(text, &node, scripts::request, upload) {
                message.deliver(&messages);
            }
        };
        self.connection.maintain(Arc::new(on_message), table).await;
    }

    /// Nothing waits for the end of the connection.
    async fn close(&self) {}

    fn is_available(&self) -> bool {
        self.connection.is_connected()
    }

    fn is_connected(&self) -> bool {
        self.connection.is_connected()
    }

    fn ended() -> ConnectionError {
        ConnectionError::NotConnected {
            address: String::new(),
            cause: "the lease thread has ended".into(),
        }
    }
}

impl fmt::Debug for RedisLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisLeases({})", self.connection.address)
    }
}
