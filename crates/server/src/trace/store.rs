//! Spans at the boundary between the engine and its store and locker.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    Composer,
    lease::{Fence, Lease, LeaseError, Locker},
    removal::Removable,
    store::{
        Append, ByteStream, Capabilities, Concatenate, DeferLength, Finish, Read, Result, Store,
        StoreError, Terminate,
    },
    upload::{Snapshot, Upload, UploadId},
};
use tracing::{Instrument as _, Span};

use super::{TARGET, is_in_trace, is_on, record};

/// Returns a store and locker with a span for each call, if traces are on.
pub(crate) fn store(composer: Composer) -> Composer {
    match is_on() {
        true => Composer::join(Traced(composer.clone())).with_locker(Traced(composer)),
        false => composer,
    }
}

/// Outside of requests, as in the sweeper, there is no span.
macro_rules! span {
    ($name:literal, $id:expr) => {
        match is_in_trace() {
            true => tracing::info_span!(
                target: TARGET,
                $name,
                otel.status_code = tracing::field::Empty,
                otel.status_description = tracing::field::Empty,
                landfall.bytes = tracing::field::Empty,
                landfall.upload.id = $id.as_str(),
            ),
            false => Span::none(),
        }
    };
}

/// Runs a call in a span with the id of its upload.
macro_rules! traced {
    ($name:literal, $id:expr, $call:expr) => {{
        let span = span!($name, $id);
        let result = $call.instrument(span.clone()).await;
        record(&span, &result);
        result
    }};
}

#[derive(Debug)]
struct Traced(Composer);

/// A handler calls only the capabilities that the composer has.
fn has<T>(capability: Option<T>) -> Result<T> {
    capability.ok_or_else(|| StoreError::other("call the store", "it has no such operation"))
}

#[async_trait]
impl Store for Traced {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        traced!(
            "store.create",
            upload.id.clone(),
            self.0.store().create(upload)
        )
    }

    async fn assign_id(&self, upload: &mut Upload) -> Result<()> {
        traced!(
            "store.assign_id",
            upload.id.clone(),
            self.0.store().assign_id(upload)
        )
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        traced!("store.load", id, self.0.store().load(id))
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        let opened = traced!("store.resume", id, self.0.store().resume(id, fence));
        let (snapshot, append) = opened?;
        Ok((snapshot, TracedAppend::wrap(id, append)))
    }

    async fn create_append(
        &self,
        upload: Upload,
        fence: Fence,
    ) -> Result<(Arc<Upload>, Box<dyn Append>)> {
        let id = upload.id.clone();
        let created = self.0.store().create_append(upload, fence);
        let (upload, append) = traced!("store.create", id, created)?;
        let append = TracedAppend::wrap(&upload.id, append);
        Ok((upload, append))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        traced!("store.save", upload.id, self.0.store().save(upload, fence))
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let inner = &self.0;
        Capabilities {
            terminator: inner.terminator().map(|_| self as &dyn Terminate),
            finisher: inner.finisher().map(|_| self as &dyn Finish),
            reader: inner.reader().map(|_| self as &dyn Read),
            concatenator: inner.concatenator().map(|_| self as &dyn Concatenate),
            length_deferrer: inner.length_deferrer().map(|_| self as &dyn DeferLength),
            enumerator: inner.enumerator(),
        }
    }
}

/// One span for all writes of a request, and one for each commit.
#[derive(Debug)]
struct TracedAppend {
    id: UploadId,
    inner: Box<dyn Append>,
    start: u64,
    span: Span,
}

impl TracedAppend {
    fn wrap(id: &UploadId, inner: Box<dyn Append>) -> Box<dyn Append> {
        Box::new(Self {
            span: span!("store.append", id),
            id: id.clone(),
            start: inner.offset(),
            inner,
        })
    }
}

impl Drop for TracedAppend {
    fn drop(&mut self) {
        let bytes = self.inner.offset().saturating_sub(self.start);
        self.span.record("landfall.bytes", bytes);
    }
}

