//! Makes bytes durable before their offset is acknowledged, and completes the upload. Each write
//! checks that no other process writes.

use std::time::SystemTime;

use landfall::store::{Result, StoreError};

use super::{
    COMPLETION_POLL_DELAYS, During as _, Inner,
    description::{mark_changed, writer},
    failed,
    layout::IMPLICIT,
    remote_state::{RemoteState, store_plan},
    session::{Checkpoint, UploadState},
    tails::IncompletePart,
};
use crate::Segment;
use crate::cloud::Cloud;
use crate::{Error, ErrorKind, ObjectRef, Part};

/// The most objects of incomplete parts that are kept until the next part is stored.
const MAX_OLD_TAILS: usize = 8;

impl<C: Cloud> Inner<C> {
    /// Stores all bytes in the cloud and checks that no other process writes; returns the offset to
    /// acknowledge.
    pub(super) async fn commit(&self, state: &mut UploadState) -> Result<u64> {
        if let Some(checkpoint) = &state.unverified {
            return Ok(checkpoint.offset().min(state.committed));
        }
        if !state.is_dirty() && state.in_flight.is_empty() {
            return Ok(state.committed);
        }
        self.wait_for_parts(state).await?;
        if state.has_all_bytes() {
            if state.pending_len() > 0 {
                self.upload_last_part(state).await?;
            }
        } else if state.pending_len() > 0
            || self.options.shared
            || (state.remote.incomplete_part.as_ref()).is_some_and(|part| part.len > 0)
        {
            // Even an empty one: tusd would count the bytes of an old one.
            self.save_incomplete_part(state).await?;
        }
        self.check_ownership(state).await?;
        state.committed = state.offset();
        state.remote.modified = SystemTime::now();
        state.lease_start = state.checkpoint();
        if self.writes_once() {
            self.retire_tail(state).await;
        }
        Ok(state.committed)
    }

    /// Deletes, now and then, the objects of incomplete parts whose bytes are in a part.
    async fn retire_tail(&self, state: &mut UploadState) {
        let (remote, boundary) = (&mut state.remote, state.boundary);
        let old = remote
            .incomplete_part
            .take_if(|part| part.start != boundary);
        remote.old_tails.extend(old.map(|part| part.object));
        if remote.incomplete_part.is_some() {
            remote.old_tails.extend(remote.takeover.take());
        }
        if remote.old_tails.len() >= MAX_OLD_TAILS {
            let tails = std::mem::take(&mut remote.old_tails);
            self.delete_tails(tails).await;
        }
    }

    /// Checks, in a shared bucket, that the description still names this process as the writer.
    pub(super) async fn check_ownership(&self, state: &mut UploadState) -> Result<()> {
        state.parts_since_check = 0;
        self.check_owner(&state.remote).await
    }

    pub(super) async fn check_owner(&self, remote: &RemoteState) -> Result<()> {
        if !self.options.shared {
            return Ok(());
        }
        let object_ref = self.layout.info(&remote.object_id);
        let head = self.client.head_object(&object_ref).await;
        let head = head.during("verifying the writer", remote.id())?;
        if head.etag == remote.etag {
            Ok(())
        } else {
            Err(StoreError::LeaseLost(remote.id().clone()))
        }
    }

    pub(super) async fn save_incomplete_part(&self, state: &mut UploadState) -> Result<()> {
        let (start, end) = (state.boundary, state.offset());
        let is_stored = |part: &IncompletePart| {
            part.has_start && part.start == start && start + part.len == end
        };
        let part = state.remote.incomplete_part.as_ref();
        if part.is_some_and(is_stored) && !state.remote.is_interrupted {
            return Ok(());
        }
        self.fetch_incomplete_part(state).await?;
        if self.options.shared && !self.options.conditional_writes {
            self.check_ownership(state).await?;
        }
        if self.writes_once() && !self.is_own_writer(&state.remote.info) {
            self.record_writer(state).await?;
        }
        let payload = state.buffer.payload();
        // A new segment of the plan is valid only once it is stored.
        let is_settled = state.writer_recorded
            && !state.remote.is_in_doubt
            && !state.plan_dirty
            && !self.rules.versioned_parts;
        self.put_incomplete_part(&mut state.remote, &state.writes, start, payload, is_settled)
            .await?;
        if is_settled && self.options.shared {
            state.writer_recorded = false;
        }
        Ok(())
    }

