//! The engine's side of a write: each call works on the cached state, which an error discards.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Append, Result, StoreError},
};
use tokio::sync::MutexGuard;

use super::{
    Inner,
    session::{CachedState, UploadState, WriteGuard},
};
use crate::cloud::Cloud;

#[derive(Debug)]
pub(super) struct ObjectAppend<C> {
    pub(super) store: Arc<Inner<C>>,
    pub(super) session: WriteGuard,
    pub(super) fence: Fence,
    pub(super) offset: u64,
}

async fn owned_state<'a, C: Cloud>(
    store: &Inner<C>,
    session: &'a WriteGuard,
    fence: Fence,
) -> Result<MutexGuard<'a, CachedState>> {
    let mut cached = session.lock().await;
    session.check_fence(fence)?;
    match &mut *cached {
        CachedState::Known(state) if state.fence == fence => {
            let checked = store.check_dropped_writes(state).await;
            cached.discard_if_failed(checked)?;
            Ok(cached)
        }
        CachedState::Deleted => Err(StoreError::NotFound(session.id.clone())),
        // An earlier call failed and its state was discarded.
        CachedState::Known(_) | CachedState::Unknown => Err(StoreError::Unavailable(
            "an earlier write of this request failed".into(),
        )),
    }
}

macro_rules! with_state {
    ($self:ident, |$state:ident| $work:expr) => {{
        let mut cached = owned_state(&$self.store, &$self.session, $self.fence).await?;
        let CachedState::Known($state) = &mut *cached else {
            return Err(StoreError::LeaseLost($self.session.id.clone()));
        };
        let result = $work;
        match result {
            Ok(value) => {
                $self.offset = $state.offset();
                $self.session.touch($state.buffer.size());
                value
            }
            Err(error) => {
                // Parts in flight may still be stored; then they need not be sent again.
                while $state.in_flight.join_next().await.is_some() {}
                $self.offset = $state.committed;
                $self.session.touch(0);
                *cached = CachedState::Unknown;
                return Err(error);
            }
        }
    }};
}

impl<C: Cloud> Inner<C> {
    /// Buffers bytes and uploads full parts.
    ///
    /// `offset` is updated continuously, so that it is right after a dropped call.
    async fn take_in(
        &self,
        state: &mut UploadState,
        chunks: &mut Vec<Bytes>,
        offset: &mut u64,
    ) -> Result<()> {
        self.reap_uploads(state)?;
        for mut chunk in chunks.drain(..) {
            while !chunk.is_empty() {
                let size = self.part_size(state)?;
                let remaining = size.saturating_sub(state.pending_len());
                if remaining == 0 {
                    self.spawn_part_upload(state).await?;
                    continue;
                }
                let len = usize::try_from(remaining)
                    .unwrap_or(usize::MAX)
                    .min(chunk.len());
                let id = state.remote.id();
                let memory = self.acquire_memory(&state.buffer, len, id).await?;
                state.buffer.push(chunk.split_to(len), memory);
                *offset = state.offset();
                if state.pending_len() == size {
                    self.spawn_part_upload(state).await?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl<C: Cloud> Append for ObjectAppend<C> {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn write_size(&self) -> usize {
        64 * 1024
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        with_state!(self, |state| {
            self.store.take_in(state, chunks, &mut self.offset).await
        });
        Ok(())
    }

    async fn commit(&mut self) -> Result<u64> {
        let committed = with_state!(self, |state| {
            let committed = self.store.commit(state).await;
            if committed.is_ok() {
                self.session.publish(state.snapshot());
            }
            committed
        });
        Ok(committed)
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        with_state!(self, |state| self.store.begin_unverified(state).await);
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        with_state!(self, |state| self.store.accept_unverified(state).await);
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        with_state!(self, |state| self.store.discard_unverified(state).await);
        Ok(())
    }
}