#[async_trait]
impl Append for TracedAppend {
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
        let result = self.inner.write(chunks).instrument(self.span.clone()).await;
        record(&self.span, &result);
        result
    }

    async fn commit(&mut self) -> Result<u64> {
        traced!("store.commit", self.id, self.inner.commit())
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        self.inner.begin_unverified().await
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.inner.accept_unverified().await
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        self.inner.discard_unverified().await
    }
}

macro_rules! delegate {
    ($trait:ident by $capability:ident {
        async fn $call:ident(&self, $upload:ident: &Upload $(, $arg:ident: $type:ty)*) -> $result:ty = $name:literal;
        $($rest:item)*
    }) => {
        #[async_trait]
        impl $trait for Traced {
            async fn $call(&self, $upload: &Upload $(, $arg: $type)*) -> Result<$result> {
                let inner = has(self.0.$capability())?;
                traced!($name, $upload.id, inner.$call($upload $(, $arg)*))
            }

            $($rest)*
        }
    };
}

delegate!(Terminate by terminator {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> bool = "store.terminate";

    async fn expire(&self, upload: &Upload, fence: Fence, permission: Removable) -> Result<bool> {
        has(self.0.terminator())?.expire(upload, fence, permission).await
    }
});
delegate!(Finish by finisher {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Option<String> = "store.finish";
});
delegate!(Concatenate by concatenator {
    async fn concatenate(&self, target: &Upload, parts: &[Arc<Upload>], fence: Fence) -> u64
        = "store.concatenate";
});
delegate!(DeferLength by length_deferrer {
    async fn declare_length(&self, upload: &Upload, length: u64, fence: Fence) -> Arc<Upload>
        = "store.declare_length";
});
delegate!(Read by reader {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> ByteStream = "store.read";

    fn reads_unfinished(&self) -> bool {
        self.0.reader().is_some_and(Read::reads_unfinished)
    }

    async fn link(&self, upload: &Upload, kind: &str, disposition: &str) -> Result<Option<String>> {
        has(self.0.reader())?.link(upload, kind, disposition).await
    }
});

type Acquired = Result<Lease, LeaseError>;

#[async_trait]
impl Locker for Traced {
    async fn acquire_at(&self, id: &UploadId, at: Option<u64>, wait: Duration) -> Acquired {
        traced!(
            "lease.acquire",
            id,
            self.0.locker().acquire_at(id, at, wait)
        )
    }

    async fn try_acquire(&self, id: &UploadId) -> Acquired {
        traced!("lease.acquire", id, self.0.locker().try_acquire(id))
    }
}

#[cfg(test)]
mod tests {
    use landfall::{lease::MemoryLocker, removal::RemovalClock, store::MemoryStore};
    use landfall_testkit::{locker, store};

    use super::*;

    fn traced() -> Traced {
        Traced(Composer::join(MemoryStore::new()).with_locker(MemoryLocker::new()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_store_conforms() {
        store::conformance(async || traced())
            .await
            .assert_complete();
    }

    /// Expiry keeps what another program put in the place of an upload; a removal on request does not.
    #[tokio::test]
    async fn an_expired_upload_is_not_terminated() {
        struct OnlyExpires;

        #[async_trait]
        impl Terminate for OnlyExpires {
            async fn terminate(&self, _: &Upload, _: Fence) -> Result<bool> {
                panic!("it was terminated")
            }

            async fn expire(&self, _: &Upload, _: Fence, _: Removable) -> Result<bool> {
                Ok(true)
            }
        }

        let inner = Composer::join(MemoryStore::new()).with_terminator(OnlyExpires);
        let traced = Traced(inner);
        let upload = Upload::new(UploadId::random(), Some(1));
        traced.create(upload.clone()).await.unwrap();
        let found = traced.load(&upload.id).await.unwrap();
        let now = RemovalClock::new().now();
        let permission = Removable::upload(&found, Some(std::time::UNIX_EPOCH), now).unwrap();
        let terminator = traced.capabilities().terminator.unwrap();
        let expired = terminator.expire(&upload, Fence(1), permission).await;
        assert!(expired.unwrap());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_locker_conforms() {
        locker::conformance(async || traced()).await;
    }
}