    /// Names this process as the writer in the description, where the objects of incomplete parts need it.
    async fn record_writer(&self, state: &mut UploadState) -> Result<()> {
        let remote = &mut state.remote;
        self.forget_tail_writers(&mut remote.info, &remote.object_id)
            .await?;
        self.set_writer(&mut remote.info, state.fence);
        self.save_plan(state).await?;
        state.writer_recorded = true;
        Ok(())
    }

    /// Deletes objects of incomplete parts that do not count any more. One that stays does no harm.
    pub(super) async fn delete_tails(&self, tails: Vec<ObjectRef>) {
        let deletions = tails.iter().map(|tail| self.client.delete_object(tail));
        for deleted in futures_util::future::join_all(deletions).await {
            if let Err(error) = deleted {
                tracing::debug!(%error, "failed to delete an old incomplete part");
            }
        }
    }

    /// Deletes the incomplete part of a complete upload. One that stays does no harm.
    async fn delete_last_tail(&self, state: &mut UploadState) {
        let remote = &mut state.remote;
        let mut tails = std::mem::take(&mut remote.old_tails);
        tails.extend(remote.takeover.take());
        tails.extend(remote.incomplete_part.take().map(|part| part.object));
        if !tails.is_empty() {
            tails.extend(self.copies(&remote.object_id).into_iter().flatten());
        }
        self.delete_tails(tails).await;
    }

    /// Writes the bytes of an interrupted write again: the service may still lose them.
    pub(super) async fn repeat_write(&self, state: &mut UploadState) -> Result<()> {
        if state.remote.is_interrupted && !state.remote.complete {
            self.save_incomplete_part(state).await?;
            state.offloaded = state.buffer.size();
            state.buffer = self.new_buffer();
        }
        Ok(())
    }

    pub(super) async fn save_info(&self, state: &mut UploadState) -> Result<()> {
        if self.options.shared && !self.options.conditional_writes {
            self.check_ownership(state).await?;
        }
        let remote = &mut state.remote;
        remote.is_write_in_doubt = true;
        mark_changed(&mut remote.info);
        let etag = Some(&*remote.etag);
        let put = self.put_info(&remote.info, &remote.object_id, etag, &state.writes);
        match put.await {
            Ok(etag) => {
                remote.etag = etag;
                state.parts_since_check = 0;
            }
            // Another write came first. It may be this call's own, with a lost response: read it
            // and write again.
            Err(StoreError::LeaseLost(id)) => {
                let found = self.get_info(&id).await?;
                let found = found.ok_or(StoreError::NotFound(id.clone()))?;
                if writer(&found.info) != writer(&remote.info) {
                    return Err(StoreError::LeaseLost(id));
                }
                let etag = Some(&*found.etag);
                let put = self.put_info(&remote.info, &remote.object_id, etag, &state.writes);
                remote.etag = put.await?;
            }
            Err(error) => return Err(error),
        }
        state.remote.is_write_in_doubt = false;
        state.remote.modified = SystemTime::now();
        Ok(())
    }

    pub(super) async fn begin_unverified(&self, state: &mut UploadState) -> Result<()> {
        self.wait_for_parts(state).await?;
        if state.unverified.is_none() {
            if state.is_dirty() && state.pending_len() > 0 {
                self.save_incomplete_part(state).await?;
            }
            state.unverified = Some(state.checkpoint());
        }
        Ok(())
    }

    /// Records in the description that bytes are unverified, before a part contains some of them.
    pub(super) async fn mark_unverified(
        &self,
        state: &mut UploadState,
        checkpoint: Checkpoint,
    ) -> Result<()> {
        state.remote.info.unverified_from = Some(checkpoint.offset());
        self.save_plan(state).await
    }

    pub(super) async fn save_plan(&self, state: &mut UploadState) -> Result<()> {
        store_plan(&mut state.remote.info, &state.remote.plan);
        self.save_info(state).await?;
        state.plan_dirty = false;
        Ok(())
    }

    pub(super) async fn accept_unverified(&self, state: &mut UploadState) -> Result<()> {
        self.wait_for_parts(state).await?;
        if state.remote.info.unverified_from.take().is_some() {
            self.save_info(state).await?;
        }
        state.unverified = None;
        Ok(())
    }

