//! A way to Redis that can be cut, for one node alone.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use landfall_redis::{RedisLocker, RedisSettings};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::sleep,
};

use crate::server::Server;

/// Carries bytes between one locker and Redis, unless it is dead: then bytes pile up on both sides,
/// as on a network that drops packets.
pub(crate) struct Cable {
    dir: TempDir,
    dead: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Cable {
    pub(crate) fn to(server: &Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("cable.sock")).unwrap();
        let (dead, deaf) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            server.socket().into(),
            Arc::clone(&dead),
            Arc::clone(&deaf),
        ));
        Self {
            dir,
            dead,
            deaf,
            _tasks: tasks,
        }
    }

    pub(crate) fn locker(&self, settings: &RedisSettings) -> RedisLocker {
        let address = format!("redis+unix://{}/cable.sock", self.dir.path().display());
        RedisLocker::new(&address, settings.clone()).unwrap()
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub(crate) fn live(&self) {
        self.dead.store(false, Ordering::SeqCst);
    }

    /// From now on messages of other nodes are lost; answers are not.
    pub(crate) fn lose_messages(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }
}

async fn accept(
    listener: UnixListener,
    server: PathBuf,
    dead: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (node, _) = listener.accept().await.unwrap();
        let Ok(redis) = UnixStream::connect(&server).await else {
            continue;
        };
        let (from_node, to_node) = node.into_split();
        let (from_redis, to_redis) = redis.into_split();
        connections.spawn(carry(from_node, to_redis, Arc::clone(&dead), None));
        connections.spawn(carry(
            from_redis,
            to_node,
            Arc::clone(&dead),
            Some(Arc::clone(&deaf)),
        ));
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    dead: Arc<AtomicBool>,
    deaf: Option<Arc<AtomicBool>>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        while dead.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
        let mut bytes = buffer[..length].to_vec();
        if deaf
            .as_ref()
            .is_some_and(|deaf| deaf.load(Ordering::SeqCst))
        {
            mislead(&mut bytes);
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Makes messages of other nodes mean nothing.
fn mislead(bytes: &mut [u8]) {
    for word in [b"\r\nask ", b"\r\nfree"] {
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
