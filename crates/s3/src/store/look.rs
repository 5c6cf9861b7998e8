//! Finding out from S3 where an upload stands.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

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
    damaged::Found,
    failure::{damaged, failed},
    layout::{self, BUCKET, KEY, Layout, MULTIPART, OWNER},
    plan::{Counted, Plan},
    session::Session,
    writer::writer,
};
use crate::client::{Condition, ErrorKind, ObjectHead, Part, Payload, Place};

/// In the description: the [`Plan`].
const PLAN: &str = "Parts";
/// In the description: when the upload last changed, in milliseconds since 1970, if writing the
/// description wasn't a change.
const CHANGED: &str = "Changed";
/// User metadata of `.part`: the offset at which it begins.
const START: &str = "landfall-start";
/// User metadata of `.part`: the writer none of whose parts was on its way when it was written.
const SETTLED: &str = "landfall-writer";
/// How long to wait for an object whose multipart upload is gone.
pub(super) const COMPLETIONS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// An upload's description as it was read.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) info: UploadInfo,
    /// The entity tag of the `.info` object.
    pub(super) etag: String,
    /// The object id.
    pub(super) object: String,
    pub(super) modified: SystemTime,
    /// The writer that the description names, or named before this process did.
    pub(super) writer: Option<String>,
}

/// Where an upload stands in S3.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) info: UploadInfo,
    pub(super) etag: String,
    pub(super) object: String,
    /// Where its bytes are, or will be.
    pub(super) place: Place,
    /// The multipart upload; `None` if it is completed, or none has been needed yet.
    pub(super) multipart: Option<String>,
    pub(super) plan: Plan,
    /// What counts of the parts.
    pub(super) counted: Counted,
    /// The object `.part`, if there is one, whether it counts or not.
    pub(super) rest: Option<Rest>,
    /// How many bytes of it count.
    pub(super) rest_counts: u64,
    /// Whether the object itself is there.
    pub(super) complete: bool,
    /// The entity tag of the object, once it is complete.
    pub(super) object_etag: Option<String>,
    pub(super) modified: SystemTime,
    /// Parts of an earlier writer may still be on their way to S3.
    pub(super) is_in_doubt: bool,
}

/// What `.part` holds.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    /// Where it begins.
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) etag: String,
    pub(super) modified: Option<SystemTime>,
    /// Its metadata gives `start`. tusd's `.part` does not.
    pub(super) has_start: bool,
}

/// `.part` as it is in S3.
#[derive(Debug)]
struct FoundRest {
    rest: Rest,
    writer: Option<String>,
}

impl Standing {
    pub(super) fn id(&self) -> &UploadId {
        &self.info.upload.id
    }

    pub(super) fn offset(&self) -> u64 {
        self.counted.offset + self.rest_counts
    }

    /// Bytes from here on don't count.
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
            // What an attempt at joining left behind doesn't count.
            self.counted.highest = counted.highest;
        }
        Ok(())
    }

    /// The object itself is there.
    fn be_complete(&mut self, head: &ObjectHead) {
        if let UploadKind::Final {
            concatenated: joined,
            ..
        } = &mut self.info.upload.kind
            && self.info.concatenated_unknown
        {
            *joined = true;
        }
        self.complete = true;
        self.object_etag = Some(head.etag.clone());
        self.counted.offset = head.size;
        self.changed(head.modified);
    }

    /// How much of `.part` counts. One that doesn't begin where the parts end is left from before
    /// they did; one of tusd's doesn't say where it begins, and always does.
    fn count_rest(&mut self, found: Option<Rest>) {
        let Some(mut rest) = found else {
            return;
        };
        if !rest.has_start {
            rest.start = self.counted.offset;
        }
        if rest.start == self.counted.offset && !self.complete {
            self.changed(rest.modified);
            let end = self.info.upload.length.unwrap_or(u64::MAX);
            let room = self.limit().min(end).saturating_sub(rest.start);
            self.rest_counts = rest.len.min(room);
        }
        self.rest = Some(rest);
    }
}

/// Where a description says the bytes are.
pub(super) fn place_of(layout: &Layout, object: &str, info: &UploadInfo) -> Place {
    place_in(layout, object, &info.upload.storage)
}

/// Where the bytes of an upload with this `Storage` are.
pub(super) fn place_in(layout: &Layout, object: &str, storage: &BTreeMap<String, String>) -> Place {
    let said = |key| storage.get(key).filter(|text: &&String| !text.is_empty());
    let own = layout.data(object);
    match said(KEY) {
        Some(key) => Place::new(said(BUCKET).unwrap_or(&own.bucket).as_str(), key.as_str()),
        None => own,
    }
}

/// The multipart upload that a description, or the id, names.
pub(super) fn multipart_of(info: &UploadInfo, object: &str) -> Option<String> {
    let said = info.upload.storage.get(MULTIPART).cloned();
    said.or_else(|| {
        let (named, multipart) = layout::split(&info.upload.id)?;
        (named == object).then(|| multipart.to_owned())
    })
}

