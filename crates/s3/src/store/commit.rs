//! What is acknowledged, what is on probation, and what is completed.

use std::time::SystemTime;

use landfall::store::{Result, StoreError};

use super::{
    Inner, Payload,
    failure::failed,
    look::{Rest, note_change, note_plan, writer},
    plan::Segment,
    session::{Floor, State},
};
use crate::client::ErrorKind;

/// Parts of an older writer that may still be on their way when their bytes are taken back.
const ON_THE_WAY: u32 = 64;

impl Inner {
    /// Makes sure that all bytes so far are in S3, and that nobody else writes; returns the offset
    /// that may be told.
    pub(super) async fn commit(&self, state: &mut State) -> Result<u64> {
        if let Some(floor) = &state.held {
            return Ok(floor.offset().min(state.committed));
        }
        if !state.is_dirty() && state.flights.is_empty() {
            return Ok(state.committed);
        }
        self.settle(state).await?;
        if state.rest() > 0 {
            if state.is_all_there() {
                self.send_last(state).await?;
            } else {
                self.keep_rest(state).await?;
            }
        } else if state.at.rest.is_some() {
            self.drop_rest(state).await?;
        }
        self.verify(state).await?;
        state.committed = state.offset();
        state.at.modified = SystemTime::now();
        state.opened = state.floor();
        Ok(state.committed)
    }

    /// Where others may write: whether this process is still the one that the description names. If
    /// somebody came since, nothing may be acknowledged.
    async fn verify(&self, state: &State) -> Result<()> {
        if !self.options.shared {
            return Ok(());
        }
        let at = &state.at;
        let place = self.layout.info(&at.object);
        let head = self.client.head_object(&place).await;
        let head = head.map_err(|error| failed(at.id(), "looking who writes", error))?;
        if head.etag == at.etag {
            Ok(())
        } else {
            Err(StoreError::Fenced(at.id().clone()))
        }
    }

    /// Keeps all bytes that no part has taken in `.part`.
    pub(super) async fn keep_rest(&self, state: &mut State) -> Result<()> {
        let (start, end) = (state.boundary, state.offset());
        let is_kept = |rest: &Rest| rest.start == start && start + rest.len == end;
        if state.at.rest.as_ref().is_some_and(is_kept) {
            return Ok(());
        }
        self.fetch_rest(state).await?;
        if self.options.shared && !self.options.conditional_writes {
            self.verify(state).await?;
        }
        let payload = state.gather.payload();
        state.at.rest = Some(self.put_rest(&state.at, start, payload).await?);
        Ok(())
    }

    /// Deletes `.part`: parts hold its bytes.
    async fn drop_rest(&self, state: &mut State) -> Result<()> {
        self.verify(state).await?;
        let place = self.layout.part(&state.at.object);
        let deleted = self.client.delete_object(&place).await;
        deleted.map_err(|error| failed(state.at.id(), "deleting the rest", error))?;
        state.at.rest = None;
        Ok(())
    }

    /// Writes the description.
    pub(super) async fn save_info(&self, state: &mut State) -> Result<()> {
        if self.options.shared && !self.options.conditional_writes {
            self.verify(state).await?;
        }
        let at = &mut state.at;
        note_change(&mut at.info);
        match self.put_info(&at.info, &at.object, Some(&at.etag)).await {
            Ok(etag) => at.etag = etag,
            // Somebody wrote it since. It may have been this very call: an answer that was lost is
            // asked for again.
            Err(StoreError::Fenced(id)) => {
                let found = self.locate(&id).await?;
                let found = found.ok_or(StoreError::NotFound(id.clone()))?;
                if writer(&found.info) != writer(&at.info) {
                    return Err(StoreError::Fenced(id));
                }
                at.etag = self
                    .put_info(&at.info, &at.object, Some(&found.etag))
                    .await?;
            }
            Err(error) => return Err(error),
        }
        at.modified = SystemTime::now();
        Ok(())
    }

    /// From here on bytes are on probation.
    pub(super) async fn hold(&self, state: &mut State) -> Result<()> {
        self.settle(state).await?;
        if state.held.is_none() {
            if state.is_dirty() && state.rest() > 0 {
                self.keep_rest(state).await?;
            }
            state.held = Some(state.floor());
        }
        Ok(())
    }

    /// Writes down that bytes are on probation, before a part takes some of them.
    pub(super) async fn put_on_probation(&self, state: &mut State, floor: Floor) -> Result<()> {
        state.at.info.unverified_from = Some(floor.offset());
        self.save_plan(state).await
    }

