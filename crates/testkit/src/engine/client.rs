//! A tus client without a network, which calls the handler directly, for the checks of the engine.
//!
//! It panics if a response does not have the expected form, or if one to a request without a body takes 10 seconds.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header::HeaderName};
use http_body::{Body, Frame};
use landfall::{
    Handler,
    service::RequestBodyError,
    upload::{Metadata, UploadId},
};
use tokio::sync::mpsc;

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Response {
    /// Omits the time of expiry.
    pub(crate) fn state(&self) -> Vec<(&'static str, String)> {
        const NAMES: [&str; 5] = [
            "upload-offset",
            "upload-length",
            "upload-defer-length",
            "upload-expires",
            "upload-concat",
        ];
        let fields = NAMES.into_iter().filter_map(|name| {
            let value = self.headers.get(name)?.to_str().ok()?;
            let is_time = name == "upload-expires";
            let value = if is_time { "some time" } else { value };
            Some((name, value.to_owned()))
        });
        fields.collect()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn id(&self) -> UploadId {
        let location = self.headers.get("location");
        let id = location.and_then(|path| path.to_str().ok()?.rsplit_once("/files/"));
        let id = id.and_then(|(_, id)| UploadId::new(&id.replace("%2B", "+")).ok());
        id.unwrap_or_else(|| panic!("no id of an upload: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }
}

pub(crate) struct SentBody(mpsc::UnboundedReceiver<Bytes>);

impl Body for SentBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let data = self.0.poll_recv(cx);
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

pub(crate) async fn send(
    handler: &Handler,
    method: Method,
    path: &str,
    fields: &[(HeaderName, String)],
    body: SentBody,
) -> Response {
    let request = Request::builder().method(method).uri(path);
    let mut request = request.header("tus-resumable", "1.0.0");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let response = handler.handle(request.body(body).expect("a request")).await;
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.expect("a response that is not cut");
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    Response {
        status: parts.status,
        headers: parts.headers,
        bytes,
    }
}

pub(crate) fn body(bytes: Bytes) -> SentBody {
    let (sender, body) = open_body();
    if !bytes.is_empty() {
        let _ = sender.send(bytes);
    }
    body
}

pub(crate) fn open_body() -> (mpsc::UnboundedSender<Bytes>, SentBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, SentBody(receiver))
}

const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const DEFER: HeaderName = HeaderName::from_static("upload-defer-length");
const CONCAT: HeaderName = HeaderName::from_static("upload-concat");

fn content(length: u64) -> [(HeaderName, String); 2] {
    let media_type = "application/offset+octet-stream".to_owned();
    [
        (http::header::CONTENT_TYPE, media_type),
        (http::header::CONTENT_LENGTH, length.to_string()),
    ]
}

async fn post(handler: &Handler, fields: &[(HeaderName, String)], bytes: Bytes) -> Response {
    send(handler, Method::POST, "/files/", fields, body(bytes)).await
}

/// A creation that can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Creation {
    pub(crate) length: u64,
    concat: Option<String>,
    metadata: Vec<(&'static str, String)>,
    content: Bytes,
}

impl Creation {
    pub(crate) fn of(length: u64) -> Self {
        Self {
            length,
            concat: None,
            metadata: Vec::new(),
            content: Bytes::new(),
        }
    }

    pub(crate) fn joining(parts: &[UploadId]) -> Self {
        let parts: Vec<_> = parts.iter().map(|part| format!("/files/{part}")).collect();
        Self::of(0).concat(&format!("final;{}", parts.join(" ")))
    }

    pub(crate) fn concat(mut self, value: &str) -> Self {
        self.concat = Some(value.to_owned());
        self
    }

    pub(crate) fn meta(mut self, key: &'static str, value: &str) -> Self {
        self.metadata.push((key, value.to_owned()));
        self
    }

    /// For a hook that takes the id from the metadata.
    pub(crate) fn id(self, id: &str) -> Self {
        self.meta("id", id)
    }

    pub(crate) fn content(mut self, bytes: Bytes) -> Self {
        self.content = bytes;
        self
    }

    pub(crate) async fn send(&self, handler: &Handler) -> Response {
        const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
        let pairs = self
            .metadata
            .iter()
            .map(|(key, value)| (*key, value.as_bytes()));
        let metadata = Metadata::from_pairs(pairs);
        let mut fields = vec![(METADATA, metadata.header().to_owned())];
        match &self.concat {
            Some(concat) if concat.starts_with("final") => {}
            _ => fields.push((LENGTH, self.length.to_string())),
        }
        fields.extend(self.concat.clone().map(|concat| (CONCAT, concat)));
        if !self.content.is_empty() {
            fields.extend(content(self.content.len() as u64));
        }
        post(handler, &fields, self.content.clone()).await
    }
}

pub(crate) async fn create(handler: &Handler, length: u64, bytes: Bytes) -> Response {
    let mut fields = vec![(LENGTH, length.to_string())];
    if !bytes.is_empty() {
        fields.extend(content(bytes.len() as u64));
    }
    post(handler, &fields, bytes).await
}

pub(crate) async fn create_empty(handler: &Handler, length: u64) -> UploadId {
    create(handler, length, Bytes::new()).await.expect(201).id()
}

pub(crate) async fn create_partial(handler: &Handler, length: u64) -> UploadId {
    let fields = [(LENGTH, length.to_string()), (CONCAT, "partial".into())];
    post(handler, &fields, Bytes::new()).await.expect(201).id()
}

pub(crate) async fn create_final(handler: &Handler, parts: &[UploadId]) -> UploadId {
    let parts: Vec<_> = parts.iter().map(|part| format!("/files/{part}")).collect();
    let fields = [(CONCAT, format!("final;{}", parts.join(" ")))];
    post(handler, &fields, Bytes::new()).await.expect(201).id()
}

pub(crate) async fn create_deferred(handler: &Handler) -> UploadId {
    let fields = [(DEFER, "1".to_owned())];
    post(handler, &fields, Bytes::new()).await.expect(201).id()
}

pub(crate) async fn append(
    handler: &Handler,
    id: &UploadId,
    offset: u64,
    length: u64,
    body: SentBody,
) -> Response {
    append_declaring(handler, id, offset, length, None, body).await
}

pub(crate) async fn append_declaring(
    handler: &Handler,
    id: &UploadId,
    offset: u64,
    length: u64,
    whole: Option<u64>,
    body: SentBody,
) -> Response {
    let mut fields = vec![(OFFSET, offset.to_string())];
    fields.extend(content(length));
    fields.extend(whole.map(|whole| (LENGTH, whole.to_string())));
    let path = format!("/files/{id}");
    send(handler, Method::PATCH, &path, &fields, body).await
}

/// Without `Content-Length`.
pub(crate) async fn append_unsized(
    handler: &Handler,
    id: &UploadId,
    offset: u64,
    body: SentBody,
) -> Response {
    let [content_type, _] = content(0);
    let fields = [(OFFSET, offset.to_string()), content_type];
    let path = format!("/files/{id}");
    send(handler, Method::PATCH, &path, &fields, body).await
}

pub(crate) async fn head(handler: &Handler, id: &UploadId) -> Response {
    without_body(handler, Method::HEAD, id).await
}

pub(crate) async fn offset(handler: &Handler, id: &UploadId) -> Option<u64> {
    let found = head(handler, id).await.expect(200);
    found.number("upload-offset")
}

pub(crate) async fn get(handler: &Handler, id: &UploadId) -> Response {
    without_body(handler, Method::GET, id).await
}

pub(crate) async fn delete(handler: &Handler, id: &UploadId) -> Response {
    without_body(handler, Method::DELETE, id).await
}

async fn without_body(handler: &Handler, method: Method, id: &UploadId) -> Response {
    let path = format!("/files/{id}");
    let sent = send(handler, method.clone(), &path, &[], body(Bytes::new()));
    match tokio::time::timeout(LIMIT, sent).await {
        Ok(response) => response,
        Err(_) => panic!("{method} of {id} got no response within {LIMIT:?}"),
    }
}
