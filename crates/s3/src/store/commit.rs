//! What is acknowledged, what is on probation, and what is completed.

use std::time::SystemTime;

use landfall::store::{Result, StoreError};

use super::{
    Inner, Payload,
    failure::{damaged, failed},
    look::{COMPLETIONS, Rest, note_change, note_plan},
    plan::Segment,
    session::{Floor, State},
    writer::writer,
};
use crate::client::{Error, ErrorKind};

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
        if state.is_all_there() {
            if state.rest() > 0 {
                self.send_last(state).await?;
            }
        } else if state.rest() > 0
            || self.options.shared
            || state.at.rest.as_ref().is_some_and(|rest| rest.len > 0)
        {
            // An empty one, too: tusd would count the bytes of an old one.
            self.keep_rest(state).await?;
        }
        self.verify(state).await?;
        state.committed = state.offset();
        state.at.modified = SystemTime::now();
        state.opened = state.floor();
        Ok(state.committed)
    }

    /// Where others may write: whether this process is still the one that the description names. If
    /// somebody came since, nothing may be acknowledged.
    pub(super) async fn verify(&self, state: &mut State) -> Result<()> {
        state.unverified_parts = 0;
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
            Err(StoreError::LeaseLost(at.id().clone()))
        }
    }

    /// Keeps all bytes that no part has taken in `.part`. All parts must have landed: where other
    /// processes write, too, it also states that.
    pub(super) async fn keep_rest(&self, state: &mut State) -> Result<()> {
        let (start, end) = (state.boundary, state.offset());
        let is_kept =
            |rest: &Rest| rest.has_start && rest.start == start && start + rest.len == end;
        if state.at.rest.as_ref().is_some_and(is_kept) {
            return Ok(());
        }
        self.fetch_rest(state).await?;
        if self.options.shared && !self.options.conditional_writes {
            self.verify(state).await?;
        }
        let payload = state.gather.payload();
        // A new segment of the plan counts once it is written down.
        let has_settled = state.is_signed && !state.at.is_in_doubt && !state.plan_unsaid;
        let rest = self.put_rest(&state.at, start, payload, has_settled);
        state.at.rest = Some(rest.await?);
        if has_settled && self.options.shared {
            state.is_signed = false;
        }
        Ok(())
    }

    /// Deletes `.part`, which only an upload that has all its bytes in parts may do: whoever takes over
    /// needs it no more, however late the deletion comes.
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
            Ok(etag) => {
                at.etag = etag;
                state.unverified_parts = 0;
            }
            // Somebody wrote it since. It may have been this very call: an answer that was lost is
            // asked for again.
            Err(StoreError::LeaseLost(id)) => {
                let found = self.locate(&id).await?;
                let found = found.ok_or(StoreError::NotFound(id.clone()))?;
                if writer(&found.info) != writer(&at.info) {
                    return Err(StoreError::LeaseLost(id));
                }
                at.etag = self
                    .put_info(&at.info, &at.object, Some(&found.etag))
                    .await?;
            }
            Err(error) => return Err(error),
        }
        state.at.modified = SystemTime::now();
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
            self.keep_rest(state).await?;
        }
        self.begin_anew(state, self.parts_in_doubt());
        state.at.is_in_doubt = false;
        state.at.info.unverified_from = None;
        self.save_plan(state).await
    }

    /// Lets the bytes from the boundary on begin with a part whose number is `above` all that were
    /// ever used.
    pub(super) fn begin_anew(&self, state: &mut State, above: u32) {
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
            state.at.object_etag = Some(self.complete_parts(state, &multipart).await?);
        }
        state.at.complete = true;
        state.at.multipart = None;
        state.committed = state.offset();
        state.at.modified = SystemTime::now();
        Ok(())
    }

    async fn complete_parts(&self, state: &mut State, multipart: &str) -> Result<String> {
        let at = &state.at;
        let mut waits = COMPLETIONS.iter();
        loop {
            let parts = &at.counted.parts;
            let completed = self.client.complete_multipart(&at.place, multipart, parts);
            let error = match completed.await {
                Ok(etag) => return Ok(etag),
                Err(error) => error,
            };
            if *error.kind() == ErrorKind::NoSuchUpload {
                // Another process that saw all the bytes completed it.
                return match self.whole_soon(at, true).await? {
                    Some(head) if head.size == state.offset() => Ok(head.etag),
                    Some(_) => Err(failed(at.id(), "completing", error)),
                    None => Err(StoreError::NotFound(at.id().clone())),
                };
            }
            if *error.kind() != ErrorKind::InvalidPart {
                return Err(failed(at.id(), "completing", error));
            }
            // Another process may be completing it at this moment.
            match waits.next() {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Err(self.lose_parts(state, multipart, error).await),
            }
        }
    }

    /// Finds out why S3 refuses parts that it confirmed, and records it if nothing can change that.
    async fn lose_parts(&self, state: &mut State, multipart: &str, error: Error) -> StoreError {
        let at = &mut state.at;
        let id = at.id().clone();
        let listed = match self.list_parts(&id, &at.place, multipart).await {
            Ok(listed) => listed.unwrap_or_default(),
            Err(error) => return error,
        };
        let is_listed = |(number, etag): &(u32, String)| {
            let mut listed = listed.iter();
            listed.any(|part| part.number == *number && part.etag == *etag)
        };
        if !at.counted.parts.iter().all(is_listed) {
            // They were replaced: the next request counts them anew.
            return StoreError::Unavailable {
                retry_after: None,
                source: error.into(),
            };
        }
        let reason = "S3 lists its parts and refuses to complete it: delete it and upload it again";
        at.info.damaged = Some(reason.to_owned());
        tracing::error!(id = %id, %error, "failed to complete upload: S3 refuses its parts");
        match self.save_info(state).await {
            Ok(()) => damaged(&id, reason),
            Err(error) => error,
        }
    }
}
