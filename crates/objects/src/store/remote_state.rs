//! Reads the state of an upload from the cloud. It removes nothing; it writes the incomplete part for `commit.rs`, and the
//! marker of a takeover.

use std::{sync::Arc, time::SystemTime};

use futures_util::future::try_join;
use landfall::{
    store::{Result, StoreError, info::UploadInfo},
    upload::{Snapshot, UploadId, UploadKind},
};
use tokio_util::task::TaskTracker;

use super::{
    COMPLETION_POLL_DELAYS, During as _, Inner,
    description::{StoredInfo, set_change_time, writer},
    layout::IMPLICIT,
    tails::{
        IncompletePart, START_METADATA, Tail, TailId, is_interrupted, set_tail_writers, tail_name,
        tail_writers, takeover_name,
    },
};
use crate::cloud::{Cloud, Rules};
use crate::{Condition, ErrorKind, OWNER, ObjectHead, ObjectRef, PART_WRITER, Part, Payload};
use crate::{CountedParts, CountedRanges, PartPlan};

const PLAN: &str = "Parts";
const MAX_TAKEOVERS: usize = 8;

#[derive(Debug)]
pub(super) struct RemoteState {
    pub(super) info: UploadInfo,
    pub(super) etag: String,
    pub(super) object_id: String,
    pub(super) object_ref: ObjectRef,
    pub(super) multipart: Option<String>,
    pub(super) plan: PartPlan,
    pub(super) counted: CountedParts,
    pub(super) incomplete_part: Option<IncompletePart>,
    pub(super) incomplete_part_bytes: u64,
    /// Objects of incomplete parts that do not count any more.
    pub(super) old_tails: Vec<ObjectRef>,
    /// A write of `.part` was interrupted: what counts may be lost again.
    pub(super) is_interrupted: bool,
    /// The turn of the copy of `.part` that is written next.
    next_copy: usize,
    /// The incomplete part that counts, where each is written once.
    pub(super) chosen_tail: Option<TailId>,
    /// The number of the next object of an incomplete part, where each is written once.
    next_tail: u32,
    /// Versioned parts that do not count, because a writer stored them after another one had taken over.
    pub(super) late_parts: Vec<(u32, String)>,
    /// Shows that this process has taken over, until it has written an incomplete part.
    pub(super) takeover: Option<ObjectRef>,
    pub(super) complete: bool,
    /// The object has parts that do not count; it is to be replaced by a copy of these ranges.
    pub(super) uncopied: Option<CountedRanges>,
    pub(super) object_etag: Option<String>,
    pub(super) modified: SystemTime,
    pub(super) is_in_doubt: bool,
    /// A write of `.info` or `.part` was begun, and its response is not known.
    pub(super) is_write_in_doubt: bool,
}

impl RemoteState {
    pub(super) fn new(
        stored: StoredInfo,
        object_ref: ObjectRef,
        multipart: Option<String>,
        plan: PartPlan,
    ) -> Self {
        Self {
            info: stored.info,
            etag: stored.etag,
            object_id: stored.object_id,
            object_ref,
            multipart,
            plan,
            counted: CountedParts {
                next: 1,
                ..CountedParts::default()
            },
            incomplete_part: None,
            incomplete_part_bytes: 0,
            old_tails: Vec::new(),
            is_interrupted: false,
            next_copy: 0,
            chosen_tail: None,
            next_tail: 0,
            late_parts: Vec::new(),
            takeover: None,
            complete: false,
            uncopied: None,
            object_etag: None,
            modified: stored.modified,
            is_in_doubt: false,
            is_write_in_doubt: false,
        }
    }

    pub(super) fn id(&self) -> &UploadId {
        &self.info.upload.id
    }

    pub(super) fn offset(&self) -> u64 {
        self.counted.offset + self.incomplete_part_bytes
    }

    fn remains(&self) -> Snapshot {
        Snapshot::new(Arc::clone(&self.info.upload), 0, self.modified)
    }

    fn limit(&self) -> u64 {
        self.info.unverified_from.unwrap_or(u64::MAX)
    }

    fn changed(&mut self, at: Option<SystemTime>) {
        self.modified = at.map_or(self.modified, |at| at.max(self.modified));
    }

