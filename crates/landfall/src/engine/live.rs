//! Uploads that are being written in this process, so that their offset is answered from memory and
//! a hook can stop them.

use std::{
    collections::HashMap,
    future::{Future as _, poll_fn},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use tokio::sync::Notify;

use crate::{
    hook::Reply,
    upload::{Upload, UploadId},
};

const SHARDS: usize = 16;

type Shard = HashMap<UploadId, Arc<Live>>;

/// The set of them.
#[derive(Debug)]
pub(super) struct LiveSet {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

impl LiveSet {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, id: &UploadId) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(id);
        // The low bits choose the bucket inside the map.
        let shard = &self.shards[(hash >> 60) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an upload; it leaves when the guard is dropped. The caller has its lease, so there is
    /// no other.
    pub(super) fn enter(&self, upload: Arc<Upload>, offset: u64) -> Entered<'_> {
        let live = Arc::new(Live {
            offset: AtomicU64::new(offset),
            received: AtomicU64::new(offset),
            stop: Mutex::new(None),
            wake: Notify::new(),
            upload,
        });
        self.shard(&live.upload.id)
            .insert(live.upload.id.clone(), live.clone());
        Entered { set: self, live }
    }

    pub(super) fn get(&self, id: &UploadId) -> Option<Arc<Live>> {
        self.shard(id).get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }
}

/// An upload that is being written.
#[derive(Debug)]
pub(crate) struct Live {
    pub(super) upload: Arc<Upload>,
    offset: AtomicU64,
    received: AtomicU64,
    stop: Mutex<Option<Reply>>,
    wake: Notify,
}

impl Live {
    /// The offset that may be told.
    pub(super) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::AcqRel);
    }

    /// The offset that the bytes received so far would reach, for progress.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn receive(&self, offset: u64) {
        self.received.store(offset, Ordering::Relaxed);
    }

    pub(super) fn stop(&self, reply: Reply) {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        stop.get_or_insert(reply);
        drop(stop);
        self.wake.notify_waiters();
    }

    fn taken(&self) -> Option<Reply> {
        self.stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits until a hook stops the upload.
    pub(super) async fn stopped(&self) -> Reply {
        let notified = self.wake.notified();
        tokio::pin!(notified);
        poll_fn(|cx| {
            // Registering before looking, so that a stop between the two isn't missed.
            let _ = notified.as_mut().poll(cx);
            match self.taken() {
                Some(reply) => Poll::Ready(reply),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// Takes the upload out of the set when dropped.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    set: &'a LiveSet,
    live: Arc<Live>,
}

impl std::ops::Deref for Entered<'_> {
    type Target = Arc<Live>;

    fn deref(&self) -> &Arc<Live> {
        &self.live
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut shard = self.set.shard(&self.live.upload.id);
        if shard
            .get(&self.live.upload.id)
            .is_some_and(|other| Arc::ptr_eq(other, &self.live))
        {
            shard.remove(&self.live.upload.id);
        }
    }
}