impl Inner {
    /// Reads the description.
    pub(super) async fn locate(&self, id: &UploadId) -> Result<Option<Located>> {
        match self.find(id).await? {
            Found::Read(located) => Ok(Some(*located)),
            Found::Missing => Ok(None),
            Found::Unreadable { reason, .. } => Err(damaged(id, reason)),
        }
    }

    /// Reads the description, which may be unreadable.
    pub(super) async fn find(&self, id: &UploadId) -> Result<Found> {
        if let Some((object, _)) = layout::split(id) {
            match self.find_as(id, object).await? {
                Found::Missing => {}
                found => return Ok(found),
            }
        }
        self.find_as(id, id.as_str()).await
    }

    async fn find_as(&self, id: &UploadId, object: &str) -> Result<Found> {
        let place = self.layout.info(object);
        let doing = "reading the description";
        let read = match self.client.get_object(&place, None).await {
            Ok(read) => read,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => return Ok(Found::Missing),
            Err(error) => return Err(failed(id, doing, error)),
        };
        let unreadable = |reason: String| {
            let object = object.to_owned();
            Ok(Found::Unreadable { object, reason })
        };
        if read.head.size > info::MAX_LEN {
            return unreadable("its description is too long".into());
        }
        let etag = read.head.etag.clone();
        let modified = read.head.modified.unwrap_or(SystemTime::UNIX_EPOCH);
        let json = read
            .bytes(usize::try_from(info::MAX_LEN).unwrap_or(usize::MAX))
            .await
            .map_err(|error| failed(id, doing, error))?;
        let info = match UploadInfo::decode(id, &json) {
            Ok(info) => info,
            Err(broken) => return unreadable(broken.to_string()),
        };
        let noted = info
            .extensions
            .get(CHANGED)
            .and_then(|changed| changed.parse().ok());
        let noted = noted
            .and_then(|changed| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(changed)));
        let modified = noted.unwrap_or(modified);
        let writer = writer(&info).map(str::to_owned);
        // `a+1` and `a+2` have the same description, and it belongs to one of them.
        if info.stated_id != id.as_str() {
            return Ok(Found::Missing);
        }
        Ok(Found::Read(Box::new(Located {
            info,
            etag,
            object: object.to_owned(),
            modified,
            writer,
        })))
    }

    /// Finds out where the upload stands. A writer, which comes with its session and the fence of its
    /// lease, is named in the description first where other processes write, too.
    pub(super) async fn look(
        &self,
        id: &UploadId,
        writer: Option<(&Session, Fence)>,
    ) -> Result<Standing> {
        let Some(mut located) = self.locate(id).await? else {
            return Err(StoreError::NotFound(id.clone()));
        };
        if let Some(reason) = &located.info.damaged {
            return Err(damaged(id, reason.clone()));
        }
        if let (true, Some((session, fence))) = (self.options.shared, writer) {
            self.claim(&mut located, session, fence).await?;
        }
        self.stand(located).await
    }

    async fn stand(&self, located: Located) -> Result<Standing> {
        let Located {
            info,
            etag,
            object,
            modified,
            writer,
        } = located;
        let id = info.upload.id.clone();
        let noted = info.extensions.get(PLAN).map_or("", String::as_str);
        let Some(plan) = Plan::parse(noted) else {
            return Err(damaged(&id, format!("its plan makes no sense: {noted:?}")));
        };
        let mut at = Standing {
            place: place_of(&self.layout, &object, &info),
            multipart: multipart_of(&info, &object),
            counted: Counted {
                next: 1,
                ..Counted::default()
            },
            rest: None,
            rest_counts: 0,
            complete: false,
            object_etag: None,
            info,
            etag,
            object,
            plan,
            modified,
            is_in_doubt: false,
        };
        let (parts, rest) = match &at.multipart {
            Some(multipart) => {
                let parts = self.list_parts(&id, &at.place, multipart);
                let rest = self.rest(&id, &at.object);
                futures_util::future::try_join(parts, rest).await?
            }
            None => (None, self.rest(&id, &at.object).await?),
        };
        match parts {
            Some(parts) => at.count_parts(&parts)?,
            None => {
                let had_multipart = at.multipart.take().is_some();
                if let Some(head) = self.whole_soon(&at, had_multipart).await? {
                    at.be_complete(&head);
                } else if had_multipart && !at.info.upload.is_final() {
                    // Aborted: by a termination that was cut short, or by a rule of the bucket.
                    return Err(StoreError::NotFound(id));
                }
            }
        }
        let (rest, settled) = rest.map(|found| (found.rest, found.writer)).unzip();
        at.is_in_doubt = match writer {
            None => false,
            Some(writer) if self.options.shared => settled.flatten() != Some(writer),
            Some(writer) => !self.is_own(&writer),
        };
        at.count_rest(rest);
        Ok(at)
    }

    /// All parts that are there; `None` if there is no such multipart upload.
    pub(super) async fn list_parts(
        &self,
        id: &UploadId,
        place: &Place,
        multipart: &str,
    ) -> Result<Option<Vec<Part>>> {
        let mut parts = Vec::new();
        let mut after = 0;
        loop {
            let page = match self.client.list_parts(place, multipart, after).await {
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

    /// The object `.part`, and where it says it begins.
    async fn rest(&self, id: &UploadId, object: &str) -> Result<Option<FoundRest>> {
        match self.client.head_object(&self.layout.part(object)).await {
            Ok(head) => {
                let start = head
                    .metadata
                    .get(START)
                    .and_then(|start| start.parse().ok());
                let rest = Rest {
                    start: start.unwrap_or_default(),
                    len: head.size,
                    etag: head.etag,
                    modified: head.modified,
                    has_start: start.is_some(),
                };
                let writer = head.metadata.get(SETTLED).cloned();
                Ok(Some(FoundRest { rest, writer }))
            }
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
            Err(error) => Err(failed(id, "looking for the rest", error)),
        }
    }

    /// [`Inner::whole`], with some patience where a multipart upload is gone: whoever completed it may
    /// have been killed just now, and a service needs not show both at the same moment.
    pub(super) async fn whole_soon(
        &self,
        at: &Standing,
        had_multipart: bool,
    ) -> Result<Option<ObjectHead>> {
        for wait in COMPLETIONS {
            let whole = self.whole(at, had_multipart).await?;
            if whole.is_some() || !had_multipart || at.info.upload.is_final() {
                return Ok(whole);
            }
            tokio::time::sleep(wait).await;
        }
        self.whole(at, had_multipart).await
    }

    /// The object itself, if all of it is there and it is this upload's.
    async fn whole(&self, at: &Standing, had_multipart: bool) -> Result<Option<ObjectHead>> {
        let (id, upload) = (at.id(), &at.info.upload);
        match self.client.head_object(&at.place).await {
            Ok(head) => {
                // The length of one that is being joined is what its parts will have.
                let length = upload.length.filter(|_| !upload.is_final());
                let right_size = length.is_none_or(|length| length == head.size);
                let owner = head.metadata.get(OWNER);
                let owned = had_multipart || owner.is_some_and(|owner| owner == id.as_str());
                Ok((right_size && owned).then_some(head))
            }
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
            Err(error) => Err(failed(id, "looking for the object", error)),
        }
    }

    /// Writes a description over the one with the entity tag `over`; `None`: there must be none yet.
    pub(super) async fn put_info(
        &self,
        info: &UploadInfo,
        object: &str,
        over: Option<&str>,
    ) -> Result<String> {
        let condition = match over {
            _ if !self.options.conditional_writes => Condition::None,
            Some(etag) => Condition::IfMatch(etag.to_owned()),
            None => Condition::IfAbsent,
        };
        let payload = self.hashed(info.encode());
        let headers = self.layout.own_headers("application/json");
        let place = self.layout.info(object);
        let put = self.client.put_object(&place, payload, &headers, condition);
        put.await
            .map_err(|error| failed(&info.upload.id, "writing the description", error))
    }

    /// Writes `.part`: the bytes from `start` on. `has_settled` states that no part of this writer, or
    /// of one before it whose numbers it may use, is on its way.
    pub(super) async fn put_rest(
        &self,
        at: &Standing,
        start: u64,
        payload: Payload,
        has_settled: bool,
    ) -> Result<Rest> {
        let condition = match &at.rest {
            _ if !self.options.conditional_writes => Condition::None,
            Some(rest) => Condition::IfMatch(rest.etag.clone()),
            None => Condition::IfAbsent,
        };
        let len = payload.len();
        let mut headers = self.layout.own_headers("application/octet-stream");
        headers.metadata.insert(START.into(), start.to_string());
        if let (true, Some(writer)) = (has_settled, writer(&at.info)) {
            headers.metadata.insert(SETTLED.into(), writer.to_owned());
        }
        let place = self.layout.part(&at.object);
        let put = self.client.put_object(&place, payload, &headers, condition);
        let etag = put
            .await
            .map_err(|error| failed(at.id(), "keeping the rest", error))?;
        Ok(Rest {
            start,
            len,
            etag,
            modified: None,
            has_start: true,
        })
    }
}

/// Notes in the description that writing it is a change of the upload.
pub(super) fn note_change(info: &mut UploadInfo) {
    info.extensions.remove(CHANGED);
}

/// Notes in the description that writing it is no change of the upload.
pub(super) fn note_unchanged(located: &mut Located) {
    let changed = located.modified.duration_since(SystemTime::UNIX_EPOCH);
    let changed = changed.unwrap_or_default().as_millis().to_string();
    located.info.extensions.insert(CHANGED.into(), changed);
}

/// Notes the plan in the description.
pub(super) fn note_plan(info: &mut UploadInfo, plan: &Plan) {
    info.extensions.insert(PLAN.into(), plan.to_string());
}