    fn count_parts(&mut self, parts: &[Part], rules: &Rules) -> Result<()> {
        for part in parts {
            self.changed(part.modified);
        }
        let length = self.info.upload.length;
        // A late part may come after the last one.
        let end = length.filter(|_| rules.versioned_parts).unwrap_or(u64::MAX);
        let counted = self.plan.count(parts, length, self.limit().min(end));
        let counted = counted.map_err(|missing| {
            let at = missing.0;
            let reason = format!("the parts after byte {at} are missing in {}", rules.name);
            StoreError::damaged(self.id(), reason)
        })?;
        if self.info.upload.is_concatenated() {
            self.counted = counted;
        } else {
            // Parts of a failed concatenation do not count.
            self.counted.highest = counted.highest;
        }
        Ok(())
    }

    fn set_complete(&mut self, head: &ObjectHead) {
        if self.info.concatenated_unknown
            && let UploadKind::Final { concatenated, .. } =
                &mut Arc::make_mut(&mut self.info.upload).kind
        {
            *concatenated = true;
        }
        self.complete = true;
        self.object_etag = Some(head.etag.clone());
        self.counted.offset = head.size;
        self.changed(head.modified);
    }

    /// Leaves out the versioned parts that a writer has stored after another one had taken over: from the last
    /// incomplete part on, those of earlier writers. Parts without a writer are tusd's.
    fn leave_out_late_parts(&mut self, parts: &mut Vec<Part>, tails: &[Tail]) {
        let writers = tail_writers(&self.info);
        let rank = |name: &str| writers.iter().rposition(|writer| writer == name);
        let ranked = tails
            .iter()
            .filter_map(|tail| Some((rank(&tail.writer)?, tail)));
        let Some((newest, tail)) = ranked.max_by_key(|(rank, tail)| (*rank, tail.number)) else {
            return;
        };
        let mut start = 0;
        let late = parts.iter().position(|part| {
            let is_old = |writer: &String| rank(writer) < Some(newest);
            let is_late = start >= tail.part.start && part.writer.as_ref().is_some_and(is_old);
            start += part.size;
            is_late
        });
        let late = parts.drain(late.unwrap_or(parts.len())..);
        self.late_parts = late.map(|part| (part.number, part.etag)).collect();
    }

    /// Chooses the object of the incomplete part where each is written once: the last one of the last writer
    /// that has written one since the last part, or the one that counted when that writer took over.
    fn choose_tail(&mut self, tails: Vec<Tail>) -> Option<IncompletePart> {
        let start = self.counted.offset;
        let last = writer(&self.info);
        let last = last.map(|last| (tail_name(last), last.to_owned()));
        self.chosen_tail = last_tail(&self.info, &tails, start);
        let mut found = None;
        for mut tail in tails {
            let next = tail.number.map_or(0, |number| number.saturating_add(1));
            self.next_tail = self.next_tail.max(next);
            let is_chosen = |(writer, number): &TailId| {
                *writer == tail.writer && Some(*number) == tail.number && tail.part.start == start
            };
            match self.chosen_tail.as_ref().is_some_and(is_chosen) {
                true => {
                    // All earlier parts were stored when it was written.
                    let is_last = last.as_ref().filter(|(name, _)| *name == tail.writer);
                    tail.part.writer = is_last.map(|(_, last)| last.clone());
                    found = Some(tail.part);
                }
                false => self.old_tails.push(tail.part.object),
            }
        }
        found
    }

    /// Chooses `.part`, or the longest of it and its copies if a write was interrupted: whatever was read before is in it.
    pub(super) fn choose_copy(&mut self, mut tails: Vec<Tail>) -> Option<IncompletePart> {
        self.is_interrupted = is_interrupted(&tails);
        let copies = tails.iter().filter(|tail| tail.number.is_some());
        let last = copies.max_by_key(|tail| tail.part.range());
        self.next_copy = usize::from(last.is_some_and(|last| last.number == Some(0)));
        match self.is_interrupted {
            true => tails.sort_by_key(|tail| tail.part.range()),
            false => tails.sort_by_key(|tail| tail.number.is_none()),
        }
        let chosen = tails.pop()?;
        self.old_tails = tails.into_iter().map(|tail| tail.part.object).collect();
        Some(chosen.part)
    }

