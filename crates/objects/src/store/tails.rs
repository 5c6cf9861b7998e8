//! The objects of incomplete parts, each written once by its writer. A later writer's count before an earlier one's.
//! A writer that takes over settles which of an earlier one counts, so that none that comes late makes an offset fall. Where
//! `.part` is overwritten and the service may lose it then, they are its copies. The parts are not known here.

use std::time::SystemTime;

use futures_util::future::try_join_all;
use landfall::{
    store::{Result, info::UploadInfo},
    upload::UploadId,
};

use super::{COMPLETION_POLL_DELAYS, During as _, Inner};
use crate::{ObjectRef, PART_WRITER, cloud::Cloud, if_exists};

/// Description extension: the writers whose incomplete parts may count, the last one last, separated by spaces.
const TAIL_WRITERS: &str = "Tails";
/// From this number on, writers without an incomplete part are forgotten.
const MAX_TAIL_WRITERS: usize = 8;
/// Metadata of an object: the offset of its first byte.
pub(super) const START_METADATA: &str = "landfall-start";
/// The beginning of the end of an object's name that shows where its writer took over.
const TAKEOVER: &str = "taken";

#[derive(Debug, Clone)]
pub(super) struct IncompletePart {
    pub(super) object: ObjectRef,
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) etag: String,
    pub(super) modified: Option<SystemTime>,
    pub(super) has_start: bool,
    pub(super) writer: Option<String>,
}

impl IncompletePart {
    pub(super) fn range(&self) -> (u64, u64) {
        (self.start, self.len)
    }
}

/// An object of an incomplete part.
#[derive(Debug)]
pub(super) struct Tail {
    /// The writer, as [`tail_name`] has it; empty: it is `.part`, or a copy of it.
    pub(super) writer: String,
    /// `None`: it has no bytes, and shows where its writer took over; of `.part` and its copies, the turn of the copy.
    pub(super) number: Option<u32>,
    /// The one that counted when its writer took over: a later one of an earlier writer is late.
    pub(super) accepted: Option<TailId>,
    pub(super) part: IncompletePart,
}

/// The writer and the number of a [`Tail`] with bytes.
pub(super) type TailId = (String, u32);

/// The name of a [`Tail`] below the folder of its upload.
struct TailName<'a> {
    writer: &'a str,
    start: u64,
    number: Option<u32>,
    accepted: Option<TailId>,
}

impl<'a> TailName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (writer, rest) = name.split_once('/')?;
        let (start, number) = rest.split_once('.')?;
        let (number, accepted) = match number.strip_prefix(TAKEOVER) {
            None => (Some(number.parse().ok()?), None),
            Some("") => (None, None),
            Some(accepted) => {
                let (number, writer) = accepted.strip_prefix('-')?.split_once('-')?;
                (None, Some((writer.to_owned(), number.parse().ok()?)))
            }
        };
        Some(Self {
            writer,
            start: start.parse().ok()?,
            number,
            accepted,
        })
    }
}

/// Returns the end of the name of an object that shows where its writer took over, and which incomplete part counts.
pub(super) fn takeover_name(accepted: Option<&TailId>) -> String {
    match accepted {
        Some((writer, number)) => format!("{TAKEOVER}-{number}-{writer}"),
        None => TAKEOVER.to_owned(),
    }
}

/// Returns whether a write of `.part` has not ended: its copy is written first, and stays until the write after the next.
pub(super) fn is_interrupted(tails: &[Tail]) -> bool {
    let (part, copies): (Vec<_>, _) = tails.iter().partition(|tail| tail.number.is_none());
    let last = copies.into_iter().map(|tail| tail.part.range()).max();
    // tusd writes no start.
    let is_last = |tail: &&Tail| !tail.part.has_start || Some(tail.part.range()) == last;
    last.is_some() && !part.iter().any(is_last)
}

/// Returns the writers whose incomplete parts may count, the last one last.
pub(super) fn tail_writers(info: &UploadInfo) -> Vec<String> {
    let writers = info.extensions.get(TAIL_WRITERS);
    let writers = writers.map_or("", String::as_str).split_whitespace();
    writers.map(str::to_owned).collect()
}

/// Returns the name of a writer in the keys of its incomplete parts.
pub(super) fn tail_name(writer: &str) -> String {
    writer.replace(':', "-")
}

/// Records the writers whose incomplete parts may count.
pub(super) fn set_tail_writers(info: &mut UploadInfo, writers: &[String]) {
    info.extensions
        .insert(TAIL_WRITERS.into(), writers.join(" "));
}

impl<C: Cloud> Inner<C> {
    /// Returns the upload that a listed object is an incomplete part of, where each is written once.
    pub(super) fn tail_owner(&self, key: &str) -> Option<UploadId> {
        let folder = self.layout.part("");
        let name = key
            .strip_prefix(&folder.key)
            .filter(|_| self.writes_once())?;
        // An id may have slashes.
        let (at, _) = name.rmatch_indices('/').nth(1)?;
        let (id, tail) = (name.get(..at)?, name.get(at + 1..)?);
        TailName::parse(tail)?;
        UploadId::new(id).ok()
    }