    /// Resets the state to the start of the unverified bytes, or else to the last commit of this
    /// lease.
    pub(super) async fn discard_unverified(&self, state: &mut UploadState) -> Result<()> {
        let checkpoint = state.unverified.unwrap_or(state.lease_start);
        let sent = state.boundary != checkpoint.boundary;
        if sent {
            state.in_flight.shutdown().await;
            state.uploaded.clear();
            state.last_part = None;
        }
        state.boundary = checkpoint.boundary;
        state.offloaded = checkpoint.pending;
        state.buffer = self.new_buffer();
        let was_marked = state.remote.info.unverified_from.is_some();
        if sent {
            let counted = &mut state.remote.counted;
            counted.parts.truncate(checkpoint.parts);
            counted.offset = checkpoint.boundary;
            counted.next = checkpoint.next;
            self.restart_parts(state, 1).await?;
        }
        state.remote.info.unverified_from = None;
        if sent || was_marked {
            self.save_plan(state).await?;
        }
        state.unverified = None;
        state.committed = state.committed.min(state.offset());
        Ok(())
    }

    pub(super) async fn drop_unverified(&self, state: &mut UploadState) -> Result<()> {
        if state.unverified.is_some() || state.remote.info.unverified_from.is_none() {
            return Ok(());
        }
        let counts = state.offloaded;
        let too_long = |part: &IncompletePart| part.start == state.boundary && part.len > counts;
        if state.remote.incomplete_part.as_ref().is_some_and(too_long) {
            self.save_incomplete_part(state).await?;
        }
        self.restart_parts(state, self.parts_in_doubt()).await?;
        state.remote.is_in_doubt = false;
        state.remote.info.unverified_from = None;
        self.save_plan(state).await
    }

    /// Continues after the counted parts, so that the others never count.
    pub(super) async fn restart_parts(&self, state: &mut UploadState, above: u32) -> Result<()> {
        if !self.rules.versioned_parts {
            self.number_parts(state, above);
            return Ok(());
        }
        let parts = self
            .parts_from(&state.remote, state.remote.counted.next)
            .await?;
        if state.remote.info.unverified_from.is_none() && !parts.is_empty() {
            // The next writer must not count a part that is being removed.
            state.remote.info.unverified_from = Some(state.offset());
            self.save_plan(state).await?;
            state.remote.info.unverified_from = None;
        }
        self.remove_parts(&state.remote, &parts).await
    }

    async fn parts_from(&self, remote: &RemoteState, from: u32) -> Result<Vec<(u32, String)>> {
        let listed = self.list_parts(remote.id(), &remote.object_ref, IMPLICIT);
        let listed = listed.await?.unwrap_or_default().into_iter();
        let listed = listed.filter(|part| part.number >= from);
        Ok(listed.map(|part| (part.number, part.etag)).collect())
    }

    /// Removes versioned parts that were listed before, if this process is still the writer: so none is of the
    /// next one, whose parts have other tags.
    pub(super) async fn remove_parts(
        &self,
        remote: &RemoteState,
        parts: &[(u32, String)],
    ) -> Result<()> {
        if parts.is_empty() {
            return Ok(());
        }
        self.check_owner(remote).await?;
        let removed = self
            .client
            .remove_parts(&remote.object_ref, IMPLICIT, parts);
        removed.await.during("removing parts", remote.id())
    }

    /// Removes the parts that an interrupted completion has left.
    pub(super) async fn remove_left_parts(&self, remote: &RemoteState) -> Result<()> {
        if !self.rules.versioned_parts {
            return Ok(());
        }
        let parts = self.parts_from(remote, 1).await?;
        self.remove_parts(remote, &parts).await
    }

    /// Gives the next part a number above those that may be stored.
    pub(super) fn number_parts(&self, state: &mut UploadState, above: u32) {
        let counted = &state.remote.counted;
        let number = counted.highest.max(counted.next.saturating_sub(1)) + above;
        let (offset, size) = (state.boundary, state.remote.plan.size());
        state.remote.plan.push(Segment {
            number,
            offset,
            size: size.unwrap_or(self.part_sizes.preferred),
        });
        state.remote.counted.next = number;
    }

    pub(super) async fn complete(&self, state: &mut UploadState) -> Result<()> {
        if !state.remote.complete {
            if state.remote.info.upload.is_final() && state.remote.counted.parts.is_empty() {
                // A final upload is completed when it is concatenated; this one has no bytes.
                return Ok(());
            }
            self.wait_for_parts(state).await?;
            if state.pending_len() > 0 {
                self.upload_last_part(state).await?;
            }
        }
        if !state.remote.complete {
            let multipart = state.remote.multipart.clone();
            if let Some(ranges) = state.remote.uncopied.take() {
                let copied = self.copy_counted(state, &ranges).await;
                let copied = copied.inspect_err(|_| state.remote.uncopied = Some(ranges));
                state.remote.object_etag = Some(copied?);
            } else if state.remote.counted.parts.is_empty() {
                self.put_empty_object(state).await?;
            } else if let Some(multipart) = multipart {
                state.remote.object_etag = Some(self.complete_parts(state, &multipart).await?);
            }
            state.remote.complete = true;
            state.remote.multipart = None;
            state.remote.modified = SystemTime::now();
        }
        state.committed = state.offset();
        // Not before: a last part may be refused, and then the incomplete part counts again.
        self.delete_last_tail(state).await;
        Ok(())
    }