    fn count_incomplete_part(&mut self, found: Option<IncompletePart>) {
        let Some(mut part) = found else {
            return;
        };
        if !part.has_start {
            part.start = self.counted.offset;
        }
        if part.start == self.counted.offset && !self.complete {
            self.changed(part.modified);
            let end = self.info.upload.length.unwrap_or(u64::MAX);
            let remaining = self.limit().min(end).saturating_sub(part.start);
            self.incomplete_part_bytes = part.len.min(remaining);
        }
        self.incomplete_part = Some(part);
    }
}

impl<C: Cloud> Inner<C> {
    pub(super) async fn load_remote_state(&self, stored: StoredInfo) -> Result<RemoteState> {
        let id = stored.info.upload.id.clone();
        let info = &stored.info;
        let stored_plan = info.extensions.get(PLAN).map_or("", String::as_str);
        let Some(plan) = PartPlan::parse(stored_plan) else {
            let reason = format!("its part plan is invalid: {stored_plan:?}");
            return Err(StoreError::damaged(&id, reason));
        };
        let object_id = &stored.object_id;
        let object_ref = self.layout.stored_object(object_id, &info.upload.storage);
        let multipart = self.layout.multipart(info, object_id);
        let writer = stored.writer.clone();
        let mut remote = RemoteState::new(stored, object_ref, multipart, plan);
        let tails = self.find_tails(&id, &remote.object_id);
        let (parts, tails) = match &remote.multipart {
            Some(multipart) if self.options.shared && self.rules.versioned_parts => {
                // In this order, a part that comes after a takeover is seen to be late.
                let parts = self.list_parts(&id, &remote.object_ref, multipart).await?;
                (parts, tails.await?)
            }
            Some(multipart) if self.options.shared => {
                // A node that completes the upload stores a part and then deletes `.part`: in this order one of
                // them is seen.
                let tails = tails.await?;
                (
                    self.list_parts(&id, &remote.object_ref, multipart).await?,
                    tails,
                )
            }
            Some(multipart) => {
                let parts = self.list_parts(&id, &remote.object_ref, multipart);
                try_join(parts, tails).await?
            }
            None => (None, tails.await?),
        };
        if self.options.shared && self.writes_once() {
            self.learn_tail_writers(&mut remote.info, &tails).await?;
        }
        let parts = match self.writes_once() {
            true => parts,
            false => {
                let start = tails.iter().map(|tail| tail.part.start).max();
                self.list_hidden_parts(&remote, parts, start.unwrap_or(0))
                    .await?
            }
        };
        match parts {
            Some(mut parts) => {
                if self.rules.versioned_parts {
                    remote.leave_out_late_parts(&mut parts, &tails);
                }
                self.count_listed(&mut remote, &parts).await?;
                let is_planned = remote.plan != PartPlan::default();
                if self.has_copies() && parts.is_empty() && tails.is_empty() && is_planned {
                    // Garage may list no parts of an upload that another node has completed.
                    if let Some(head) = self.wait_for_object(&remote, true).await? {
                        remote.set_complete(&head);
                    }
                }
            }
            None => {
                let had_multipart = remote.multipart.take().is_some();
                let is_uncopied = had_multipart && self.is_uncopied(&mut remote).await?;
                let object = match is_uncopied {
                    true => None,
                    false => self.wait_for_object(&remote, had_multipart).await?,
                };
                if let Some(head) = object {
                    remote.set_complete(&head);
                } else if had_multipart
                    && !is_uncopied
                    && !remote.info.upload.is_final()
                    && self.has_been_made(&remote)
                {
                    // Aborted, by an interrupted termination or by a lifecycle rule.
                    return Err(StoreError::Gone(Box::new(remote.remains())));
                }
            }
        }
        let incomplete_part = match self.writes_once() {
            true => remote.choose_tail(tails),
            false => remote.choose_copy(tails),
        };
        let settled_writer = incomplete_part
            .as_ref()
            .and_then(|part| part.writer.clone());
        remote.is_in_doubt = match writer {
            // A part is replaced only by its tag.
            _ if self.rules.versioned_parts => false,
            None => false,
            Some(writer) if self.options.shared => settled_writer != Some(writer),
            Some(writer) => !self.is_own_token(&writer),
        };
        remote.count_incomplete_part(incomplete_part);
        Ok(remote)
    }

    /// Returns whether an upload without parts has had some. Where nothing names a multipart upload, only its
    /// end shows that.
    fn has_been_made(&self, remote: &RemoteState) -> bool {
        !self.rules.implicit_multipart || remote.info.upload.etag.is_some()
    }

