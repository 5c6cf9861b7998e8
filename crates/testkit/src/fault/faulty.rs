//! Forwards the calls of a store and injects the planned faults.
//!
//! The methods that do not wait (`create_now` and so on) are not forwarded, so callers use those with faults. After a
//! failed accept or discard, every further change by that append fails, because its unverified bytes must not count.

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use landfall::{
    lease::{Fence, Locker},
    removal::{ClockMemory, Removable},
    store::{
        Append, ByteStream, Capabilities, Concatenate, Cursor, DeferLength, DueFilter, DueIndex,
        Enumerate, Finish, Orphan, Page, Read, Result, Store, StoreError, SweepClaim, Terminate,
    },
    upload::{Snapshot, Upload, UploadId},
};

use super::plan::{Failure, Fault, Faults, StoreCall, with_fault};

/// A store around another, with [`Faults`]. It can do what the other can.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use landfall::{store::{MemoryStore, Store, StoreError}, upload::{Upload, UploadId}};
/// use landfall_testkit::fault::{StoreCall, Failure, Fault, FaultStore, Faults};
///
/// let faults = Faults::none();
/// let store = FaultStore::new(MemoryStore::new(), faults.clone());
/// faults.plan(StoreCall::Create, Fault::Before(Failure::Full));
/// let id = UploadId::random();
/// let full = store.create(Upload::new(id.clone(), Some(5))).await;
/// assert!(matches!(full, Err(StoreError::Full(_))));
/// assert!(store.create(Upload::new(id, Some(5))).await.is_ok());
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    faults: Faults,
}

impl FaultStore {
    /// Puts faults around `inner`.
    pub fn new(inner: impl Store, faults: Faults) -> Self {
        let inner = Arc::new(inner);
        Self { inner, faults }
    }

    async fn run<T>(&self, call: StoreCall, work: impl Future<Output = Result<T>>) -> Result<T> {
        with_fault(self.faults.draw(call), call, work).await
    }

    fn flaky(&self, inner: Box<dyn Append>) -> Box<dyn Append> {
        let (faults, broken) = (self.faults.clone(), false);
        Box::new(FaultAppend {
            inner,
            faults,
            broken,
        })
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        self.run(StoreCall::Create, self.inner.create(upload)).await
    }

    async fn assign_id(&self, upload: &mut Upload) -> Result<()> {
        self.inner.assign_id(upload).await
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.run(StoreCall::Load, self.inner.load(id)).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let work = self.inner.resume(id, fence);
        let (snapshot, append) = self.run(StoreCall::Resume, work).await?;
        Ok((snapshot, self.flaky(append)))
    }

    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        let both = self.run(StoreCall::Create, self.inner.create_append(upload, fence));
        let (upload, append) = both.await?;
        Ok((upload, self.flaky(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let work = self.inner.save(upload, fence);
        self.run(StoreCall::Save, work).await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        wrapped(self, self.inner.capabilities())
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        self.inner.locker()
    }
}

#[async_trait]
impl Terminate for FaultStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        let inner = capability(self.inner.capabilities().terminator)?;
        let work = inner.terminate(upload, fence);
        self.run(StoreCall::Terminate, work).await
    }

    async fn expire(&self, upload: &Upload, fence: Fence, permission: Removable) -> Result<bool> {
        let inner = capability(self.inner.capabilities().terminator)?;
        let work = inner.expire(upload, fence, permission);
        self.run(StoreCall::Terminate, work).await
    }
}

#[async_trait]
impl Finish for FaultStore {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        let inner = capability(self.inner.capabilities().finisher)?;
        let work = inner.finish(upload, fence);
        self.run(StoreCall::Finish, work).await
    }
}

#[async_trait]
impl Read for FaultStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let work = capability(self.inner.capabilities().reader)?.read(upload, range);
        match self.faults.draw(StoreCall::Read) {
            Some(Fault::Short(left, failure)) => Ok(Box::pin(FailingDownload {
                inner: work.await?,
                left,
                failure: Some(failure),
            })),
            fault => with_fault(fault, StoreCall::Read, work).await,
        }
    }

    fn reads_unfinished(&self) -> bool {
        let reader = self.inner.capabilities().reader;
        reader.is_some_and(|reader| reader.reads_unfinished())
    }

    async fn link(&self, upload: &Upload, kind: &str, disposition: &str) -> Result<Option<String>> {
        let inner = capability(self.inner.capabilities().reader)?;
        let link = inner.link(upload, kind, disposition);
        with_fault(self.faults.draw(StoreCall::Read), StoreCall::Read, link).await
    }
}

#[async_trait]
impl Concatenate for FaultStore {
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64> {
        let inner = capability(self.inner.capabilities().concatenator)?;
        let work = inner.concatenate(target, parts, fence);
        self.run(StoreCall::Concatenate, work).await
    }
}

#[async_trait]
impl DeferLength for FaultStore {
    async fn declare_length(
        &self,
        upload: &Upload,
        length: u64,
        fence: Fence,
    ) -> Result<Arc<Upload>> {
        let inner = capability(self.inner.capabilities().length_deferrer)?;
        let work = inner.declare_length(upload, length, fence);
        self.run(StoreCall::DeclareLength, work).await
    }
}

