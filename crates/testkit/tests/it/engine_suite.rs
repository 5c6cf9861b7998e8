//! The suite of the engine on every store, and on parts with one fault each, which it must find.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    Composer, Config,
    lease::{Fence, Lease, LeaseError, Locker, MemoryLocker, YieldSignal},
    store::{
        Append, Capabilities, Concatenate, DeferLength, MemoryStore, Result, Store, StoreError,
        Terminate, file::FileStore,
    },
    upload::{Completion, Snapshot, Upload, UploadId, UploadKind},
};
use landfall_testkit::engine;
use tokio::sync::Mutex;

use super::{
    found::{assert_found, failing},
    own_store::OwnStore,
};

#[tokio::test(flavor = "multi_thread")]
async fn memory_store() {
    let make = async || Config::new(Composer::join(MemoryStore::new()));
    engine::conformance(make).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn file_store() {
    let dir = tempfile::tempdir().unwrap();
    let make = async || {
        let dir = tempfile::tempdir_in(dir.path()).unwrap().keep();
        Config::new(Composer::join(FileStore::new(dir).unwrap()))
    };
    engine::conformance(make).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_written_from_nothing() {
    let make = async || Config::new(Composer::join(OwnStore::default()));
    let report = engine::conformance(make).await;
    let wanted = "readers_wait_while_a_hook_decides_about_completion";
    assert!(report.passed.contains(&wanted));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// None: the wrapper itself passes.
    None,
    /// Acknowledged bytes are lost when the append is dropped.
    CommitInMemory,
    /// The locker never requests that the holder yields.
    NoYield,
    /// Nothing is stored about completion hooks.
    ForgetPendingCompletion,
    /// Removed uploads stay.
    KeepTerminated,
    /// Every second creation fails after it has taken effect.
    CreateAndFail,
    /// The length of a final upload is not stored at its creation.
    ForgetFinalLength,
    /// It is not stored that a final upload has been concatenated.
    ForgetConcatenated,
    /// A late length is returned and not stored.
    ForgetLateLength,
    /// Discarded bytes stay.
    KeepDiscarded,
    /// `load` waits while a concatenation runs.
    LoadWaits,
}

#[derive(Debug, Clone)]
struct Mutant {
    inner: MemoryStore,
    mutation: Mutation,
    creations: Arc<AtomicU64>,
    /// Held by a concatenation.
    gate: Arc<Mutex<()>>,
}

impl Mutant {
    fn config(mutation: Mutation) -> Config {
        let mutant = Self {
            inner: MemoryStore::new(),
            mutation,
            creations: Arc::default(),
            gate: Arc::default(),
        };
        let parts = Composer::join(mutant);
        Config::new(match mutation {
            Mutation::NoYield => parts.with_locker(DeafLocker(MemoryLocker::new())),
            _ => parts,
        })
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == mutation
    }

    fn distort(&self, upload: &mut Upload) {
        if self.is(Mutation::ForgetPendingCompletion) && upload.completion == Completion::Pending {
            upload.completion = Completion::NotTracked;
        }
        if let (
            true,
            UploadKind::Final {
                concatenated: joined,
                ..
            },
        ) = (self.is(Mutation::ForgetConcatenated), &mut upload.kind)
        {
            *joined = false;
        }
    }
}

#[async_trait]
impl Store for Mutant {
    async fn create(&self, mut upload: Upload) -> Result<Arc<Upload>> {
        self.distort(&mut upload);
        if self.is(Mutation::ForgetFinalLength) && upload.is_final() {
            upload.length = None;
        }
        let created = self.inner.create(upload).await?;
        let number = self.creations.fetch_add(1, Ordering::Relaxed);
        if self.is(Mutation::CreateAndFail) && number.is_multiple_of(2) {
            return Err(StoreError::Full("after all".into()));
        }
        Ok(created)
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        if self.is(Mutation::LoadWaits) {
            drop(self.gate.lock().await);
        }
        self.inner.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let (snapshot, inner) = self.inner.resume(id, fence).await?;
        if self.is(Mutation::KeepDiscarded) {
            return Ok((snapshot, Box::new(HoardingAppend(inner))));
        }
        if !self.is(Mutation::CommitInMemory) {
            return Ok((snapshot, inner));
        }
        let append = LossyAppend {
            inner,
            held_back: Vec::new(),
            length: snapshot.upload.length,
        };
        Ok((snapshot, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let mut upload = upload.clone();
        self.distort(&mut upload);
        self.inner.save(&upload, fence).await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let inner = self.inner.capabilities();
        Capabilities {
            terminator: Some(self),
            reader: inner.reader,
            concatenator: Some(self),
            length_deferrer: Some(self),
            ..Capabilities::default()
        }
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        self.inner.locker()
    }
}

#[async_trait]
impl DeferLength for Mutant {
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>> {
        if self.is(Mutation::ForgetLateLength) {
            let mut declared = upload.clone();
            declared.length = Some(length);
            return Ok(Arc::new(declared));
        }
        let deferrer = self
            .inner
            .capabilities()
            .length_deferrer
            .expect("a length deferrer");
        deferrer.declare_length(upload, length, fence).await
    }
}

#[async_trait]
impl Terminate for Mutant {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        if self.is(Mutation::KeepTerminated) {
            return Ok(true);
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
        let _gate = self.gate.lock().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let concatenator = self
            .inner
            .capabilities()
            .concatenator
            .expect("a concatenator");
        concatenator.concatenate(target, parts, fence).await
    }
}

/// Keeps bytes in memory until the upload is complete.
#[derive(Debug)]
struct LossyAppend {
    inner: Box<dyn Append>,
    held_back: Vec<Bytes>,
    length: Option<u64>,
}

#[async_trait]
impl Append for LossyAppend {
    fn offset(&self) -> u64 {
        let held_back: usize = self.held_back.iter().map(Bytes::len).sum();
        self.inner.offset() + held_back as u64
    }

    fn readable(&self) -> Option<u64> {
        Some(self.offset())
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        self.held_back.append(chunks);
        if Some(self.offset()) == self.length {
            self.inner.write(&mut self.held_back).await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<u64> {
        self.inner.commit().await?;
        Ok(self.offset())
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        self.inner.begin_unverified().await
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.inner.accept_unverified().await
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        self.held_back.clear();
        self.inner.discard_unverified().await
    }
}

/// Keeps bytes that it has to discard.
#[derive(Debug)]
struct HoardingAppend(Box<dyn Append>);

#[async_trait]
impl Append for HoardingAppend {
    fn offset(&self) -> u64 {
        self.0.offset()
    }

    fn readable(&self) -> Option<u64> {
        self.0.readable()
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        self.0.write(chunks).await
    }

    async fn commit(&mut self) -> Result<u64> {
        self.0.commit().await
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        self.0.begin_unverified().await
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.0.accept_unverified().await
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        self.0.accept_unverified().await
    }
}

/// A locker whose leases are kept until their holders are done.
#[derive(Debug)]
struct DeafLocker(MemoryLocker);

fn deafen(lease: Lease) -> Lease {
    Lease::new(lease.fence(), YieldSignal::new(), lease)
}

#[async_trait]
impl Locker for DeafLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        _offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        self.0.acquire(id, wait).await.map(deafen)
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        self.0.try_acquire(id).await.map(deafen)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_by_the_check_made_for_it() {
    let mut running = Vec::new();
    for (mutation, expected) in [
        (Mutation::None, ""),
        (
            Mutation::CommitInMemory,
            "a_new_client_resumes_at_the_stopped_writers_offset",
        ),
        (
            Mutation::NoYield,
            "a_new_client_resumes_at_the_stopped_writers_offset",
        ),
        (
            Mutation::ForgetPendingCompletion,
            "readers_wait_while_a_hook_decides_about_completion",
        ),
        (
            Mutation::KeepTerminated,
            "a_denied_completion_leaves_nothing",
        ),
        (
            Mutation::CreateAndFail,
            "a_dropped_request_cuts_no_effect_from_its_event",
        ),
        (
            Mutation::ForgetFinalLength,
            "the_length_of_a_final_upload_is_stored_at_its_creation",
        ),
        (
            Mutation::ForgetConcatenated,
            "a_concatenated_upload_has_the_fields_of_a_complete_one",
        ),
        (
            Mutation::ForgetLateLength,
            "a_late_length_leads_to_the_fields_of_an_early_one",
        ),
        (
            Mutation::KeepDiscarded,
            "content_beyond_the_length_changes_nothing",
        ),
        (
            Mutation::LoadWaits,
            "a_final_upload_is_inspected_while_it_is_concatenated",
        ),
    ] {
        let run = tokio::spawn(failing(engine::all(), move || Mutant::config(mutation)));
        running.push((mutation, expected, run));
    }
    for (mutation, expected, run) in running {
        assert_found(mutation, &run.await.unwrap(), expected);
    }
}