    /// Counts the parts, unless the object is already made of them: then its completion was interrupted before
    /// they were removed, which `finish` does.
    async fn count_listed(&self, remote: &mut RemoteState, parts: &[Part]) -> Result<()> {
        let is_done = self.rules.implicit_multipart && remote.info.upload.completion.is_done();
        if is_done && self.has_been_made(remote) {
            // The parts came late. Its object may have been deleted or replaced by now.
            let head = self.find_object(remote.id(), &remote.object_ref).await?;
            let head = head.ok_or_else(|| StoreError::Gone(Box::new(remote.remains())))?;
            remote.set_complete(&head);
            return Ok(());
        }
        let counted = remote.count_parts(parts, &self.rules);
        if counted.is_err() && self.rules.implicit_multipart && parts.is_empty() {
            // An interrupted removal has dropped all parts, or the service has.
            return Err(StoreError::Gone(Box::new(remote.remains())));
        }
        counted?;
        if !self.rules.versioned_parts || parts.is_empty() {
            return Ok(());
        }
        if let Some(head) = self.completed_object(remote, true).await? {
            remote.set_complete(&head);
        }
        Ok(())
    }

    /// Returns whether a completion was interrupted before uncounted bytes were removed from the object.
    async fn is_uncopied(&self, remote: &mut RemoteState) -> Result<bool> {
        // A finished object is the application's: it may have any length.
        let recorded = CountedRanges::recorded(&remote.info);
        let Some(ranges) = recorded.filter(|_| !remote.info.upload.completion.is_done()) else {
            return Ok(false);
        };
        let head = self.find_object(remote.id(), &remote.object_ref).await?;
        let is_uncopied = head.is_some_and(|head| head.size == ranges.total);
        if is_uncopied {
            remote.counted.offset = ranges.counted();
            remote.uncopied = Some(ranges);
        }
        Ok(is_uncopied)
    }

