//! A tus client that talks to a handler directly.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use landfall::{Handler, service::ResponseBody, upload::UploadId};
use sha1::{Digest, Sha1};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::{
    body::{ScriptedBody, SentBody, Step},
    op::Sum,
};

/// A request body as it will be sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// All of it, were it not cut.
    pub(super) whole: Bytes,
    /// The number of bytes that arrive.
    pub(super) arrives: usize,
    pub(super) cut: bool,
    pub(super) stated: bool,
    pub(super) checksum: Sum,
    pub(super) frame: usize,
    pub(super) pauses: bool,
}

impl Sent {
    /// A plain body that arrives in whole.
    pub(super) fn plain(whole: Bytes) -> Self {
        let arrives = whole.len();
        let (cut, stated, pauses) = (false, true, false);
        Self {
            whole,
            arrives,
            cut,
            stated,
            checksum: Sum::None,
            frame: 1 << 20,
            pauses,
        }
    }

    /// The same for the model.
    pub(super) fn modelled(&self) -> crate::model::Body<'_> {
        crate::model::Body {
            bytes: &self.whole[..self.arrives],
            stated: self.stated.then_some(self.whole.len() as u64),
            cut: self.cut,
            checksum: match self.checksum {
                Sum::None => None,
                Sum::Head { right } | Sum::Trailer { right, .. } => Some(right),
            },
            late: matches!(
                self.checksum,
                Sum::Trailer {
                    declared: false,
                    ..
                }
            ),
        }
    }

    /// `Upload-Checksum`.
    fn stated_sum(&self, right: bool) -> String {
        let mut hash = Sha1::new();
        hash.update(&self.whole);
        if !right {
            hash.update(b"!");
        }
        format!("sha1 {}", STANDARD.encode(hash.finalize()))
    }

    fn headers(&self, headers: &mut HeaderMap) {
        headers.insert(
            "content-type",
            "application/offset+octet-stream".parse().unwrap(),
        );
        if self.stated {
            headers.insert("content-length", self.whole.len().into());
        }
        match self.checksum {
            Sum::None => {}
            Sum::Head { right } => {
                headers.insert("upload-checksum", self.stated_sum(right).parse().unwrap());
            }
            Sum::Trailer {
                declared: false, ..
            } => {}
            Sum::Trailer { .. } => {
                headers.insert("trailer", "Upload-Checksum".parse().unwrap());
            }
        }
    }

    fn body(&self) -> ScriptedBody {
        let mut steps = VecDeque::new();
        let mut rest = self.whole.slice(..self.arrives);
        while !rest.is_empty() {
            steps.push_back(Step::Data(rest.split_to(self.frame.min(rest.len()))));
            if self.pauses {
                steps.push_back(Step::Pause);
            }
        }
        if self.cut {
            steps.push_back(Step::Break);
        } else if let Sum::Trailer { right, .. } = self.checksum {
            let mut fields = HeaderMap::new();
            fields.insert("upload-checksum", self.stated_sum(right).parse().unwrap());
            steps.push_back(Step::Trailers(fields));
        }
        ScriptedBody(steps)
    }

    /// A body that hangs where this one would be cut or end.
    fn hanging(&self) -> (ScriptedBody, Arc<Notify>) {
        let reached = Arc::new(Notify::new());
        let mut body = self.body();
        body.0
            .retain(|step| matches!(step, Step::Data(_) | Step::Pause));
        body.0.push_back(Step::Hang(reached.clone()));
        (body, reached)
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct TestResponse {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Vec<u8>,
}

impl TestResponse {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().unwrap().parse().ok()
    }

    /// The id in `Location`.
    pub(super) fn id(&self) -> Option<UploadId> {
        let location = self.headers.get("location")?.to_str().unwrap();
        UploadId::new(location.strip_prefix("/files/").unwrap()).ok()
    }
}

/// A PATCH that hangs.
#[derive(Debug)]
pub(super) struct Hanging {
    pub(super) task: JoinHandle<TestResponse>,
    /// Told when its last byte was taken.
    pub(super) reached: Arc<Notify>,
}

fn request(method: Method, path: &str) -> Request<ScriptedBody> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("tus-resumable", "1.0.0")
        .body(ScriptedBody::default())
        .unwrap()
}

