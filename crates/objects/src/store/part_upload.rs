//! Fills parts and uploads them, several at a time, within the memory budget. It acknowledges nothing:
//! `commit.rs` does.

use std::sync::Arc;

use landfall::{
    store::{Result, StoreError},
    upload::UploadId,
};

use super::{
    During as _, IDLE_AFTER, Inner,
    description::writer,
    layout::{IMPLICIT, MULTIPART},
    session::{CachedState, PartUploadResult, UploadState},
    tails::tail_name,
};
use crate::cloud::Cloud;
use crate::{
    Barrier, Condition, Error, ErrorKind, NeverOpened, ObjectRef, PartCondition, Payload,
    call::{self, if_exists},
};
use crate::{MemoryPermit, PartBuffer, Segment};

const MAX_PARTS_BETWEEN_CHECKS: u32 = 16;

/// The most times that a part of a process without the lease is replaced in one call.
const MAX_REPLACEMENTS: usize = 8;

impl<C: Cloud> Inner<C> {
    pub(super) fn part_size(&self, state: &mut UploadState) -> Result<u64> {
        if std::mem::take(&mut state.remote.is_in_doubt) {
            self.number_parts(state, self.parts_in_doubt());
            state.plan_dirty = true;
        }
        let (next, uncounted) = (state.next_part(), state.uncounted_parts());
        let pending = state.pending_len();
        let remote = &mut state.remote;
        let planned = remote.plan.size();
        let number = match planned {
            Some(_) => next,
            None if self.rules.versioned_parts => next,
            None => next.max(remote.counted.highest + 1),
        };
        // After parts of another program: their size, if they are all alike.
        let current = planned.or_else(|| (pending > self.part_sizes.preferred).then_some(pending));
        let (limits, length) = (&self.part_sizes, remote.info.upload.length);
        let Some(size) = limits.next_size(number, state.boundary, length, current) else {
            let left = u64::from((self.part_sizes.parts + 1).saturating_sub(number));
            let limit = state.boundary + left * self.part_sizes.largest;
            return Err(StoreError::TooLarge { limit });
        };
        // Parts of any size need no plan.
        if planned != Some(size) && !self.rules.versioned_parts {
            remote.plan.push(Segment {
                number,
                offset: state.boundary,
                size,
            });
            remote.counted.next = number - uncounted;
            state.plan_dirty = true;
        }
        Ok(size)
    }

    /// Waits for memory for bytes that `buffer` gets, of the upload `id`.
    pub(super) async fn acquire_memory(
        &self,
        buffer: &PartBuffer,
        bytes: usize,
        id: &UploadId,
    ) -> Result<MemoryPermit> {
        let reclaim = || self.reclaim(bytes, id);
        let memory = self
            .budget
            .acquire_for(buffer.memory(), bytes, reclaim)
            .await;
        let why = "the memory for parts (--max-buffered-bytes) is used up";
        memory.ok_or_else(|| StoreError::Unavailable(why.into()))
    }

    pub(super) async fn flush_to_incomplete_part(&self, state: &mut UploadState) -> Result<()> {
        self.commit(state).await?;
        state.offloaded += state.buffer.size();
        state.buffer = self.new_buffer();
        Ok(())
    }

