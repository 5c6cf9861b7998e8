//! Messages: blocking hook calls and events, independent of the transport.

mod headers;
mod intent;
mod job;
mod names;
pub mod rfc3339;

use std::{borrow::Cow, collections::BTreeMap, time::SystemTime};

use landfall::{
    event::{Event, EventKind},
    hook::{Access, Intent, RequestInfo},
    upload::{Upload, UploadId, UploadKind},
};
use serde::{Deserialize, Serialize};

use self::headers::canonical;
pub use self::{
    headers::{EventHeaders, RedactedHeaders, contains_secret},
    job::JobData,
    names::{HookName, HookNames, UnknownName},
};

/// A blocking hook call or an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The id, 32 hexadecimal digits, which is the idempotency key for receivers.
    ///
    /// The same for each delivery attempt, and for a completion that is reported again after a crash.
    pub id: String,
    /// The sequence number. Of two messages about one upload, the later has the larger number; job events are
    /// numbered separately.
    pub sequence: u64,
    /// The time of the call or event.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// The name.
    pub hook: HookName,
    /// The requested operation, in [`HookName::PreAccess`] only.
    #[serde(default, with = "intent", skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// The upload. [`HookName::PreAccess`] has only its id, or an empty id for a creation.
    pub upload: UploadData,
    /// The request that caused the message; empty fields if there was none.
    pub request: RequestData,
    /// The job, in [`HookName::PreGrant`] and job events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobData>,
    /// The trace that the message belongs to, if requests are traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

/// A [W3C trace context](https://www.w3.org/TR/trace-context/), which transports pass on.
///
/// A message takes it from the [extensions](RequestInfo::extensions) of its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The value of `traceparent`.
    pub parent: String,
    /// The value of `tracestate`, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// An upload: tusd's fields, and labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UploadData {
    /// The upload id; empty before creation.
    pub id: String,
    /// The creation time; `None` for an upload of another program.
    #[serde(with = "rfc3339::option")]
    pub created: Option<SystemTime>,
    /// The length in bytes; `None` while deferred.
    pub size: Option<u64>,
    /// The offset: bytes stored, or in [`HookName::PostReceive`] bytes received.
    pub offset: u64,
    /// The metadata. Each byte that is not valid UTF-8 becomes U+FFFD.
    pub metadata: BTreeMap<String, String>,
    /// Set for a partial upload.
    pub is_partial: bool,
    /// Set for a final upload.
    pub is_final: bool,
    /// The ids of the partial uploads of a final upload.
    pub parts: Option<Vec<String>>,
    /// The storage location; `None` before creation.
    pub storage: Option<BTreeMap<String, String>>,
    /// The labels that hooks set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestData {
    /// The HTTP method as received.
    pub method: String,
    /// The request target as received.
    pub uri: String,
    /// The peer's address, `ip:port`; `@` on a UNIX socket.
    pub remote: String,
    /// The headers, with names in Go's canonical spelling (`Upload-Length`), including `Host`.
    ///
    /// Each byte that is not valid UTF-8 becomes U+FFFD.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Headers that are neither serialized nor shown. Transports can still forward them, and one that
    /// [names](crate::Transport::event_headers) them gets them with events.
    #[serde(skip)]
    pub redacted: RedactedHeaders,
}

impl UploadData {
    /// Returns the data of an upload at `offset`.
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
            storage: Some((*upload.storage).clone()).filter(|storage| !storage.is_empty()),
            labels: upload.labels.clone(),
        }
    }
}

impl RequestData {
    /// Returns the data of a request, with all headers except those with an API key or upload token of
    /// Landfall.
    pub fn new(request: &RequestInfo) -> Self {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &request.headers {
            let value = text(value.as_bytes());
            if !contains_secret(&value) {
                let values = headers.entry(canonical(name.as_str()));
                values.or_default().push(value);
            }
        }
        // HTTP/2 has `:authority` instead.
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
            redacted: RedactedHeaders::default(),
        }
    }

    /// Returns the data of a request for events: headers outside the built-in list are
    /// [redacted](Self::redacted) if they are named, and omitted otherwise.
    pub fn for_event(request: &RequestInfo, named: &EventHeaders) -> Self {
        Self::new(request).with_headers_of(named)
    }

    fn with_headers_of(mut self, named: &EventHeaders) -> Self {
        let given = std::mem::take(&mut self.headers);
        self.redacted = RedactedHeaders::default();
        for (name, mut values) in given {
            let is_public = |value: &String| headers::is_public(&name, value);
            if named.names(&name) && !values.iter().all(is_public) {
                self.redacted.0.insert(name, values);
                continue;
            }
            values.retain(is_public);
            if !values.is_empty() {
                self.headers.insert(name, values);
            }
        }
        self
    }

    /// Moves headers to [`redacted`](Self::redacted), by their names in any spelling.
    #[must_use]
    pub fn redact(mut self, names: &[&str]) -> Self {
        for name in names {
            if let Some((name, values)) = self.headers.remove_entry(&canonical(name)) {
                self.redacted.0.insert(name, values);
            }
        }
        self
    }

    /// Returns the first value of a header, redacted or not, by its name in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).first().map(String::as_str)
    }

    /// Returns all values of a header, redacted or not, by its name in any spelling.
    pub fn values(&self, name: &str) -> &[String] {
        let name = canonical(name);
        let values = self.headers.get(&name);
        let values = values.or_else(|| self.redacted.0.get(&name));
        values.map_or(&[], Vec::as_slice)
    }
}