async fn send(handler: &Handler, request: Request<ScriptedBody>) -> TestResponse {
    reply(handler.handle(request).await).await
}

async fn reply(response: Response<ResponseBody>) -> TestResponse {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            // Interrupted: the bytes received so far must be correct.
            Err(_) => break,
        }
    }
    TestResponse {
        status: parts.status.as_u16(),
        headers: parts.headers,
        bytes,
    }
}

static CREATIONS: AtomicU64 = AtomicU64::new(0);

pub(super) async fn create(
    handler: &Handler,
    length: Option<u64>,
    concat: Option<&str>,
    body: Option<&Sent>,
) -> TestResponse {
    let mut request = request(Method::POST, "/files/");
    let headers = request.headers_mut();
    match length {
        Some(length) => headers.insert("upload-length", length.into()),
        None if concat.is_some_and(|concat| concat.starts_with("final")) => None,
        None => headers.insert("upload-defer-length", 1.into()),
    };
    if let Some(concat) = concat {
        headers.insert("upload-concat", concat.parse().unwrap());
        // An equal final upload would be a repetition, which is answered with the first one.
        let number = CREATIONS.fetch_add(1, Relaxed);
        headers.insert(
            "upload-metadata",
            format!("request-{number}").parse().unwrap(),
        );
    }
    match body {
        Some(sent) => {
            sent.headers(headers);
            *request.body_mut() = sent.body();
        }
        None => drop(headers.insert("content-length", 0.into())),
    }
    send(handler, request).await
}

fn patch(id: &UploadId, offset: u64, declared: Option<u64>, sent: &Sent) -> Request<ScriptedBody> {
    let mut request = request(Method::PATCH, &format!("/files/{id}"));
    let headers = request.headers_mut();
    headers.insert("upload-offset", offset.into());
    if let Some(length) = declared {
        headers.insert("upload-length", length.into());
    }
    sent.headers(headers);
    *request.body_mut() = sent.body();
    request
}

pub(super) async fn append(
    handler: &Handler,
    id: &UploadId,
    offset: u64,
    declared: Option<u64>,
    sent: &Sent,
) -> TestResponse {
    send(handler, patch(id, offset, declared, sent)).await
}

/// A PATCH whose body is sent piece by piece, and ends when the sender is dropped.
pub(super) fn append_in_pieces(
    handler: &Handler,
    id: &UploadId,
    offset: u64,
    length: u64,
) -> (mpsc::Sender<Bytes>, JoinHandle<TestResponse>) {
    let (sender, pieces) = mpsc::channel(1);
    let mut request = patch(id, offset, None, &Sent::plain(Bytes::new())).map(|_| SentBody(pieces));
    request
        .headers_mut()
        .insert("content-length", length.into());
    let handler = handler.clone();
    let task = tokio::spawn(async move { reply(handler.handle(request).await).await });
    (sender, task)
}

pub(super) fn append_and_hang(
    handler: &Handler,
    id: &UploadId,
    offset: u64,
    sent: &Sent,
) -> Hanging {
    let mut request = patch(id, offset, None, sent);
    let (body, reached) = sent.hanging();
    *request.body_mut() = body;
    let handler = handler.clone();
    let task = tokio::spawn(async move { send(&handler, request).await });
    Hanging { task, reached }
}

pub(super) async fn inspect(handler: &Handler, id: &UploadId) -> TestResponse {
    send(handler, request(Method::HEAD, &format!("/files/{id}"))).await
}

/// Waits while the upload is locked, as clients do: another request or a redelivery may complete it.
pub(super) async fn inspect_unlocked(handler: &Handler, id: &UploadId) -> TestResponse {
    let mut reply = inspect(handler, id).await;
    for _ in 0..2000 {
        if reply.status != 423 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        reply = inspect(handler, id).await;
    }
    reply
}

pub(super) async fn terminate(handler: &Handler, id: &UploadId) -> TestResponse {
    send(handler, request(Method::DELETE, &format!("/files/{id}"))).await
}

pub(super) async fn download(
    handler: &Handler,
    id: &UploadId,
    range: Option<&str>,
) -> TestResponse {
    let mut request = request(Method::GET, &format!("/files/{id}"));
    if let Some(range) = range {
        request
            .headers_mut()
            .insert("range", range.parse().unwrap());
    }
    send(handler, request).await
}