    pub(super) async fn fetch_incomplete_part(&self, state: &mut UploadState) -> Result<()> {
        if state.offloaded == 0 {
            return Ok(());
        }
        let id = state.remote.id().clone();
        let missing = || match self.has_copies() {
            false => StoreError::damaged(&id, "the object of its incomplete part is missing"),
            // The next request finds its copy.
            true => StoreError::Unavailable("the service has lost the object .part".into()),
        };
        let part = state.remote.incomplete_part.as_ref().ok_or_else(missing)?;
        let len = usize::try_from(state.offloaded).unwrap_or(usize::MAX);
        let memory = self.budget.reacquire_for(state.buffer.memory(), len).await;
        let action = "reading the incomplete part";
        let found = self
            .client
            .get_object(&part.object, Some(0..state.offloaded));
        let Some(object) = if_exists(found.await).during(action, &id)? else {
            return Err(missing());
        };
        if object.head.etag != part.etag {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        let mut buffer = self.new_buffer();
        let read = buffer.push_stream(object.body, len, memory).await;
        if read.during(action, &id)? != len {
            let why = "the object of its incomplete part has the wrong length";
            return Err(StoreError::damaged(&id, why));
        }
        std::mem::swap(&mut state.buffer, &mut buffer);
        state.buffer.append(buffer);
        state.offloaded = 0;
        Ok(())
    }

    async fn ensure_multipart(&self, state: &mut UploadState) -> Result<String> {
        if let Some(multipart) = &state.remote.multipart {
            return Ok(multipart.clone());
        }
        let remote = &mut state.remote;
        let multipart = self
            .create_multipart(&remote.info.upload, &remote.object_ref)
            .await?;
        remote.multipart = Some(multipart.clone());
        if !self.rules.implicit_multipart {
            let storage = &mut Arc::make_mut(&mut remote.info.upload).storage;
            storage.insert(MULTIPART.into(), multipart.clone());
            state.plan_dirty = true;
        }
        Ok(multipart)
    }

    /// Returns how many part numbers above the highest stored one are in doubt.
    pub(super) fn parts_in_doubt(&self) -> u32 {
        let in_flight = u32::try_from(self.options.concurrent_parts).unwrap_or(u32::MAX);
        let in_doubt = in_flight.saturating_add(1);
        if self.options.shared {
            in_doubt.saturating_add(MAX_PARTS_BETWEEN_CHECKS)
        } else {
            in_doubt
        }
    }

    pub(super) async fn spawn_part_upload(&self, state: &mut UploadState) -> Result<()> {
        self.fetch_incomplete_part(state).await?;
        self.part_size(state)?;
        let stored = state.remote.incomplete_part.as_ref();
        if stored.is_some_and(|part| !part.has_start && part.len > 0) {
            // Otherwise its bytes would count twice as soon as a part contains them.
            let payload = state.buffer.payload();
            let start = state.boundary;
            self.put_incomplete_part(&mut state.remote, &state.writes, start, payload, false)
                .await?;
        }
        let multipart = self.ensure_multipart(state).await?;
        if !state.writer_recorded {
            let remote = &mut state.remote;
            self.forget_tail_writers(&mut remote.info, &remote.object_id)
                .await?;
            self.set_writer(&mut remote.info, state.fence);
            state.plan_dirty = true;
        }
        if let Some(checkpoint) = state.unverified
            && state.remote.info.unverified_from.is_none()
        {
            self.mark_unverified(state, checkpoint).await?;
        }
        if state.plan_dirty {
            self.save_plan(state).await?;
            state.writer_recorded = true;
        } else if state.parts_since_check >= MAX_PARTS_BETWEEN_CHECKS {
            self.check_ownership(state).await?;
        }
        state.parts_since_check += 1;
        let slot = self.part_slots.clone().acquire_owned().await;
        let (payload, memory) = state.buffer.take();
        let number = state.next_part();
        let remote = &mut state.remote;
        remote.counted.highest = remote.counted.highest.max(number);
        state.boundary += payload.len();
        let (client, object_ref) = (self.client.clone(), remote.object_ref.clone());
        if !self.rules.implicit_multipart {
            let target = (object_ref, multipart, number);
            let held = (slot, memory);
            state
                .in_flight
                .spawn(send_part(client, target, payload, held));
            return Ok(());
        }
        let Some(store) = self.this.upgrade() else {
            return Err(StoreError::Unavailable("the store was dropped".into()));
        };
        let (key, gate) = Barrier::new();
        let before = state.last_part.replace(gate);
        let payload = match before.clone() {
            Some(before) => payload.behind(before),
            None => payload,
        };
        let (id, writer) = (remote.id().clone(), writer(&remote.info).map(tail_name));
        state.in_flight.spawn(async move {
            let _held = (slot, memory);
            let send = store.upload_ordered(&id, &object_ref, number, payload, writer.as_deref());
            let sent = match before {
                None => send.await,
                Some(before) => tokio::select! {
                    sent = send => sent,
                    false = before.opened() => Err(Error::new(
                        ErrorKind::Unavailable { retry_after: None },
                        "uploading a part",
                        object_ref.to_string(),
                    )
                    .with_source(NeverOpened)),
                },
            };
            if sent.is_ok() {
                key.open();
            }
            (number, sent)
        });
        Ok(())
    }

    /// Stores a part. Where it has a tag, one that a process without the lease has stored meanwhile is replaced.
    async fn upload_ordered(
        &self,
        id: &UploadId,
        object_ref: &ObjectRef,
        number: u32,
        payload: Payload,
        writer: Option<&str>,
    ) -> call::Result<String> {
        let mut over = None;
        for _ in 0..MAX_REPLACEMENTS {
            let payload = payload.clone();
            let condition = PartCondition {
                over: over.as_deref(),
                writer,
            };
            let send = self
                .client
                .upload_part(object_ref, IMPLICIT, number, payload, condition);
            let error = match send.await {
                Err(error) if *error.kind() == ErrorKind::PreconditionFailed => error,
                sent => return sent,
            };
            // Listed before the writer is verified: so it is not a part of the next one that is replaced.
            let parts = self.client.list_parts(object_ref, IMPLICIT).await?;
            let is_own = match self.get_info(id).await {
                Ok(Some(stored)) => !self.options.shared || self.is_own_writer(&stored.info),
                _ => false,
            };
            if !is_own {
                return Err(error);
            }
            let part = parts.into_iter().find(|part| part.number == number);
            over = part.map(|part| part.etag);
        }
        let kind = ErrorKind::Unavailable { retry_after: None };
        let why = "another process replaces the same part again and again";
        Err(Error::new(kind, "uploading a part", object_ref.to_string()).with_message(why))
    }

    pub(super) fn reap_uploads(&self, state: &mut UploadState) -> Result<()> {
        while let Some(result) = state.in_flight.try_join_next() {
            on_part_uploaded(state, result)?;
        }
        Ok(())
    }

    pub(super) async fn wait_for_parts(&self, state: &mut UploadState) -> Result<()> {
        while let Some(result) = state.in_flight.join_next().await {
            on_part_uploaded(state, result)?;
        }
        let counted = &mut state.remote.counted;
        if !state.uploaded.is_empty() {
            state.uploaded.sort_by_key(|(number, _)| *number);
            counted.next += u32::try_from(state.uploaded.len()).unwrap_or(u32::MAX);
            counted.parts.append(&mut state.uploaded);
            state.remote.modified = std::time::SystemTime::now();
        }
        counted.offset = state.boundary;
        state.last_part = None;
        Ok(())
    }

    pub(super) async fn upload_last_part(&self, state: &mut UploadState) -> Result<()> {
        self.fetch_incomplete_part(state).await?;
        let remote = &state.remote;
        let is_unused = remote.multipart.is_none() || self.rules.versioned_parts;
        let alone = is_unused && remote.counted.parts.is_empty();
        if alone && state.in_flight.is_empty() && state.boundary == 0 {
            let (payload, memory) = state.buffer.take();
            state.boundary = payload.len();
            let put = self.put_single_object(state, payload).await;
            drop(memory);
            return put;
        }
        if state.buffer.size() > 0 {
            self.spawn_part_upload(state).await?;
        }
        self.wait_for_parts(state).await
    }

    /// Makes the object of an upload without bytes.
    pub(super) async fn put_empty_object(&self, state: &mut UploadState) -> Result<()> {
        match state.remote.multipart.clone() {
            // Something marks the object as unfinished, which only its completion removes.
            Some(multipart) if self.rules.implicit_multipart && !self.rules.versioned_parts => {
                state.remote.object_etag = Some(self.complete_parts(state, &multipart).await?);
                state.remote.complete = true;
                Ok(())
            }
            _ => {
                // Some services reject an empty part.
                self.put_single_object(state, Payload::default()).await?;
                self.abort_unused_multipart(state).await
            }
        }
    }

    pub(super) async fn put_single_object(
        &self,
        state: &mut UploadState,
        payload: Payload,
    ) -> Result<()> {
        let remote = &mut state.remote;
        let upload = &remote.info.upload;
        let headers = self.layout.headers_with_owner(upload);
        let condition = match self.rules.implicit_multipart {
            true => Condition::IfAbsent,
            false => Condition::None,
        };
        let object_ref = &remote.object_ref;
        let put = self
            .client
            .put_object(object_ref, payload, &headers, condition, None);
        let etag = match put.await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {
                // An earlier attempt of this or another process, or an object of another program.
                let found = self.completed_object(remote, false).await?;
                let why = "an object that is not its own has its key";
                found
                    .ok_or_else(|| StoreError::damaged(&upload.id, why))?
                    .etag
            }
            put => put.during("writing the object", &upload.id)?,
        };
        remote.counted.offset = state.boundary;
        remote.complete = true;
        remote.object_etag = Some(etag);
        remote.modified = std::time::SystemTime::now();
        Ok(())
    }
}

