//! The state of an upload in S3.

use std::time::{Duration, SystemTime};

use landfall::{
    lease::Fence,
    store::{
        Result, StoreError,
        info::{self, UploadInfo},
    },
    upload::{UploadId, UploadKind},
};

use super::{
    Inner,
    damaged::InfoLookup,
    error::{damaged, failed},
    layout::{self, MULTIPART, OWNER},
    part_plan::{CountedParts, PartPlan},
    session::UploadSession,
    writer::writer,
};
use crate::client::{Condition, ErrorKind, ObjectHead, ObjectRef, Part, Payload};

/// Description extension: the [`PartPlan`].
const PLAN: &str = "Parts";
/// Description extension: last change of the upload, in milliseconds since 1970.
///
/// Only present if the last write of the description did not change the upload.
const CHANGED: &str = "Changed";
/// User metadata of `.part`: its start offset.
const START_METADATA: &str = "landfall-start";
/// User metadata of `.part`: the writer that had no part in flight when it wrote this object.
const WRITER_METADATA: &str = "landfall-writer";
/// Delays while an object is expected whose multipart upload no longer exists.
pub(super) const COMPLETION_POLL_DELAYS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

#[derive(Debug)]
pub(super) struct StoredInfo {
    pub(super) info: UploadInfo,
    pub(super) etag: String,
    pub(super) object_id: String,
    pub(super) modified: SystemTime,
    /// The writer that the description named when it was read.
    pub(super) writer: Option<String>,
}

#[derive(Debug)]
pub(super) struct RemoteState {
    pub(super) info: UploadInfo,
    pub(super) etag: String,
    pub(super) object_id: String,
    /// The object of its bytes, which may not exist yet.
    pub(super) object_ref: ObjectRef,
    /// The multipart upload id; `None` if it is completed or not yet needed.
    pub(super) multipart: Option<String>,
    pub(super) plan: PartPlan,
    pub(super) counted: CountedParts,
    /// The object `.part`, if it exists, whether it counts or not.
    pub(super) incomplete_part: Option<IncompletePart>,
    /// Number of its bytes that count.
    pub(super) incomplete_part_bytes: u64,
    pub(super) complete: bool,
    /// Entity tag of the object, once it is complete.
    pub(super) object_etag: Option<String>,
    pub(super) modified: SystemTime,
    /// Parts of an earlier writer may still be in flight.
    pub(super) is_in_doubt: bool,
}

#[derive(Debug, Clone)]
pub(super) struct IncompletePart {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) etag: String,
    pub(super) modified: Option<SystemTime>,
    /// Its metadata contains `start`; tusd's does not.
    pub(super) has_start: bool,
}

#[derive(Debug)]
struct StoredIncompletePart {
    part: IncompletePart,
    writer: Option<String>,
}

impl RemoteState {
    pub(super) fn id(&self) -> &UploadId {
        &self.info.upload.id
    }

    pub(super) fn offset(&self) -> u64 {
        self.counted.offset + self.incomplete_part_bytes
    }

    /// Bytes from this offset on do not count.
    fn limit(&self) -> u64 {
        self.info.unverified_from.unwrap_or(u64::MAX)
    }

    fn changed(&mut self, at: Option<SystemTime>) {
        self.modified = at.map_or(self.modified, |at| at.max(self.modified));
    }

