//! What is done with direct uploads.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{HeaderMap, request::Parts};
use landfall::{
    BoxError, Handler, Outcome,
    direct::DirectUploads,
    event::EventKind,
    upload::{Snapshot, UploadId},
};
use landfall_grants::{Caller, Job, Queue};
use landfall_s3::client::{Part, TemporaryCredentials};
use tokio::sync::watch;

use crate::{Books, DirectError, DirectSettings, Record, Way};

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
    pub reply: landfall::hook::Reply,
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
    queue: Queue,
    books: Books,
    /// Set when the handler is there, which in turn knows this.
    handler: std::sync::OnceLock<Handler>,
}

impl Direct {
    /// Direct uploads whose jobs are in `queue`. Give it to the handler's
    /// [`Config::direct`](landfall::Config::direct), then the handler to [`Self::join`].
    #[must_use]
    pub fn new(settings: DirectSettings, queue: Queue, books: Books) -> Self {
        todo!()
    }

    /// Whose hooks are asked and whose sinks are told. Before this nothing can be opened.
    pub fn join(&self, handler: &Handler) {
        todo!()
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

    /// Checks what is asked for, reserves quota, asks the hooks, writes it down and, for a multipart
    /// upload, begins it. The same [`Asked::request_id`] (or the same grant) with the same words finds
    /// the upload that was opened before.
    ///
    /// # Cancel safety
    /// Dropped, it may have been opened; the sweeper removes what nobody uses.
    pub async fn open(
        &self,
        who: &Who,
        asked: Asked,
        request: &mut Parts,
    ) -> Result<Arc<Record>, DirectError> {
        todo!()
    }

    /// The handler that it was [joined](Self::join) to.
    #[must_use]
    pub fn handler(&self) -> Option<&Handler> {
        self.0.handler.get()
    }

    /// The caller's upload that it calls so ([`Asked::request_id`]).
    pub async fn by_request(
        &self,
        who: &Who,
        request_id: &str,
    ) -> Result<Arc<Record>, DirectError> {
        todo!()
    }

    /// The key in a [public address](Self::location), or in a signed one; `None` if it leads elsewhere.
    #[must_use]
    pub fn key_of(&self, url: &str) -> Option<String> {
        todo!()
    }

    /// What the keys begin with that a caller may choose itself.
    #[must_use]
    pub fn own_prefix(&self, subject: &str) -> String {
        todo!()
    }

    /// The URL of a request that a client makes itself on its own upload. Completing is signed only
    /// after a look at what S3 has.
    pub async fn sign(&self, record: &Record, act: Act) -> Result<String, DirectError> {
        todo!()
    }

    /// Temporary credentials for [the caller's own keys](Self::own_prefix). [`DirectError::NotFound`]
    /// if nobody is to have any.
    pub async fn credentials(&self, who: &Who) -> Result<OwnCredentials, DirectError> {
        todo!()
    }

    /// The caller's upload at a key, and with this multipart upload if one is named. Remembered for a
    /// while, so that signing parts costs no look at the books. In Uppy's signer mode the key may be as
    /// the client wanted it, and the multipart upload one that it has just begun itself: then S3 is
    /// asked for it, and it is written down.
    pub async fn find(
        &self,
        who: &Who,
        key: &str,
        multipart: Option<&str>,
    ) -> Result<Arc<Record>, DirectError> {
        todo!()
    }

    /// The presigned PUT of an upload: type, size (if known) and what else must not differ are signed.
    /// `pin_type` is off for clients that send a type nobody was told of (Uppy's signer mode).
    pub async fn put(
        &self,
        record: &Record,
        lifetime: Duration,
        pin_type: bool,
    ) -> Result<SignedPut, DirectError> {
        todo!()
    }

    /// The signed form of an upload, which bounds its size.
    pub async fn form(&self, record: &Record) -> Result<Form, DirectError> {
        todo!()
    }

    /// The URL to PUT a part to. Nothing is asked of S3 or the books.
    pub async fn part(&self, record: &Record, number: u32) -> Result<String, DirectError> {
        todo!()
    }

    /// The parts that S3 has.
    pub async fn parts(&self, record: &Record) -> Result<Vec<Part>, DirectError> {
        todo!()
    }

    /// What its client says of how far it got: shown, never believed.
    pub async fn progress(&self, record: &Record, sent: u64) -> Result<(), DirectError> {
        todo!()
    }

    /// Completes a multipart upload of these parts (number and entity tag), after a look at what S3
    /// has; asked again, says the same again.
    pub async fn complete(
        &self,
        record: &Record,
        parts: &[(u32, String)],
        request: &mut Parts,
    ) -> Result<Complete, DirectError> {
        todo!()
    }

    /// Looks whether the object of an upload is there, makes sure of it, and completes it: once,
    /// whoever asks first. `request` is that of a client that says so; `None` for notifications and
    /// the sweeper.
    pub async fn check(
        &self,
        record: &Record,
        request: Option<&mut Parts>,
    ) -> Result<Complete, DirectError> {
        todo!()
    }

    /// The bucket says that there is something at a key: see [`Self::check`]. Says whether that
    /// concerned anything.
    pub async fn notified(&self, bucket: &str, key: &str) -> Result<bool, DirectError> {
        todo!()
    }

    /// Its client doesn't want it any more: what there is of it goes.
    pub async fn cancel(&self, record: &Record, request: &mut Parts) -> Result<(), DirectError> {
        todo!()
    }

    /// Looks at those that are due: notes progress, completes what has arrived, removes what is too
    /// large, expires what nobody goes on with.
    pub async fn sweep(&self) -> Result<Swept, DirectError> {
        todo!()
    }

    /// [Sweeps](Self::sweep) again and again, until `stop` is true.
    pub async fn sweep_forever(&self, stop: watch::Receiver<bool>) {
        todo!()
    }

    /// The public address of an object.
    #[must_use]
    pub fn location(&self, record: &Record) -> String {
        todo!()
    }
}

#[async_trait]
impl DirectUploads for Direct {
    fn owns(&self, id: &UploadId) -> bool {
        todo!()
    }

    async fn look(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError> {
        todo!()
    }

    async fn remove(&self, id: &UploadId) -> Result<bool, BoxError> {
        todo!()
    }

    async fn settle(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Outcome, BoxError> {
        todo!()
    }
}