    pub(super) async fn complete_parts(
        &self,
        state: &mut UploadState,
        multipart: &str,
    ) -> Result<String> {
        let remote = &state.remote;
        let completing = |error| failed(remote.id(), "completing the multipart upload", error);
        let mut waits = COMPLETION_POLL_DELAYS.iter();
        loop {
            let (upload, parts) = (&remote.info.upload, &remote.counted.parts);
            let completed = self.complete_multipart(upload, &remote.object_ref, multipart, parts);
            let error = match completed.await {
                Ok(etag) => return Ok(etag),
                Err(error) => error,
            };
            if *error.kind() == ErrorKind::NoSuchUpload {
                // Another process that saw all the bytes completed it.
                return match self.wait_for_object(remote, true).await? {
                    Some(head) if head.size == state.offset() => Ok(head.etag),
                    Some(_) => Err(completing(error)),
                    None => Err(StoreError::NotFound(remote.id().clone())),
                };
            }
            if *error.kind() != ErrorKind::InvalidPart {
                return Err(completing(error));
            }
            // Another process may be completing it now.
            match waits.next() {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return self.complete_refused_parts(state, multipart, error).await,
            }
        }
    }

    async fn complete_refused_parts(
        &self,
        state: &mut UploadState,
        multipart: &str,
        error: Error,
    ) -> Result<String> {
        let remote = &mut state.remote;
        let id = remote.id().clone();
        let listed = self.list_parts(&id, &remote.object_ref, multipart).await?;
        let listed = listed.unwrap_or_default();
        let is_listed = |(number, etag): &(u32, String)| {
            let mut listed = listed.iter();
            listed.any(|part| part.number == *number && part.etag == *etag)
        };
        if !remote.counted.parts.iter().all(is_listed) {
            // They were replaced: the next request counts the parts again.
            return Err(StoreError::Unavailable(error.into()));
        }
        if listed.len() > remote.counted.parts.len() {
            return self.complete_all_parts(state, multipart, listed).await;
        }
        if self.drop_refused_part(state, &listed).await? {
            return Err(StoreError::Unavailable(error.into()));
        }
        let remote = &mut state.remote;
        let reason = "S3 lists its parts but refuses to complete it; delete it and upload it again";
        remote.info.damaged = Some(reason.to_owned());
        tracing::error!(id = %id, %error, "failed to complete upload: S3 rejects its parts");
        self.save_info(state).await?;
        Err(StoreError::damaged(&id, reason))
    }

    /// Garage lists a part whose writer died while it sent it or sent it again, and refuses it. Its bytes were not
    /// acknowledged: the acknowledged ones are in the incomplete part, which is deleted only after a last part was stored.
    /// Returns whether the upload continues there.
    async fn drop_refused_part(&self, state: &mut UploadState, listed: &[Part]) -> Result<bool> {
        let remote = &mut state.remote;
        let counted = &mut remote.counted;
        let Some(((last, _), before)) = counted.parts.split_last() else {
            return Ok(false);
        };
        let size_of = |number: u32| {
            let part = listed.iter().find(|part| part.number == number);
            part.map_or(0, |part| part.size)
        };
        let start: u64 = before.iter().map(|(number, _)| size_of(*number)).sum();
        let part = remote.incomplete_part.as_ref();
        let part = part.filter(|part| part.has_start && part.start == start);
        let len = part.map_or(0, |part| part.len);
        // Bytes in a part of full size were acknowledged without the incomplete part.
        let is_full = Some(size_of(*last)) >= remote.plan.size();
        if len == 0 && (is_full || state.has_sent_parts) {
            return Ok(false);
        }
        (state.boundary, state.offloaded) = (start, len);
        state.committed = start + len;
        counted.parts.pop();
        counted.offset = start;
        tracing::warn!(id = %remote.id(), offset = state.committed, "the service refuses the last part, which is sent again");
        self.restart_parts(state, self.parts_in_doubt()).await?;
        self.save_plan(state).await?;
        Ok(true)
    }
}
