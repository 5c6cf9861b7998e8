//! What the application hears: a question or an event, whichever way it travels.

mod event_headers;
mod job;
mod names;

use std::{borrow::Cow, collections::BTreeMap, time::SystemTime};

use landfall::{
    event::{Event, EventKind, next_sequence},
    hook::{Access, Intent, RequestInfo},
    upload::{Upload, UploadKind},
};
use serde::{Deserialize, Serialize};

pub use self::{
    event_headers::EventHeaders,
    job::JobFacts,
    names::{HookName, HookNames, UnknownName},
};

/// A question or an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// 32 hexadecimal digits. The same however often it is delivered; what is asked or told about the
    /// same thing again (a completion after a crash) has the same id too.
    pub id: String,
    /// Of two messages about one upload the later has the larger number; events of the queue are
    /// counted apart.
    pub sequence: u64,
    /// When it was asked or happened.
    pub at: SystemTime,
    /// What it is.
    pub hook: HookName,
    /// What the request wants, if it is [`HookName::PreAccess`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Wish>,
    /// The upload. In [`HookName::PreAccess`] only its id is known, in that of a creation not even that.
    pub upload: UploadFacts,
    /// The request in which it came about; empty fields if no request caused it.
    pub request: RequestFacts,
    /// The job, if it is about one: [`HookName::PreGrant`] and the events of the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobFacts>,
}

/// [`Intent`] as it is kept and sent: its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the intent of that name")]
pub enum Wish {
    Create,
    Write,
    Inspect,
    Read,
    Terminate,
    Concatenate,
}

impl Wish {
    /// Its name: `create`, `write`, `inspect`, `read`, `terminate` or `concatenate`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => Intent::Create,
            Self::Write => Intent::Write,
            Self::Inspect => Intent::Inspect,
            Self::Read => Intent::Read,
            Self::Terminate => Intent::Terminate,
            Self::Concatenate => Intent::Concatenate,
        }
        .as_str()
    }
}

impl From<Intent> for Wish {
    fn from(intent: Intent) -> Self {
        match intent {
            Intent::Create => Self::Create,
            Intent::Write => Self::Write,
            Intent::Inspect => Self::Inspect,
            Intent::Read => Self::Read,
            Intent::Terminate => Self::Terminate,
            Intent::Concatenate => Self::Concatenate,
        }
    }
}

/// An upload as the application hears of it; the fields are tusd's, and labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UploadFacts {
    /// Its id; empty before it is created.
    pub id: String,
    /// When it was created; `None` for one that another program made.
    pub created: Option<SystemTime>,
    /// Its length in bytes; `None` while deferred.
    pub size: Option<u64>,
    /// Bytes stored; in [`HookName::PostReceive`] bytes received.
    pub offset: u64,
    /// Its metadata; bytes that are no UTF-8 become U+FFFD, one for each.
    pub metadata: BTreeMap<String, String>,
    /// Whether it is a piece that will be joined with others.
    pub is_partial: bool,
    /// Whether it is joined from others.
    pub is_final: bool,
    /// The others, if it is.
    pub parts: Option<Vec<String>>,
    /// Where the store keeps it; `None` before it is created.
    pub storage: Option<BTreeMap<String, String>>,
    /// What hooks noted about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A request as the application hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestFacts {
    /// The method on the wire.
    pub method: String,
    /// The request target on the wire.
    pub uri: String,
    /// The peer's address, `ip:port`; `@` on a UNIX socket.
    pub remote: String,
    /// The headers by their names in Go's spelling (`Upload-Length`, `X-Request-Id`), `Host` among
    /// them; bytes that are no UTF-8 become U+FFFD.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Headers that the application only gets where its settings name them to be forwarded; they are
    /// not in the body of a message, and not kept.
    #[serde(skip)]
    pub withheld: BTreeMap<String, Vec<String>>,
}

impl UploadFacts {
    /// What is said of an upload that has `offset` bytes.
    #[must_use]
    pub fn new(upload: &Upload, offset: u64) -> Self {
        let metadata = upload.metadata.iter();
        Self {
            id: upload.id.as_str().to_owned(),
            created: upload.created,
            size: upload.length,
            offset,
            metadata: metadata
                .map(|(key, value)| (key.to_owned(), text(value)))
                .collect(),
            is_partial: upload.kind == UploadKind::Partial,
            is_final: upload.is_final(),
            parts: match &upload.kind {
                UploadKind::Final { parts, .. } => {
                    Some(parts.iter().map(|id| id.as_str().to_owned()).collect())
                }
                _ => None,
            },
            storage: Some(upload.storage.clone()).filter(|storage| !storage.is_empty()),
            labels: upload.labels.clone(),
        }
    }
}

impl RequestFacts {
    /// What is said of a request.
    #[must_use]
    pub fn new(request: &RequestInfo) -> Self {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &request.headers {
            headers
                .entry(canonical(name.as_str()))
                .or_default()
                .push(text(value.as_bytes()));
        }
        // HTTP/2 has it elsewhere.
        if let Some(authority) = request.uri.authority() {
            headers
                .entry("Host".into())
                .or_insert_with(|| vec![authority.as_str().to_owned()]);
        }
        let target = request.uri.path_and_query();
        Self {
            method: request.method.as_str().to_owned(),
            uri: target.map_or_else(String::new, |target| target.as_str().to_owned()),
            remote: request.remote.clone(),
            headers,
            withheld: BTreeMap::new(),
        }
    }

    /// The facts of a request with the headers that events may carry.
    #[must_use]
    pub fn for_event(request: &RequestInfo, allowed: &EventHeaders) -> Self {
        Self::new(request).with_headers_of(allowed)
    }