    fn count_parts(&mut self, parts: &[Part]) -> Result<()> {
        for part in parts {
            self.changed(part.modified);
        }
        let length = self.info.upload.length;
        let counted = self.plan.count(parts, length, self.limit());
        let counted = counted.map_err(|missing| {
            let at = missing.0;
            damaged(
                self.id(),
                format!("the parts after byte {at} are missing in S3"),
            )
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
        if let UploadKind::Final { concatenated, .. } = &mut self.info.upload.kind
            && self.info.concatenated_unknown
        {
            *concatenated = true;
        }
        self.complete = true;
        self.object_etag = Some(head.etag.clone());
        self.counted.offset = head.size;
        self.changed(head.modified);
    }

    /// Counts the bytes of `.part`.
    ///
    /// One that does not start at the end of the parts is obsolete. tusd's has no start offset and
    /// always counts.
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

pub(super) fn multipart_of(info: &UploadInfo, object_id: &str) -> Option<String> {
    let stored = info.upload.storage.get(MULTIPART).cloned();
    stored.or_else(|| {
        let (named, multipart) = layout::split(&info.upload.id)?;
        (named == object_id).then(|| multipart.to_owned())
    })
}

impl Inner {
    pub(super) async fn get_info(&self, id: &UploadId) -> Result<Option<StoredInfo>> {
        match self.find_info(id).await? {
            InfoLookup::Read(stored) => Ok(Some(*stored)),
            InfoLookup::Missing => Ok(None),
            InfoLookup::Unreadable { reason, .. } => Err(damaged(id, reason)),
        }
    }

    pub(super) async fn find_info(&self, id: &UploadId) -> Result<InfoLookup> {
        if let Some((object_id, _)) = layout::split(id) {
            match self.find_info_as(id, object_id).await? {
                InfoLookup::Missing => {}
                found => return Ok(found),
            }
        }
        self.find_info_as(id, id.as_str()).await
    }

    async fn find_info_as(&self, id: &UploadId, object_id: &str) -> Result<InfoLookup> {
        let object_ref = self.layout.info(object_id);
        let action = "reading the description";
        let read = match self.client.get_object(&object_ref, None).await {
            Ok(read) => read,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => return Ok(InfoLookup::Missing),
            Err(error) => return Err(failed(id, action, error)),
        };
        let unreadable = |reason: String| {
            let object_id = object_id.to_owned();
            Ok(InfoLookup::Unreadable { object_id, reason })
        };
        if read.head.size > info::MAX_LEN {
            return unreadable("its description is too long".into());
        }
        let etag = read.head.etag.clone();
        let modified = read.head.modified.unwrap_or(SystemTime::UNIX_EPOCH);
        let json = read
            .bytes(usize::try_from(info::MAX_LEN).unwrap_or(usize::MAX))
            .await
            .map_err(|error| failed(id, action, error))?;
        let info = match UploadInfo::decode(id, &json) {
            Ok(info) => info,
            Err(broken) => return unreadable(broken.to_string()),
        };
        let changed = info
            .extensions
            .get(CHANGED)
            .and_then(|changed| changed.parse().ok());
        let changed = changed
            .and_then(|changed| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(changed)));
        let modified = changed.unwrap_or(modified);
        let writer = writer(&info).map(str::to_owned);
        // The ids `a+1` and `a+2` share a description, which belongs to one of them.
        if info.stated_id != id.as_str() {
            return Ok(InfoLookup::Missing);
        }
        Ok(InfoLookup::Read(Box::new(StoredInfo {
            info,
            etag,
            object_id: object_id.to_owned(),
            modified,
            writer,
        })))
    }

    /// Reads the state of an upload from S3.
    ///
    /// In a shared bucket a writer is first named in the description; it has a session and the
    /// fence of its lease.
    pub(super) async fn probe(
        &self,
        id: &UploadId,
        writer: Option<(&UploadSession, Fence)>,
    ) -> Result<RemoteState> {
        let Some(mut stored) = self.get_info(id).await? else {
            return Err(StoreError::NotFound(id.clone()));
        };
        if let Some(reason) = &stored.info.damaged {
            return Err(damaged(id, reason.clone()));
        }
        if let (true, Some((session, fence))) = (self.options.shared, writer) {
            self.take_ownership(&mut stored, session, fence).await?;
        }
        self.load_remote_state(stored).await
    }

    async fn load_remote_state(&self, stored: StoredInfo) -> Result<RemoteState> {
        let StoredInfo {
            info,
            etag,
            object_id,
            modified,
            writer,
        } = stored;
        let id = info.upload.id.clone();
        let stored_plan = info.extensions.get(PLAN).map_or("", String::as_str);
        let Some(plan) = PartPlan::parse(stored_plan) else {
            return Err(damaged(
                &id,
                format!("its part plan is invalid: {stored_plan:?}"),
            ));
        };
        let mut remote = RemoteState {
            object_ref: self.layout.stored_object(&object_id, &info.upload.storage),
            multipart: multipart_of(&info, &object_id),
            counted: CountedParts {
                next: 1,
                ..CountedParts::default()
            },
            incomplete_part: None,
            incomplete_part_bytes: 0,
            complete: false,
            object_etag: None,
            info,
            etag,
            object_id,
            plan,
            modified,
            is_in_doubt: false,
        };
        let (parts, incomplete_part) = match &remote.multipart {
            Some(multipart) => {
                let parts = self.list_parts(&id, &remote.object_ref, multipart);
                let part = self.head_incomplete_part(&id, &remote.object_id);
                futures_util::future::try_join(parts, part).await?
            }
            None => (
                None,
                self.head_incomplete_part(&id, &remote.object_id).await?,
            ),
        };
        match parts {
            Some(parts) => remote.count_parts(&parts)?,
            None => {
                let had_multipart = remote.multipart.take().is_some();
                if let Some(head) = self.wait_for_object(&remote, had_multipart).await? {
                    remote.set_complete(&head);
                } else if had_multipart && !remote.info.upload.is_final() {
                    // Aborted, by an interrupted termination or by a lifecycle rule.
                    return Err(StoreError::NotFound(id));
                }
            }
        }
        let (incomplete_part, settled_writer) = incomplete_part
            .map(|found| (found.part, found.writer))
            .unzip();
        remote.is_in_doubt = match writer {
            None => false,
            Some(writer) if self.options.shared => settled_writer.flatten() != Some(writer),
            Some(writer) => !self.is_own_token(&writer),
        };
        remote.count_incomplete_part(incomplete_part);
        Ok(remote)
    }

    /// Returns all stored parts; `None` if the multipart upload does not exist.
    pub(super) async fn list_parts(
        &self,
        id: &UploadId,
        object_ref: &ObjectRef,
        multipart: &str,
    ) -> Result<Option<Vec<Part>>> {
        let mut parts = Vec::new();
        let mut after = 0;
        loop {
            let page = match self.client.list_parts(object_ref, multipart, after).await {
                Ok(page) => page,
                Err(error)
                    if matches!(error.kind(), ErrorKind::NoSuchUpload | ErrorKind::NoSuchKey) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(failed(id, "listing the parts", error)),
            };
            parts.extend(page.parts);
            match page.next {
                Some(next) if next > after => after = next,
                _ => break,
            }
        }
        parts.sort_by_key(|part| part.number);
        Ok(Some(parts))
    }

    async fn head_incomplete_part(
        &self,
        id: &UploadId,
        object_id: &str,
    ) -> Result<Option<StoredIncompletePart>> {
        match self.client.head_object(&self.layout.part(object_id)).await {
            Ok(head) => {
                let start = head
                    .metadata
                    .get(START_METADATA)
                    .and_then(|start| start.parse().ok());
                let part = IncompletePart {
                    start: start.unwrap_or_default(),
                    len: head.size,
                    etag: head.etag,
                    modified: head.modified,
                    has_start: start.is_some(),
                };
                let writer = head.metadata.get(WRITER_METADATA).cloned();
                Ok(Some(StoredIncompletePart { part, writer }))
            }
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
            Err(error) => Err(failed(id, "reading the metadata of .part", error)),
        }
    }

    /// Like [`Inner::completed_object`], but retries if the multipart upload no longer exists.
    ///
    /// The process that completed it may just have died, and a service need not show both at the
    /// same moment.
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

    /// Returns the object, if it is complete and belongs to this upload.
    async fn completed_object(
        &self,
        remote: &RemoteState,
        had_multipart: bool,
    ) -> Result<Option<ObjectHead>> {
        let (id, upload) = (remote.id(), &remote.info.upload);
        match self.client.head_object(&remote.object_ref).await {
            Ok(head) => {
                // The length of a final upload is the sum of its parts, before it is concatenated.
                let length = upload.length.filter(|_| !upload.is_final());
                let right_size = length.is_none_or(|length| length == head.size);
                let owner = head.metadata.get(OWNER);
                let owned = had_multipart || owner.is_some_and(|owner| owner == id.as_str());
                Ok((right_size && owned).then_some(head))
            }
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
            Err(error) => Err(failed(id, "reading the metadata of the object", error)),
        }
    }

    /// Writes a description over the one with the entity tag `over`; `None`: there must be none.
    pub(super) async fn put_info(
        &self,
        info: &UploadInfo,
        object_id: &str,
        over: Option<&str>,
    ) -> Result<String> {
        let condition = match over {
            _ if !self.options.conditional_writes => Condition::None,
            Some(etag) => Condition::IfMatch(etag.to_owned()),
            None => Condition::IfAbsent,
        };
        let payload = self.payload(info.encode());
        let headers = self.layout.internal_headers("application/json");
        let object_ref = self.layout.info(object_id);
        let put = self
            .client
            .put_object(&object_ref, payload, &headers, condition);
        put.await
            .map_err(|error| failed(&info.upload.id, "writing the description", error))
    }

    /// Writes `.part` with the bytes from `start` on.
    ///
    /// `is_settled`: no part is in flight of this writer, or of an earlier one whose numbers it may
    /// use.
    pub(super) async fn put_incomplete_part(
        &self,
        remote: &RemoteState,
        start: u64,
        payload: Payload,
        is_settled: bool,
    ) -> Result<IncompletePart> {
        let condition = match &remote.incomplete_part {
            _ if !self.options.conditional_writes => Condition::None,
            Some(part) => Condition::IfMatch(part.etag.clone()),
            None => Condition::IfAbsent,
        };
        let len = payload.len();
        let mut headers = self.layout.internal_headers("application/octet-stream");
        headers
            .metadata
            .insert(START_METADATA.into(), start.to_string());
        if let (true, Some(writer)) = (is_settled, writer(&remote.info)) {
            headers
                .metadata
                .insert(WRITER_METADATA.into(), writer.to_owned());
        }
        let object_ref = self.layout.part(&remote.object_id);
        let put = self
            .client
            .put_object(&object_ref, payload, &headers, condition);
        let etag = put
            .await
            .map_err(|error| failed(remote.id(), "writing .part", error))?;
        Ok(IncompletePart {
            start,
            len,
            etag,
            modified: None,
            has_start: true,
        })
    }
}

/// Marks the next write of the description as a change of the upload.
pub(super) fn mark_changed(info: &mut UploadInfo) {
    info.extensions.remove(CHANGED);
}

/// Marks the next write of the description as no change of the upload.
pub(super) fn preserve_change_time(stored: &mut StoredInfo) {
    let changed = stored.modified.duration_since(SystemTime::UNIX_EPOCH);
    let changed = changed.unwrap_or_default().as_millis().to_string();
    stored.info.extensions.insert(CHANGED.into(), changed);
}

pub(super) fn store_plan(info: &mut UploadInfo, plan: &PartPlan) {
    info.extensions.insert(PLAN.into(), plan.to_string());
}