    /// Writes the description, and the plan in it.
    pub(super) async fn save_plan(&self, state: &mut State) -> Result<()> {
        note_plan(&mut state.at.info, &state.at.plan);
        self.save_info(state).await?;
        state.plan_unsaid = false;
        Ok(())
    }

    /// The bytes on probation count.
    pub(super) async fn confirm(&self, state: &mut State) -> Result<()> {
        self.settle(state).await?;
        if state.at.info.unverified_from.take().is_some() {
            self.save_info(state).await?;
        }
        state.held = None;
        Ok(())
    }

    /// Goes back to where probation began, or else to where this lease did or last acknowledged
    /// something.
    pub(super) async fn discard(&self, state: &mut State) -> Result<()> {
        let floor = state.held.unwrap_or(state.opened);
        let sent = state.boundary != floor.boundary;
        if sent {
            state.flights.shutdown().await;
            state.landed.clear();
        }
        state.boundary = floor.boundary;
        state.skipped = floor.rest;
        state.gather = self.gather();
        let was_told = state.at.info.unverified_from.take().is_some();
        if sent {
            let counted = &mut state.at.counted;
            counted.parts.truncate(floor.parts);
            counted.offset = floor.boundary;
            counted.next = floor.next;
            self.begin_anew(state, 1);
        }
        if sent || was_told {
            self.save_plan(state).await?;
        }
        state.held = None;
        state.committed = state.committed.min(state.offset());
        Ok(())
    }

    /// Takes back what another process had on probation when it died.
    pub(super) async fn take_back_unverified(&self, state: &mut State) -> Result<()> {
        if state.held.is_some() || state.at.info.unverified_from.is_none() {
            return Ok(());
        }
        let counts = state.skipped;
        let too_long = |rest: &Rest| rest.start == state.boundary && rest.len > counts;
        if state.at.rest.as_ref().is_some_and(too_long) {
            if counts > 0 {
                self.keep_rest(state).await?;
            } else {
                self.drop_rest(state).await?;
            }
        }
        self.begin_anew(state, ON_THE_WAY);
        state.at.info.unverified_from = None;
        self.save_plan(state).await
    }

    /// Lets the bytes from the boundary on begin with a part whose number is `above` all that were
    /// ever used.
    fn begin_anew(&self, state: &mut State, above: u32) {
        let counted = &state.at.counted;
        let number = counted.highest.max(counted.next.saturating_sub(1)) + above;
        let size = state.at.plan.size().unwrap_or(self.sizes.preferred);
        state.at.plan.push(Segment {
            number,
            offset: state.boundary,
            size,
        });
        state.at.counted.next = number;
    }

    /// Completes an upload all of whose bytes are there. Nothing is to be done if that has happened.
    pub(super) async fn complete(&self, state: &mut State) -> Result<()> {
        if state.at.complete {
            return Ok(());
        }
        if state.at.info.upload.is_final() && state.at.counted.parts.is_empty() {
            // What is joined is completed as it is joined; this one has no bytes.
            return Ok(());
        }
        self.settle(state).await?;
        if state.rest() > 0 {
            self.send_last(state).await?;
        }
        if state.at.rest.is_some() {
            self.drop_rest(state).await?;
        }
        if state.at.complete {
            state.committed = state.offset();
            return Ok(());
        }
        let multipart = state.at.multipart.clone();
        if state.at.counted.parts.is_empty() {
            // S3-likes don't take an empty part.
            self.put_whole(state, Payload::default()).await?;
            self.end_multipart(state).await?;
        } else if let Some(multipart) = multipart {
            self.complete_parts(state, &multipart).await?;
        }
        state.at.complete = true;
        state.at.multipart = None;
        state.committed = state.offset();
        state.at.modified = SystemTime::now();
        Ok(())
    }

    async fn complete_parts(&self, state: &State, multipart: &str) -> Result<()> {
        let at = &state.at;
        let parts = &at.counted.parts;
        let completed = self.client.complete_multipart(&at.place, multipart, parts);
        match completed.await {
            Ok(()) => Ok(()),
            // Somebody else who saw all the bytes completed it.
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {
                match self.whole_soon(at, true).await? {
                    Some(head) if head.size == state.offset() => Ok(()),
                    Some(_) => Err(failed(at.id(), "completing", error)),
                    None => Err(StoreError::NotFound(at.id().clone())),
                }
            }
            Err(error) => Err(failed(at.id(), "completing", error)),
        }
    }
}
