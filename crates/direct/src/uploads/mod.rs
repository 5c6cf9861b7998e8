//! What is done with direct uploads.

mod apply;
mod begin;
mod complete;
mod decide;
mod find;
mod given;
mod hold;
mod keep;
mod key;
mod leave;
mod observe;
mod open;
mod part_set;
mod parts;
mod remove;
mod request;
mod schedule;
mod sign;
mod sts;
mod sweep;
mod wish;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::HeaderMap;
use landfall::{Handler, direct::HookDispatcher, hook::ClientResponse};
use landfall_grants::{Caller, Job, Queue};
use landfall_s3::{Layout, client::TemporaryCredentials};

use self::{find::RecordCache, parts::ProgressThrottle};
use crate::{Books, DirectError, DirectSettings, Record, Way};

/// What is noted in a description's `storage`: the object that was at its key before, …
const REPLACES: &str = "Replaces";
/// … the types that are welcome, where the type isn't signed, …
const TYPES: &str = "Types";
/// … which parts make up the file, if not all, while it is being completed, …
const PARTS: &str = "Parts";
/// … that its client has a signature to complete it in S3.
const COMPLETES: &str = "Completes";

/// How often a change of a record is tried that others have changed meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// Somebody who is known, and may ask for uploads.
    Caller(Caller),
    /// Somebody with the token of this job: may make its one upload.
    Grant(Box<Job>),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Asked {
    /// How its bytes are to get to S3.
    pub way: Way,
    /// The file's name.
    pub filename: String,
    /// The file's type.
    pub filetype: Option<String>,
    /// Its length in bytes, if known.
    pub size: Option<u64>,
    /// What else was said of it.
    pub metadata: BTreeMap<String, String>,
    /// The caller's own id for it; one is made up if there is none.
    pub request_id: Option<String>,
    /// The key that the client wants, which is then put below the caller's own: Uppy's signer mode.
    pub key: Option<String>,
}

impl Asked {
    /// A file of which nothing more is known.
    #[must_use]
    pub fn new(way: Way, filename: impl Into<String>) -> Self {
        Self {
            way,
            filename: filename.into(),
            filetype: None,
            size: None,
            metadata: BTreeMap::new(),
            request_id: None,
            key: None,
        }
    }
}

/// A presigned PUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPut {
    /// Where to.
    pub url: String,
    /// What must be sent along as it is. Browsers send Content-Length by themselves.
    pub headers: HeaderMap,
    /// How long it may be begun.
    pub lifetime: Duration,
}

/// A form with a signed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Where to, with a slash at its end.
    pub url: String,
    /// The fields, in this order; `file` comes last.
    pub fields: Vec<(String, String)>,
    /// How long it may be begun.
    pub lifetime: Duration,
}

/// An upload that is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Complete {
    /// What it is.
    pub record: Record,
    /// Its public address.
    pub location: String,
    /// Its entity tag, with its quotes.
    pub etag: String,
    /// Its length in bytes.
    pub size: u64,
    /// What hooks want its client to be told.
    pub reply: ClientResponse,
}

/// What a client does itself on S3 with its own upload, by a signed request (Uppy's signer mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Begins its multipart upload.
    Begin,
    /// Uploads a part of it.
    Part(u32),
    /// Lists its parts.
    List,
    /// Completes it.
    Complete,
    /// Drops it.
    Abort,
}

/// Temporary credentials for the keys of one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCredentials {
    /// The credentials.
    pub credentials: TemporaryCredentials,
    /// The bucket that they are good for.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// What the keys that they are good for begin with.
    pub prefix: String,
}

/// What came of a look at what is due, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Looked at.
    pub seen: u64,
    /// Found to be complete.
    pub completed: u64,
    /// Given up, for nothing came.
    pub expired: u64,
    /// Ended for another reason: too large, gone from S3.
    pub failed: u64,
    /// Of which nothing could be found out.
    pub unknown: u64,
}

/// Direct uploads into one bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Direct(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: DirectSettings,
    layout: Layout,
    queue: Queue,
    books: Books,
    /// Set when the handler is there, which in turn knows this.
    handler: OnceLock<Handler>,
    /// Records that requests found lately.
    cache: RecordCache,
    /// Uploads whose progress was emitted lately.
    throttle: ProgressThrottle,
}

impl Direct {
    /// Direct uploads whose jobs are in `queue`. Give it to the handler's
    /// [`Config::direct`](landfall::Config::direct), then the handler to [`Self::join`].
    #[must_use]
    pub fn new(settings: DirectSettings, queue: Queue, books: Books) -> Self {
        Self(Arc::new(Inner {
            layout: Layout::new(&settings.objects),
            settings,
            queue,
            books,
            handler: OnceLock::new(),
            cache: RecordCache::default(),
            throttle: ProgressThrottle::default(),
        }))
    }

    /// Whose hooks are asked and whose sinks are told. Before this nothing can be opened. The first one
    /// stays.
    pub fn join(&self, handler: &Handler) {
        let _ = self.0.handler.set(handler.clone());
    }

    /// How it behaves.
    #[must_use]
    pub fn settings(&self) -> &DirectSettings {
        &self.0.settings
    }

    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    /// The handler that it was [joined](Self::join) to.
    #[must_use]
    pub fn handler(&self) -> Option<&Handler> {
        self.0.handler.get()
    }

    fn audience(&self) -> Result<HookDispatcher, DirectError> {
        let handler = self.handler();
        let none = || DirectError::Fault("direct uploads aren't joined to a handler yet".into());
        Ok(handler.ok_or_else(none)?.hook_dispatcher())
    }
}