    pub(super) async fn list_parts(
        &self,
        id: &UploadId,
        object_ref: &ObjectRef,
        multipart: &str,
    ) -> Result<Option<Vec<Part>>> {
        match self.client.list_parts(object_ref, multipart).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(None),
            listed => listed.during("listing the parts", id).map(Some),
        }
    }

    /// Garage may list no parts of an upload that another process completes or has just completed, whose offset must not
    /// fall: it reads the upload and its parts at the same time, and may get the first as it was before and the others as
    /// they are after. Asked again, it tells that the multipart upload is over. Where its nodes do not agree that soon,
    /// there are parts at least if the incomplete one has a start.
    async fn list_hidden_parts(
        &self,
        remote: &RemoteState,
        mut parts: Option<Vec<Part>>,
        start: u64,
    ) -> Result<Option<Vec<Part>>> {
        let Some(multipart) = &remote.multipart else {
            return Ok(parts);
        };
        if self.has_copies() && parts.as_ref().is_some_and(Vec::is_empty) {
            let listed = self.list_parts(remote.id(), &remote.object_ref, multipart);
            parts = listed.await?;
        }
        let mut waits = COMPLETION_POLL_DELAYS.iter();
        while start > 0 && parts.as_ref().is_some_and(Vec::is_empty) {
            let Some(wait) = waits.next() else {
                let why = format!("{} lists no parts before byte {start} now", self.rules.name);
                return Err(StoreError::Unavailable(why.into()));
            };
            tokio::time::sleep(*wait).await;
            let listed = self.list_parts(remote.id(), &remote.object_ref, multipart);
            parts = listed.await?;
        }
        Ok(parts)
    }

    pub(super) async fn wait_for_object(
        &self,
        remote: &RemoteState,
        had_multipart: bool,
    ) -> Result<Option<ObjectHead>> {
        for wait in COMPLETION_POLL_DELAYS {
            let object = self.completed_object(remote, had_multipart).await?;
            if object.is_some() || !had_multipart || remote.info.upload.is_final() {
                return Ok(object);
            }
            tokio::time::sleep(wait).await;
        }
        self.completed_object(remote, had_multipart).await
    }

    pub(super) async fn completed_object(
        &self,
        remote: &RemoteState,
        had_multipart: bool,
    ) -> Result<Option<ObjectHead>> {
        let (id, upload) = (remote.id(), &remote.info.upload);
        let head = self.find_object(id, &remote.object_ref).await?;
        if upload.completion.is_done() && !upload.is_partial() {
            // An application may change a finished object.
            return Ok(head);
        }
        // The length of a final upload is the sum of its parts, before it is concatenated.
        let length = upload.length.filter(|_| !upload.is_final());
        Ok(head.filter(|head| {
            let right_size = length.is_none_or(|length| length == head.size);
            let is_own = |owner: &String| *owner == remote.object_id || owner == id.as_str();
            let is_marked = head.metadata.get(OWNER).map(is_own);
            // If nothing names a multipart upload, its end proves nothing: only the length shows an object of tusd,
            // which has no mark.
            let is_likely = had_multipart && (!self.rules.implicit_multipart || length.is_some());
            right_size && is_marked.unwrap_or(is_likely && !is_part(head))
        }))
    }

    pub(super) async fn put_incomplete_part(
        &self,
        remote: &mut RemoteState,
        writes: &TaskTracker,
        start: u64,
        payload: Payload,
        is_settled: bool,
    ) -> Result<()> {
        remote.is_write_in_doubt = true;
        let (object_ref, condition) = match self.writes_once() {
            true => (self.next_tail(remote, start), Condition::IfAbsent),
            false => {
                let before = remote.incomplete_part.as_ref();
                let condition = self.condition(before.map(|part| part.etag.clone()));
                (self.layout.part(&remote.object_id), condition)
            }
        };
        let len = payload.len();
        let mut headers = self.layout.internal_headers("application/octet-stream");
        let metadata = &mut headers.metadata;
        metadata.insert(START_METADATA.into(), start.to_string());
        if let (true, Some(writer)) = (is_settled, writer(&remote.info)) {
            metadata.insert(PART_WRITER.into(), writer.to_owned());
        }
        let (client, writes) = (&self.client, Some(writes));
        let copies = self.copies(&remote.object_id);
        if let Some(copies) = &copies {
            // Not over the longest one, which may be the only one that is whole.
            let copy = &copies[remote.next_copy];
            let put = client.put_object(copy, payload.clone(), &headers, Condition::None, writes);
            put.await.during("writing a copy of .part", remote.id())?;
            remote.next_copy ^= 1;
        }
        let put = client.put_object(&object_ref, payload, &headers, condition, writes);
        let etag = put.await.during("writing .part", remote.id())?;
        let part = IncompletePart {
            object: object_ref,
            start,
            len,
            etag,
            modified: None,
            has_start: true,
            writer: None,
        };
        let before = remote.incomplete_part.as_ref().map(IncompletePart::range);
        if let Some(copies) = copies.filter(|_| before > Some(part.range())) {
            let deleted = client.delete_object(&copies[remote.next_copy]).await;
            deleted.during("deleting a copy of .part", remote.id())?;
        }
        let before = remote.incomplete_part.replace(part);
        if self.writes_once() {
            remote.old_tails.extend(before.map(|part| part.object));
        }
        remote.is_interrupted = false;
        remote.is_write_in_doubt = false;
        Ok(())
    }
}

impl<C: Cloud> Inner<C> {
    /// Names the next object of an incomplete part, which no other process writes.
    fn next_tail(&self, remote: &mut RemoteState, start: u64) -> ObjectRef {
        let number = remote.next_tail;
        remote.next_tail = number.saturating_add(1);
        self.tail(remote, start, number)
    }

    fn tail(&self, remote: &RemoteState, start: u64, end: impl std::fmt::Display) -> ObjectRef {
        let folder = self.layout.part(&remote.object_id);
        let writer = tail_name(writer(&remote.info).unwrap_or_default());
        ObjectRef::new(
            folder.bucket,
            format!("{}/{writer}/{start}.{end}", folder.key),
        )
    }