#[async_trait]
impl Enumerate for FaultStore {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let inner = capability(self.inner.capabilities().enumerator)?;
        self.run(StoreCall::Page, inner.page(cursor, limit)).await
    }

    async fn page_due(&self, at: Option<Cursor>, max: usize, due: &DueFilter<'_>) -> Result<Page> {
        let inner = capability(self.inner.capabilities().enumerator)?;
        let page = inner.page_due(at, max, due);
        self.run(StoreCall::Page, page).await
    }

    async fn claim_sweep(&self, interval: Duration) -> Result<SweepClaim> {
        let inner = capability(self.inner.capabilities().enumerator)?;
        inner.claim_sweep(interval).await
    }

    async fn finish_sweep(&self, next: Duration) -> Result<()> {
        let inner = capability(self.inner.capabilities().enumerator)?;
        inner.finish_sweep(next).await
    }

    fn due_index(&self) -> Option<&dyn DueIndex> {
        self.inner.capabilities().enumerator?.due_index()
    }

    async fn remove_orphan(&self, orphan: &Orphan, permission: Removable) -> Result<bool> {
        let inner = capability(self.inner.capabilities().enumerator)?;
        inner.remove_orphan(orphan, permission).await
    }

    async fn load_clock(&self) -> Result<Option<ClockMemory>> {
        let inner = capability(self.inner.capabilities().enumerator)?;
        inner.load_clock().await
    }

    async fn save_clock(&self, clock: ClockMemory) -> Result<()> {
        let inner = capability(self.inner.capabilities().enumerator)?;
        inner.save_clock(clock).await
    }
}

#[derive(Debug)]
struct FaultAppend {
    inner: Box<dyn Append>,
    faults: Faults,
    /// Set by a failed accept or discard: the unverified bytes must not count.
    broken: bool,
}

impl FaultAppend {
    fn draw(&self, call: StoreCall) -> Option<Fault> {
        match self.broken {
            true => Some(Fault::Before(Failure::Io)),
            false => self.faults.draw(call),
        }
    }
}

#[async_trait]
impl Append for FaultAppend {
    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    fn readable(&self) -> Option<u64> {
        self.inner.readable()
    }

    fn write_size(&self) -> usize {
        self.inner.write_size()
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        let fault = self.draw(StoreCall::Write);
        if let Some(Fault::Short(most, failure)) = fault {
            let mut left = most;
            for chunk in chunks.iter_mut() {
                chunk.truncate(left);
                left -= chunk.len();
            }
            self.inner.write(chunks).await?;
            return Err(failure.error(StoreCall::Write));
        }
        let result = with_fault(fault, StoreCall::Write, self.inner.write(chunks)).await;
        chunks.clear();
        result
    }

    async fn commit(&mut self) -> Result<u64> {
        let fault = self.draw(StoreCall::Commit);
        with_fault(fault, StoreCall::Commit, self.inner.commit()).await
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        let fault = self.draw(StoreCall::BeginUnverified);
        let begun = self.inner.begin_unverified();
        with_fault(fault, StoreCall::BeginUnverified, begun).await
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        let fault = self.draw(StoreCall::AcceptUnverified);
        let accepted = self.inner.accept_unverified();
        let result = with_fault(fault, StoreCall::AcceptUnverified, accepted).await;
        self.broken |= result.is_err();
        result
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        let fault = self.draw(StoreCall::DiscardUnverified);
        let discarded = self.inner.discard_unverified();
        let result = with_fault(fault, StoreCall::DiscardUnverified, discarded).await;
        self.broken |= result.is_err();
        result
    }
}

struct FailingDownload {
    inner: ByteStream,
    left: usize,
    failure: Option<Failure>,
}

impl Stream for FailingDownload {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            let failure = self.failure.take();
            return Poll::Ready(failure.map(|failure| Err(failure.error(StoreCall::Read))));
        }
        let mut next = self.inner.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(piece))) = &mut next {
            piece.truncate(self.left);
            self.left -= piece.len();
        }
        next
    }
}
fn capability<T: ?Sized>(inner: Option<&T>) -> Result<&T> {
    inner.ok_or_else(|| {
        StoreError::other(
            "using a capability of the inner store",
            "the inner store no longer has it",
        )
    })
}

fn wrapped<'a, S>(wrapper: &'a S, inner: Capabilities<'_>) -> Capabilities<'a>
where
    S: Terminate + Finish + Read + Concatenate + DeferLength + Enumerate,
{
    let all = Capabilities::all(wrapper);
    Capabilities {
        terminator: inner.terminator.and(all.terminator),
        finisher: inner.finisher.and(all.finisher),
        reader: inner.reader.and(all.reader),
        concatenator: inner.concatenator.and(all.concatenator),
        length_deferrer: inner.length_deferrer.and(all.length_deferrer),
        enumerator: inner.enumerator.and(all.enumerator),
    }
}
