//! One lease holder's way into an upload.

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
    session::{Known, State, Writing},
};

/// An upload that is open for appending.
#[derive(Debug)]
pub(super) struct S3Append {
    store: Arc<Inner>,
    session: Writing,
    fence: Fence,
    offset: u64,
}

impl S3Append {
    pub(super) fn new(store: Arc<Inner>, session: Writing, fence: Fence, offset: u64) -> Self {
        Self {
            store,
            session,
            fence,
            offset,
        }
    }
}

/// The state, if it is still this lease's.
async fn mine(session: &Writing, fence: Fence) -> Result<MutexGuard<'_, Known>> {
    let known = session.known.lock().await;
    if !session.is_newest(fence) {
        return Err(StoreError::LeaseLost(session.id.clone()));
    }
    match &*known {
        Known::State(state) if state.fence == fence => Ok(known),
        Known::Gone => Err(StoreError::NotFound(session.id.clone())),
        // An earlier call failed; what is there must be found out anew.
        Known::State(_) | Known::Nothing => Err(StoreError::Unavailable {
            retry_after: None,
            source: "an earlier part of this request could not be stored".into(),
        }),
    }
}

/// Does something to the state; after an error it is forgotten.
macro_rules! with_state {
    ($self:ident, |$state:ident| $work:expr) => {{
        let mut known = mine(&$self.session, $self.fence).await?;
        let Known::State($state) = &mut *known else {
            return Err(StoreError::LeaseLost($self.session.id.clone()));
        };
        let result = $work;
        match result {
            Ok(value) => {
                $self.offset = $state.offset();
                $self.session.touch($state.gather.len());
                value
            }
            Err(error) => {
                // What else is on its way may still land, and then needs not be sent again.
                while $state.flights.join_next().await.is_some() {}
                $self.offset = $state.committed;
                $self.session.touch(0);
                *known = Known::Nothing;
                return Err(error);
            }
        }
    }};
}

impl Inner {
    /// Takes bytes in; `offset` follows, so that a dropped call leaves it true.
    async fn take_in(
        &self,
        state: &mut State,
        chunks: &mut Vec<Bytes>,
        offset: &mut u64,
    ) -> Result<()> {
        self.collect(state)?;
        for mut chunk in chunks.drain(..) {
            while !chunk.is_empty() {
                let size = self.part_size(state)?;
                let room = size.saturating_sub(state.rest());
                if room == 0 {
                    self.launch(state).await?;
                    continue;
                }
                let len = usize::try_from(room).unwrap_or(usize::MAX).min(chunk.len());
                let memory = self.memory(state, len).await?;
                state.gather.push(chunk.split_to(len), memory);
                *offset = state.offset();
                if state.rest() == size {
                    self.launch(state).await?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Append for S3Append {
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
        with_state!(self, |state| self.store.hold(state).await);
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        with_state!(self, |state| self.store.confirm(state).await);
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        with_state!(self, |state| self.store.discard(state).await);
        Ok(())
    }
}