    /// Deletes the incomplete parts of an upload if it is complete: a process died before it could, or wrote one
    /// after another process had completed the upload.
    pub(super) async fn sweep_tails(&self, id: &UploadId) -> Result<()> {
        if self.load_for_listing(id).await?.is_complete() {
            let tails = self.list_tails(id, id.as_str()).await?;
            let tails = tails.into_iter().map(|tail| tail.part.object);
            self.delete_tails(tails.collect()).await;
        }
        Ok(())
    }

    /// Reads the description again if there is a writer that it did not name: another process has just taken over.
    pub(super) async fn learn_tail_writers(
        &self,
        info: &mut UploadInfo,
        tails: &[Tail],
    ) -> Result<()> {
        let writers = tail_writers(info);
        if tails.iter().any(|tail| !writers.contains(&tail.writer))
            && let Some(stored) = self.get_info(&info.upload.id).await?
            && let Some(writers) = stored.info.extensions.get(TAIL_WRITERS)
        {
            info.extensions.insert(TAIL_WRITERS.into(), writers.clone());
        }
        Ok(())
    }

    /// Forgets the writers that have no incomplete part, if there are many.
    pub(super) async fn forget_tail_writers(
        &self,
        info: &mut UploadInfo,
        object_id: &str,
    ) -> Result<()> {
        let mut writers = tail_writers(info);
        if !self.writes_once() || writers.len() < MAX_TAIL_WRITERS {
            return Ok(());
        }
        let tails = self.list_tails(&info.upload.id, object_id).await?;
        writers.retain(|writer| tails.iter().any(|tail| tail.writer == *writer));
        set_tail_writers(info, &writers);
        Ok(())
    }

    /// Returns whether each object of an incomplete part is written once, by its writer: so nothing that a
    /// process without the lease writes later counts, and a limit of the writes of one object does not matter.
    pub(super) fn writes_once(&self) -> bool {
        self.rules.implicit_multipart
    }

    pub(super) async fn find_tails(&self, id: &UploadId, object_id: &str) -> Result<Vec<Tail>> {
        if self.writes_once() {
            return self.list_tails(id, object_id).await;
        }
        let mut waits = COMPLETION_POLL_DELAYS.iter();
        loop {
            let mut objects = vec![self.layout.part(object_id)];
            objects.extend(self.copies(object_id).into_iter().flatten());
            let heads = objects.into_iter().zip(0_u32..);
            let heads = heads.map(|(object, n)| self.head_part(id, object, n));
            let tails: Vec<_> = try_join_all(heads).await?.into_iter().flatten().collect();
            match waits.next().filter(|_| is_interrupted(&tails)) {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Ok(tails),
            }
        }
    }

    /// Reads the metadata of `.part`, if `n` is 0, or else of a copy.
    async fn head_part(&self, id: &UploadId, object: ObjectRef, n: u32) -> Result<Option<Tail>> {
        let head = if_exists(self.client.head_object(&object).await);
        let Some(mut head) = head.during("reading the metadata of .part", id)? else {
            return Ok(None);
        };
        let start = head.metadata.remove(START_METADATA);
        let start = start.and_then(|start| start.parse().ok());
        let part = IncompletePart {
            object,
            start: start.unwrap_or_default(),
            len: head.size,
            etag: head.etag,
            modified: head.modified,
            has_start: start.is_some(),
            writer: head.metadata.remove(PART_WRITER),
        };
        Ok(Some(Tail {
            writer: String::new(),
            number: n.checked_sub(1),
            accepted: None,
            part,
        }))
    }

    /// Returns the objects of the copies of `.part`, where it has some.
    pub(super) fn copies(&self, object_id: &str) -> Option<[ObjectRef; 2]> {
        self.has_copies().then(|| self.layout.copies(object_id))
    }

    /// Returns whether `.part` is overwritten, and the service may lose an object then.
    pub(super) fn has_copies(&self) -> bool {
        !(self.options.safe_overwrites || self.options.conditional_writes || self.writes_once())
    }

    /// Lists the objects of incomplete parts where each is written once.
    pub(super) async fn list_tails(&self, id: &UploadId, object_id: &str) -> Result<Vec<Tail>> {
        let folder = self.layout.part(object_id);
        let prefix = format!("{}/", folder.key);
        let (mut tails, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .client
                .list_objects(&folder.bucket, &prefix, after, 1000);
            let page = page.await.during("listing the incomplete parts", id)?;
            for object in page.objects {
                // The id may be the beginning of another one.
                let name = object.key.strip_prefix(&prefix).and_then(TailName::parse);
                let Some(TailName {
                    writer,
                    start,
                    number,
                    accepted,
                }) = name
                else {
                    continue;
                };
                let part = IncompletePart {
                    object: ObjectRef::new(&folder.bucket, &object.key),
                    start,
                    len: object.size,
                    etag: object.etag,
                    modified: object.modified,
                    has_start: true,
                    writer: None,
                };
                let writer = writer.to_owned();
                tails.push(Tail {
                    writer,
                    number,
                    accepted,
                    part,
                });
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(tails),
            }
        }
    }
}