    /// Removes all headers that events may not carry.
    pub(crate) fn with_headers_of(mut self, allowed: &EventHeaders) -> Self {
        self.withheld.clear();
        self.headers.retain(|name, values| {
            values.retain(|value| allowed.allows(name, value));
            !values.is_empty()
        });
        self
    }

    /// Withholds headers, by their names in any spelling.
    #[must_use]
    pub fn withhold(mut self, names: &[&str]) -> Self {
        for name in names {
            if let Some((name, values)) = self.headers.remove_entry(&canonical(name)) {
                self.withheld.insert(name, values);
            }
        }
        self
    }

    /// The first value of a header, withheld or not, by its name in any spelling.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).first().map(String::as_str)
    }

    /// All values of a header, withheld or not, by its name in any spelling.
    #[must_use]
    pub fn values(&self, name: &str) -> &[String] {
        let name = canonical(name);
        let values = self.headers.get(&name);
        let values = values.or_else(|| self.withheld.get(&name));
        values.map_or(&[], Vec::as_slice)
    }
}

impl Message {
    /// A question about an upload.
    #[must_use]
    pub fn question(
        hook: HookName,
        request: &RequestInfo,
        upload: &Upload,
        offset: u64,
        number: Number,
    ) -> Self {
        let mut facts = UploadFacts::new(upload, offset);
        if hook == HookName::PreCreate {
            // It has none of the two before it is created.
            facts.id.clear();
            facts.storage = None;
        }
        Self {
            id: number.id,
            sequence: number.sequence,
            at: SystemTime::now(),
            hook,
            intent: None,
            upload: facts,
            request: RequestFacts::new(request),
            job: None,
        }
    }

    /// The question whether a request may touch an upload.
    #[must_use]
    pub fn access(request: &RequestInfo, access: &Access<'_>, number: Number) -> Self {
        let mut facts = UploadFacts::default();
        if let Some(id) = access.id {
            id.as_str().clone_into(&mut facts.id);
        }
        Self {
            id: number.id,
            sequence: number.sequence,
            at: SystemTime::now(),
            hook: HookName::PreAccess,
            intent: Some(access.intent.into()),
            upload: facts,
            request: RequestFacts::new(request),
            job: None,
        }
    }

    /// An event, with those headers of its request that are allowed in events.
    #[must_use]
    pub fn event(event: &Event, allowed: &EventHeaders) -> Self {
        let request = event.request.as_deref();
        let request = request.map(|request| RequestFacts::for_event(request, allowed));
        Self {
            id: event.id(),
            sequence: event.sequence,
            at: event.at,
            hook: HookName::of(event.kind),
            intent: None,
            upload: UploadFacts::new(&event.upload, event.offset),
            request: request.unwrap_or_default(),
            job: None,
        }
    }

    /// A question or an event about a job. `upload` is what is known of its upload, whose id is empty
    /// while there is none.
    #[must_use]
    pub fn about_job(
        hook: HookName,
        at: SystemTime,
        job: JobFacts,
        upload: UploadFacts,
        number: Number,
    ) -> Self {
        Self {
            id: number.id,
            sequence: number.sequence,
            at,
            hook,
            intent: None,
            upload,
            request: RequestFacts::default(),
            job: Some(job),
        }
    }

    /// The message as another origin may have it, where a redirect leads to one: only with headers
    /// that events may carry.
    #[cfg(feature = "http")]
    pub(crate) fn for_other_origin(&self) -> Self {
        let mut message = self.clone();
        message.request = message.request.with_headers_of(&EventHeaders::default());
        message
    }

    /// What it is about: messages with the same one are delivered one after the other. The upload's
    /// id; of an event of the queue `job:` and the job's number, since it may come before an upload.
    #[must_use]
    pub fn lane(&self) -> Cow<'_, str> {
        match &self.job {
            Some(job) if !job.id.is_empty() => format!("job:{}", job.id).into(),
            _ => self.upload.id.as_str().into(),
        }
    }

    /// What people call what it is about: the upload's id, or `job/` and the caller's id of the job
    /// while there is no upload; empty for an upload that isn't created.
    #[must_use]
    pub fn subject(&self) -> Cow<'_, str> {
        match &self.job {
            Some(job) if self.upload.id.is_empty() => format!("job/{}", job.request_id).into(),
            _ => self.upload.id.as_str().into(),
        }
    }
}

/// The id and the place in the order of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// See [`Message::id`].
    pub id: String,
    /// See [`Message::sequence`].
    pub sequence: u64,
}

impl Number {
    /// For a question that is asked once.
    #[must_use]
    pub fn unique() -> Self {
        Self::named(format!("{:032x}", rand::random::<u128>()))
    }

    /// For a question with this id.
    #[must_use]
    pub fn named(id: String) -> Self {
        Self {
            id,
            sequence: next_sequence(),
        }
    }
}

impl HookName {
    /// The message about an event of this kind.
    #[must_use]
    pub const fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::Created => Self::PostCreate,
            EventKind::Progress => Self::PostReceive,
            EventKind::Completed => Self::PostFinish,
            EventKind::Terminated => Self::PostTerminate,
            EventKind::Expired => Self::PostExpire,
        }
    }
}

/// Bytes as text; each that is no UTF-8 becomes U+FFFD.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}

/// A header's name as Go spells it: each word with a capital.
fn canonical(name: &str) -> String {
    let mut upper = true;
    let spell = |c: char| {
        let spelled = if upper {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        };
        upper = c == '-';
        spelled
    };
    name.chars().map(spell).collect()
}
