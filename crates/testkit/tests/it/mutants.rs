//! Stores with one fault each: the suite must find it, and nothing else.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Append, Capabilities, Concatenate, MemoryStore, Result, Store, Terminate},
    upload::{Snapshot, Upload, UploadId},
};
use landfall_testkit::store;
use tokio::sync::Mutex;

use crate::found::{assert_found, failing};

/// The delay of a step of the faulty stores.
const DELAY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// None: the wrapper itself passes, although its writes outlive a dropped call.
    None,
    /// `resume` loads the snapshot before it waits for the writer.
    LoadThenOpen,
    /// A dropped write takes effect after a later `resume` has returned.
    LateWrite,
    /// `save` replaces the description in two steps.
    TwoStepSave,
    /// A dropped save takes effect after a later lease has begun.
    LateSave,
    /// `create` stores an empty description first.
    TwoStepCreate,
    /// `terminate` forgets the upload's id before its description.
    ForgetfulTerminate,
    /// `concatenate` continues after the bytes of an earlier call.
    ResumingConcatenate,
}

/// A memory store whose steps take time and run to their end although their caller is gone.
#[derive(Clone)]
struct Mutant {
    inner: MemoryStore,
    mutation: Mutation,
    /// Held by the current writer.
    gate: Arc<Mutex<()>>,
    newest: Arc<AtomicU64>,
    terminated: Arc<std::sync::Mutex<Vec<UploadId>>>,
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mutant({:?})", self.mutation)
    }
}

impl Mutant {
    fn new(mutation: Mutation) -> Self {
        Self {
            inner: MemoryStore::new(),
            mutation,
            gate: Arc::default(),
            newest: Arc::default(),
            terminated: Arc::default(),
        }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == mutation
    }
}

#[async_trait]
impl Store for Mutant {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        if !self.is(Mutation::TwoStepCreate) {
            return self.inner.create(upload).await;
        }
        let bare = Upload::new(upload.id.clone(), upload.length);
        let bare = self.inner.create(bare).await?;
        tokio::time::sleep(DELAY).await;
        let mut whole = upload;
        whole.storage.clone_from(&bare.storage);
        self.inner.save(&whole, Fence(0)).await?;
        Ok(Arc::new(whole))
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.inner.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        self.newest.fetch_max(fence.0, Ordering::SeqCst);
        let early = self.inner.load(id).await?;
        let _gate = match self.mutation {
            Mutation::LateWrite => None,
            _ => Some(self.gate.lock().await),
        };
        let (snapshot, inner) = self.inner.resume(id, fence).await?;
        let append = SlowAppend {
            store: self.clone(),
            offset: inner.offset(),
            inner: Arc::new(Mutex::new(inner)),
        };
        let is_early = self.is(Mutation::LoadThenOpen);
        Ok((if is_early { early } else { snapshot }, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        self.newest.fetch_max(fence.0, Ordering::SeqCst);
        let (this, upload) = (self.clone(), upload.clone());
        match self.mutation {
            Mutation::TwoStepSave => {
                let mut half = (*self.inner.load(&upload.id).await?.upload).clone();
                half.metadata = upload.metadata.clone();
                self.inner.save(&half, fence).await?;
                tokio::time::sleep(DELAY).await;
                self.inner.save(&upload, fence).await
            }
            Mutation::LateSave => {
                let late = tokio::spawn(async move {
                    tokio::time::sleep(DELAY).await;
                    let newest = Fence(this.newest.load(Ordering::SeqCst));
                    this.inner.save(&upload, newest).await
                });
                late.await.expect("the task")
            }
            _ => self.inner.save(&upload, fence).await,
        }
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let inner = self.inner.capabilities();
        Capabilities {
            terminator: Some(self),
            reader: inner.reader,
            concatenator: Some(self),
            ..Capabilities::default()
        }
    }
}

#[async_trait]
impl Terminate for Mutant {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        if self.is(Mutation::ForgetfulTerminate) {
            let is_first = {
                let mut terminated = self.terminated.lock().unwrap();
                let is_first = !terminated.contains(&upload.id);
                terminated.push(upload.id.clone());
                is_first
            };
            if !is_first {
                return Ok(false);
            }
            tokio::time::sleep(DELAY).await;
        }
        let terminator = self.inner.capabilities().terminator.expect("a terminator");
        terminator.terminate(upload, fence).await
    }
}