impl Message {
    fn new(hook: HookName, at: SystemTime, upload: UploadData, id: MessageId) -> Self {
        Self {
            id: id.id,
            sequence: id.sequence,
            at,
            hook,
            intent: None,
            upload,
            request: RequestData::default(),
            job: None,
            trace: None,
        }
    }

    /// Returns the headers of the [trace context](Self::trace).
    pub fn trace_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let trace = self.trace.as_ref();
        let parent = trace.map(|trace| ("traceparent", trace.parent.as_str()));
        let state = trace.and_then(|trace| Some(("tracestate", trace.state.as_deref()?)));
        parent.into_iter().chain(state)
    }

    /// Creates the message of a blocking hook for an upload.
    pub fn blocking(
        hook: HookName,
        request: &RequestInfo,
        upload: &Upload,
        offset: u64,
        id: MessageId,
    ) -> Self {
        let mut upload = UploadData::new(upload, offset);
        if hook == HookName::PreCreate {
            // Neither exists before creation.
            upload.id.clear();
            upload.storage = None;
        }
        Self {
            request: RequestData::new(request),
            trace: request.extensions.get().cloned(),
            ..Self::new(hook, SystemTime::now(), upload, id)
        }
    }

    /// Creates the message of `pre-access`.
    pub fn access(request: &RequestInfo, access: &Access, id: MessageId) -> Self {
        let upload = UploadData {
            id: access.id.as_ref().map_or("", UploadId::as_str).to_owned(),
            ..UploadData::default()
        };
        Self {
            intent: Some(access.intent),
            request: RequestData::new(request),
            trace: request.extensions.get().cloned(),
            ..Self::new(HookName::PreAccess, SystemTime::now(), upload, id)
        }
    }

    /// Creates the message of an event, with the request headers of the built-in list and those that are named.
    pub fn event(event: &Event, named: &EventHeaders) -> Self {
        let id = MessageId {
            id: event.id(),
            sequence: event.sequence,
        };
        let upload = UploadData::new(&event.upload, event.offset);
        let request = event.request.as_deref();
        Self {
            trace: request.and_then(|request| request.extensions.get().cloned()),
            request: request.map_or_else(RequestData::default, |request| {
                RequestData::for_event(request, named)
            }),
            ..Self::new(HookName::from_kind(event.kind), event.at, upload, id)
        }
    }

    /// Creates the message of `pre-grant` or of a job event. Without an upload, the id in `upload` is empty.
    pub fn about_job(
        hook: HookName,
        at: SystemTime,
        job: JobData,
        upload: UploadData,
        id: MessageId,
    ) -> Self {
        Self {
            job: Some(job),
            ..Self::new(hook, at, upload, id)
        }
    }

    /// Returns the message of an event for a transport, with the redacted headers that it names alone.
    pub fn naming(&self, named: &EventHeaders) -> Cow<'_, Self> {
        if self.request.redacted.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut message = self.clone();
        let redacted = std::mem::take(&mut message.request.redacted);
        message.request.headers.extend(redacted.of(named).0);
        Cow::Owned(message)
    }

    /// Returns the message for a redirect to another origin, without sensitive headers.
    pub fn for_other_origin(&self) -> Self {
        let mut message = self.clone();
        message.request = message.request.with_headers_of(&EventHeaders::default());
        message
    }

    /// Returns the ordering key: messages with the same key are delivered in order.
    ///
    /// The upload id, or `job:` and the job number for job events, which may precede the upload.
    pub fn ordering_key(&self) -> Cow<'_, str> {
        match &self.job {
            Some(job) if !job.id.is_empty() => format!("job:{}", job.id).into(),
            _ => self.upload.id.as_str().into(),
        }
    }

    /// Returns the CloudEvents subject.
    ///
    /// The upload id, or `job/` and the request id while the job has no upload; empty in `pre-create`.
    pub fn subject(&self) -> Cow<'_, str> {
        match &self.job {
            Some(job) if self.upload.id.is_empty() => format!("job/{}", job.request_id).into(),
            _ => self.upload.id.as_str().into(),
        }
    }
}

/// The id and sequence number of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId {
    /// See [`Message::id`].
    pub id: String,
    /// See [`Message::sequence`].
    pub sequence: u64,
}

impl MessageId {
    /// Creates a random id.
    pub fn random() -> Self {
        Self::with_id(format!("{:032x}", rand::random::<u128>()))
    }

    /// Creates an id with the next sequence number.
    pub fn with_id(id: String) -> Self {
        Self {
            id,
            sequence: Event::next_sequence(),
        }
    }
}

impl HookName {
    /// Returns the name of an event kind.
    pub const fn from_kind(kind: EventKind) -> Self {
        match kind {
            EventKind::Created => Self::PostCreate,
            EventKind::Progress => Self::PostReceive,
            EventKind::Completed => Self::PostFinish,
            EventKind::Terminated => Self::PostTerminate,
            EventKind::Expired => Self::PostExpire,
        }
    }
}

/// Each byte that is not valid UTF-8 becomes U+FFFD.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}
