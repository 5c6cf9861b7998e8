//! A connection to Redis that a test can interrupt, for one node alone.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use landfall_leases::{LeaseSettings, RedisLocker};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::sleep,
};

use crate::server::Server;

/// Forwards bytes between one locker and Redis. While it is blocked, bytes are buffered, as on a
/// network that drops packets.
pub(crate) struct FaultySocket {
    dir: TempDir,
    is_blocked: Arc<AtomicBool>,
    drops_messages: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl FaultySocket {
    pub(crate) fn to(server: &Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket.sock")).unwrap();
        let (is_blocked, drops_messages) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            server.socket().into(),
            Arc::clone(&is_blocked),
            Arc::clone(&drops_messages),
        ));
        Self {
            dir,
            is_blocked,
            drops_messages,
            _tasks: tasks,
        }
    }

    pub(crate) fn locker(&self, settings: &LeaseSettings) -> RedisLocker {
        let address = format!("redis+unix://{}/socket.sock", self.dir.path().display());
        RedisLocker::new(&address, settings.clone()).unwrap()
    }

    pub(crate) fn block(&self) {
        self.is_blocked.store(true, Ordering::SeqCst);
    }

    pub(crate) fn unblock(&self) {
        self.is_blocked.store(false, Ordering::SeqCst);
    }

    /// Drops messages of other nodes from now on, but no responses.
    pub(crate) fn lose_messages(&self) {
        self.drops_messages.store(true, Ordering::SeqCst);
    }
}

async fn accept(
    listener: UnixListener,
    server: PathBuf,
    is_blocked: Arc<AtomicBool>,
    drops_messages: Arc<AtomicBool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (node, _) = listener.accept().await.unwrap();
        let Ok(redis) = UnixStream::connect(&server).await else {
            continue;
        };
        let (from_node, to_node) = node.into_split();
        let (from_redis, to_redis) = redis.into_split();
        connections.spawn(forward(from_node, to_redis, Arc::clone(&is_blocked), None));
        connections.spawn(forward(
            from_redis,
            to_node,
            Arc::clone(&is_blocked),
            Some(Arc::clone(&drops_messages)),
        ));
    }
}

async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    is_blocked: Arc<AtomicBool>,
    drops_messages: Option<Arc<AtomicBool>>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        while is_blocked.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
        let mut bytes = buffer[..length].to_vec();
        if drops_messages
            .as_ref()
            .is_some_and(|drops| drops.load(Ordering::SeqCst))
        {
            corrupt_messages(&mut bytes);
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Makes the messages of other nodes invalid.
fn corrupt_messages(bytes: &mut [u8]) {
    for word in [b"\r\nyiel", b"\r\nfree"] {
        let mut from = 0;
        while let Some(at) = bytes[from..]
            .windows(word.len())
            .position(|seen| seen == word)
        {
            bytes[from + at + 2] = b'x';
            from += at + word.len();
        }
    }
}