/// Sends a part, and holds what belongs to it until its end.
pub(super) async fn send_part<C: Cloud>(
    client: Arc<C>,
    (object_ref, multipart, number): (ObjectRef, String, u32),
    payload: Payload,
    _held: impl Send,
) -> PartUploadResult {
    let condition = PartCondition::default();
    let send = client.upload_part(&object_ref, &multipart, number, payload, condition);
    (number, send.await)
}

fn on_part_uploaded(
    state: &mut UploadState,
    result: Result<PartUploadResult, tokio::task::JoinError>,
) -> Result<()> {
    let id = state.remote.id().clone();
    let action = "uploading a part";
    let part = match result {
        Ok((number, sent)) => sent.during(action, &id).map(|etag| (number, etag)),
        Err(error) => Err(StoreError::other(format!("{action} of upload {id}"), error)),
    };
    state.has_failed |= part.is_err();
    state.uploaded.push(part?);
    state.has_sent_parts = true;
    Ok(())
}

impl<C: Cloud> Inner<C> {
    /// Releases at least `bytes` of memory of idle uploads other than `except`, if they have as
    /// much.
    pub(super) async fn reclaim(&self, bytes: usize, except: &UploadId) {
        let mut freed = 0;
        for session in self.sessions.idle_sessions(IDLE_AFTER) {
            if freed >= bytes {
                return;
            }
            if session.id == *except {
                continue;
            }
            // A locked session is not idle.
            let Ok(mut cached) = session.cached.try_lock() else {
                continue;
            };
            let CachedState::Known(state) = &mut *cached else {
                continue;
            };
            if state.unverified.is_some() || state.buffer.size() == 0 {
                continue;
            }
            let (buffered, is_being_written) = {
                let status = session.status();
                (status.buffered, status.is_being_written())
            };
            if !is_being_written && state.is_dirty() {
                // Its request was dropped, and these bytes were never acknowledged.
                *cached = CachedState::Unknown;
            } else if !state.is_dirty() {
                state.offloaded += state.buffer.size();
                state.buffer = self.new_buffer();
            } else if self.flush_to_incomplete_part(state).await.is_err() {
                *cached = CachedState::Unknown;
            }
            drop(cached);
            session.touch(0);
            freed += buffered;
        }
    }
}