#[async_trait]
impl Concatenate for Mutant {
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64> {
        let reader = self.inner.capabilities().reader.expect("a reader");
        let (snapshot, mut append) = self.inner.resume(&target.id, fence).await?;
        if !self.is(Mutation::ResumingConcatenate) || snapshot.offset == snapshot_length(&snapshot)
        {
            let concatenator = self
                .inner
                .capabilities()
                .concatenator
                .expect("a concatenator");
            return concatenator.concatenate(target, parts, fence).await;
        }
        for part in parts {
            let end = self.inner.load(&part.id).await?.offset;
            let bytes =
                futures_util::StreamExt::collect::<Vec<_>>(reader.read(part, 0..end).await?);
            let mut chunks = bytes.await.into_iter().collect::<Result<Vec<Bytes>>>()?;
            append.write(&mut chunks).await?;
            tokio::time::sleep(DELAY).await;
        }
        append.commit().await
    }
}

fn snapshot_length(snapshot: &Snapshot) -> u64 {
    snapshot.upload.length.unwrap_or_default()
}

#[derive(Debug)]
struct SlowAppend {
    store: Mutant,
    inner: Arc<Mutex<Box<dyn Append>>>,
    offset: u64,
}

#[async_trait]
impl Append for SlowAppend {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        let gate = match self.store.mutation {
            Mutation::LateWrite => None,
            _ => Some(Arc::clone(&self.store.gate).lock_owned().await),
        };
        let (inner, mut taken) = (Arc::clone(&self.inner), std::mem::take(chunks));
        // Like a thread or a network request: it completes even if the future is dropped.
        let written = tokio::spawn(async move {
            let _gate = gate;
            tokio::time::sleep(DELAY).await;
            let mut inner = inner.lock().await;
            let written = inner.write(&mut taken).await;
            (inner.offset(), written)
        });
        let (offset, written) = written.await.expect("the task");
        self.offset = offset;
        written
    }

    async fn commit(&mut self) -> Result<u64> {
        self.inner.lock().await.commit().await
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        self.inner.lock().await.begin_unverified().await
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.inner.lock().await.accept_unverified().await
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        let mut inner = self.inner.lock().await;
        inner.discard_unverified().await?;
        self.offset = inner.offset();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_by_the_check_made_for_it() {
    for (mutation, expected) in [
        (Mutation::None, ""),
        (Mutation::LoadThenOpen, "resuming_is_one_act"),
        (
            Mutation::LateWrite,
            "a_dropped_write_has_ended_before_the_next_append",
        ),
        (
            Mutation::TwoStepSave,
            "a_dropped_save_leaves_the_old_description_or_the_new",
        ),
        (
            Mutation::LateSave,
            "a_dropped_save_leaves_the_old_description_or_the_new",
        ),
        (
            Mutation::TwoStepCreate,
            "a_dropped_creation_leaves_nothing_or_an_empty_upload",
        ),
        (
            Mutation::ForgetfulTerminate,
            "a_dropped_termination_can_be_repeated",
        ),
        (
            Mutation::ResumingConcatenate,
            "a_dropped_concatenation_starts_again_empty",
        ),
    ] {
        let mut checks = store::all();
        checks.retain(|check| {
            check.name() == "resuming_is_one_act" || check.name().starts_with("a_dropped_")
        });
        assert_eq!(checks.len(), 6, "{checks:?}");
        let subject = || Arc::new(Mutant::new(mutation)) as store::Subject;
        assert_found(mutation, &failing(checks, subject).await, expected);
    }
}