    /// Makes that nothing which the writer before stores from now on counts, so that no offset falls that a
    /// reader has seen meanwhile: no incomplete part, and no part with a version.
    pub(super) async fn confirm_takeover(&self, remote: &mut RemoteState) -> Result<()> {
        let id = remote.id().clone();
        for _ in 0..MAX_TAKEOVERS {
            let is_first = tail_writers(&remote.info).len() <= 1;
            if remote.complete || is_first && !self.rules.versioned_parts {
                return Ok(());
            }
            let start = remote.counted.offset;
            let object = self.tail(remote, start, takeover_name(remote.chosen_tail.as_ref()));
            let headers = self.layout.internal_headers("application/octet-stream");
            let (payload, condition) = (Payload::default(), Condition::None);
            let put = self
                .client
                .put_object(&object, payload, &headers, condition, None);
            put.await.during("taking over", &id)?;
            let own = writer(&remote.info).map(tail_name).unwrap_or_default();
            let mut tails = self.list_tails(&id, &remote.object_id).await?;
            tails.retain(|tail| tail.writer != own);
            let has_new_tail = last_tail(&remote.info, &tails, start) != remote.chosen_tail;
            if !has_new_tail && !self.has_new_part(remote).await? {
                remote.takeover = Some(object);
                return Ok(());
            }
            // It came between the two, so that a reader may have seen it: it counts.
            let deleted = self.client.delete_object(&object).await;
            deleted.during("taking over", &id)?;
            let stored = self.get_info(&id).await?;
            let stored = stored.ok_or_else(|| StoreError::NotFound(id.clone()))?;
            *remote = self.load_remote_state(stored).await?;
        }
        let why = "the writer before does not stop";
        Err(StoreError::Unavailable(why.into()))
    }
}

impl<C: Cloud> Inner<C> {
    /// Returns whether a part with a version has come that the next writer would have counted.
    async fn has_new_part(&self, remote: &RemoteState) -> Result<bool> {
        if !self.rules.versioned_parts || !remote.late_parts.is_empty() {
            return Ok(false);
        }
        let parts = self.list_parts(remote.id(), &remote.object_ref, IMPLICIT);
        let (next, highest) = (remote.counted.next, remote.counted.highest);
        let is_new =
            |part: &Part| part.number == next && part.number > highest && part.writer.is_some();
        Ok(parts.await?.iter().flatten().any(is_new))
    }

    /// Forgets the writers after that of the incomplete part that counts. A write of one that died may still arrive: it
    /// would count, although it may be shorter than an offset that was acknowledged.
    pub(super) async fn forget_late_writers(
        &self,
        remote: &mut RemoteState,
        writes: &TaskTracker,
    ) -> Result<()> {
        let Some((counts, _)) = remote.chosen_tail.as_ref().filter(|_| !remote.complete) else {
            return Ok(());
        };
        let writers = tail_writers(&remote.info);
        let last = writers.iter().rposition(|writer| writer == counts);
        let own = format!("-{:016x}", self.incarnation);
        let is_kept = |at: usize, writer: &str| Some(at) <= last || writer.ends_with(&own);
        let kept = (writers.iter().enumerate()).filter(|(at, writer)| is_kept(*at, writer));
        let kept: Vec<_> = kept.map(|(_, writer)| writer.clone()).collect();
        if kept.len() == writers.len() {
            return Ok(());
        }
        set_tail_writers(&mut remote.info, &kept);
        set_change_time(&mut remote.info, remote.modified);
        let etag = Some(&*remote.etag);
        let put = self.put_info(&remote.info, &remote.object_id, etag, writes);
        remote.etag = match put.await {
            // It may be a write of one that died.
            Err(StoreError::LeaseLost(_)) => {
                let why = "its description has just changed";
                return Err(StoreError::Unavailable(why.into()));
            }
            put => put?,
        };
        Ok(())
    }
}

/// Returns the incomplete part after `start` that counts.
fn last_tail(info: &UploadInfo, tails: &[Tail], start: u64) -> Option<TailId> {
    let writers = tail_writers(info);
    let rank = |tail: &Tail| writers.iter().rposition(|writer| *writer == tail.writer);
    let ranked = tails.iter().filter(|tail| tail.part.start == start);
    let ranked = ranked.filter_map(|tail| Some((rank(tail)?, tail)));
    let (_, tail) = ranked.max_by_key(|(rank, tail)| (*rank, tail.number))?;
    match tail.number {
        Some(number) => Some((tail.writer.clone(), number)),
        None => tail.accepted.clone(),
    }
}

/// Returns whether an object is a part of another upload.
pub(super) fn is_part(head: &ObjectHead) -> bool {
    head.metadata.contains_key(PART_WRITER)
}

pub(super) fn store_plan(info: &mut UploadInfo, plan: &PartPlan) {
    if *plan == PartPlan::default() && !info.extensions.contains_key(PLAN) {
        return;
    }
    info.extensions.insert(PLAN.into(), plan.to_string());
}
