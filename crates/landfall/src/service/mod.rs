//! The HTTP face: a [`tower_service::Service`] that takes any request body and knows nothing of
//! sockets, and the operations as single functions for those who route by themselves.

mod answer;
mod body;
mod cors;
mod download;
mod forwarded;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod place;
pub(crate) mod range;
mod stats;

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use landfall_protocol::{
    Algorithm, Append, Concat, Create, Extensions, Fault, Operation, Problem, TUS_VERSION, Target,
    effective_method, headers, parse_size, require_version,
};

use self::{
    answer::{Answer, Outcome},
    place::{Place, RequestPlace},
    stats::Tally,
};
pub use crate::engine::BodyFault;

pub use self::{
    body::ReplyBody,
    cors::{Cors, InvalidList},
    forwarded::{Forwarded, Peer},
    stats::Stats,
};
use crate::{
    BoxError,
    config::Config,
    engine::{AppendRequest, Caller, CreateRequest, Engine, Error, Settings, Sweeper},
    hook::{Intent, Reply, RequestInfo},
    upload::{Kind, UploadId},
};

/// Serves uploads: a [`tower_service::Service`] to mount in any server that speaks `http`.
///
/// Cloning is cheap, clones share everything.
///
/// For HTTP servers: a [`Peer`] in the request's extensions tells where the request comes from, and a
/// [`BodyFault`] in a body's error why it broke off; both are optional.
#[derive(Debug, Clone)]
pub struct Handler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    place: Place,
    cors: Option<Cors>,
    extensions: Extensions,
    extension_list: HeaderValue,
    max_size: Option<HeaderValue>,
    tally: Tally,
}

/// What every operation needs to know of its request.
struct Head<'a> {
    parts: &'a Parts,
    caller: Caller,
    peer: Peer,
    content_length: Option<u64>,
}

impl Head<'_> {
    fn place(&self) -> RequestPlace<'_> {
        RequestPlace {
            headers: &self.parts.headers,
            uri: &self.parts.uri,
            version: self.parts.version,
            peer: self.peer,
        }
    }
}

impl Handler {
    /// Builds a handler.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let parts = &config.parts;
        let extensions = Extensions {
            termination: parts.get_terminator().is_some() && !config.disable_termination,
            concatenation: parts.get_concatenator().is_some() && !config.disable_concatenation,
            defer_length: parts.get_length_deferrer().is_some(),
            expiration: config.lifetimes.unfinished.is_some(),
            download: parts.get_reader().is_some() && !config.disable_download,
        };
        Self(Arc::new(Inner {
            extension_list: HeaderValue::from_str(&extensions.list())
                .unwrap_or(HeaderValue::from_static("creation")),
            max_size: config.limits.max_size.map(HeaderValue::from),
            extensions,
            place: Place::new(&config),
            cors: config.cors,
            engine: Arc::new(Engine::new(Settings {
                parts: config.parts,
                limits: config.limits,
                lifetimes: config.lifetimes,
                hooks: config.hooks,
                sinks: config.sinks,
                progress_interval: config.progress_interval,
                lease_wait: config.lease_wait,
            })),
            tally: Tally::default(),
        }))
    }

    /// The extensions that follow from the parts, as `Tus-Extension` lists them.
    #[must_use]
    pub fn extensions(&self) -> &str {
        self.0.extension_list.to_str().unwrap_or_default()
    }

    /// Whether GET on uploads is answered.
    #[must_use]
    pub fn can_download(&self) -> bool {
        self.0.extensions.download
    }

    /// Removes what has expired, when run.
    #[must_use]
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.0.engine.clone())
    }

    /// Stops an upload whose bytes are coming in, and removes it: its client gets `reply`, or 400
    /// without one. Says whether there was one.
    pub fn stop(&self, id: &UploadId, reply: Reply) -> bool {
        self.0.engine.stop(id, reply)
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.tally.snapshot(&self.0.engine)
    }

    /// Answers any request below the base path.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let path = request.uri().path();
        let Some(escaped) = self.0.place.below(path) else {
            return answer::not_found();
        };
        let target = if escaped.is_empty() {
            Target::Collection
        } else {
            Target::Upload
        };
        let method = effective_method(request.method(), request.headers());
        let operation = method.and_then(|method| Operation::of(&method, target, self.0.extensions));
        let id = match (target, &operation) {
            (Target::Upload, Ok(operation)) if *operation != Operation::Options => {
                Some(Place::id(escaped))
            }
            _ => None,
        };
        let (parts, body) = request.into_parts();
        self.run(parts, body, target, operation, id).await
    }

    /// OPTIONS: what the server can do.
    pub async fn options<B>(&self, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        self.run(
            parts,
            body,
            Target::Collection,
            Ok(Operation::Options),
            None,
        )
        .await
    }

    /// POST: creates an upload.
    pub async fn create<B>(&self, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        self.run(parts, body, Target::Collection, Ok(Operation::Create), None)
            .await
    }

    /// HEAD: how far an upload got.
    pub async fn inspect<B>(&self, id: &str, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.run_on(Operation::Inspect, id, request).await
    }

    /// PATCH: more bytes.
    pub async fn append<B>(&self, id: &str, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.run_on(Operation::Append, id, request).await
    }

    /// DELETE: removes an upload.
    pub async fn terminate<B>(&self, id: &str, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.run_on(Operation::Terminate, id, request).await
    }

    /// GET: an upload's bytes.
    pub async fn download<B>(&self, id: &str, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.run_on(Operation::Download, id, request).await
    }

    async fn run_on<B>(
        &self,
        operation: Operation,
        id: &str,
        request: Request<B>,
    ) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let offered = match operation {
            Operation::Terminate => self.0.extensions.termination,
            Operation::Download => self.0.extensions.download,
            _ => true,
        };
        let operation = if offered {
            Ok(operation)
        } else {
            Err(Fault::MethodNotAllowed.into())
        };
        let id = UploadId::new(id).map_err(|error| Fault::NotFound.because(error));
        let (parts, body) = request.into_parts();
        self.run(parts, body, Target::Upload, operation, Some(id))
            .await
    }

    /// The way of every request: origin, version, operation, answer.
    async fn run<B>(
        &self,
        parts: Parts,
        body: B,
        target: Target,
        operation: Result<Operation, Problem>,
        id: Option<Result<UploadId, Problem>>,
    ) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let inner = &*self.0;
        inner
            .tally
            .count_request(operation.as_ref().ok(), &parts.method);
        let mut body = pin!(body);
        let wants_head = operation
            .as_ref()
            .map_or(parts.method == Method::HEAD, |operation| {
                *operation == Operation::Inspect
            });
        let mut is_preflight = false;
        let result = match (&inner.cors, operation) {
            (Some(cors), _) if !cors.admits(&parts.headers) => {
                Err(Error::from(Fault::OriginNotAllowed))
            }
            (_, Err(problem)) => Err(problem.into()),
            (_, Ok(Operation::Options)) => {
                is_preflight = true;
                Ok(self.capabilities())
            }
            (_, Ok(operation)) => {
                self.operate(&parts, body.as_mut(), operation, id.clone())
                    .await
            }
        };
        let failed = result.is_err();
        let id = id.as_ref().and_then(|id| id.as_ref().ok());
        let mut response = match result {
            Ok(answer) => answer.into_response(),
            Err(error) => {
                answer::log(&error, &parts, id);
                let response = answer::refuse(&error, target, wants_head);
                inner
                    .tally
                    .count_error(response.status(), error.problem().code());
                response
            }
        };
        // An override may turn HEAD into another method, or another into HEAD: whether the client
        // waits for a body is decided by the method on the wire.
        if parts.method == Method::HEAD {
            *response.body_mut() = ReplyBody::empty();
        } else if wants_head {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, 0.into());
        }
        let reply = response.headers_mut();
        reply.insert(
            headers::TUS_RESUMABLE,
            HeaderValue::from_static(TUS_VERSION),
        );
        reply.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if let Some(cors) = &inner.cors
            && let Some(origin) = parts.headers.get(header::ORIGIN)
            && cors.admits(&parts.headers)
        {
            cors.decorate(origin, is_preflight, reply);
        }
        if failed && !body.is_end_stream() {
            answer::leave_body(&parts, body, reply).await;
        }
        tracing::debug!(
            method = %parts.method,
            path = parts.uri.path(),
            requestId = answer::request_id(&parts),
            status = response.status().as_u16(),
            "ResponseOutgoing"
        );
        response
    }

    async fn operate<B>(
        &self,
        parts: &Parts,
        mut body: Pin<&mut B>,
        operation: Operation,
        id: Option<Result<UploadId, Problem>>,
    ) -> Result<Answer, Error>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        require_version(operation, &parts.headers)?;
        let engine = &self.0.engine;
        let peer = parts.extensions.get().copied().unwrap_or_default();
        let head = Head {
            parts,
            caller: engine
                .wants_requests()
                .then(|| Arc::new(request_info(parts, peer))),
            peer,
            content_length: content_length(parts, body.as_ref().get_ref())?,
        };
        let id = match (operation, id) {
            (Operation::Create, _) => return self.do_create(head, &mut body).await,
            (_, Some(id)) => id?,
            (_, None) => return Err(Fault::NotFound.into()),
        };
        match operation {
            Operation::Inspect => self.do_inspect(head, &id).await,
            Operation::Append => self.do_append(head, &id, &mut body).await,
            Operation::Terminate => self.do_terminate(head, &id).await,
            Operation::Download => self.do_download(head, &id).await,
            Operation::Options | Operation::Create => Err(Fault::MethodNotAllowed.into()),
        }
    }

    fn capabilities(&self) -> Answer {
        let mut answer = Answer::new(StatusCode::OK);
        let inner = &*self.0;
        answer.set(headers::TUS_VERSION, HeaderValue::from_static(TUS_VERSION));
        answer.set(headers::TUS_EXTENSION, inner.extension_list.clone());
        answer.set(
            headers::TUS_CHECKSUM_ALGORITHM,
            HeaderValue::from_static(Algorithm::LIST),
        );
        if let Some(max) = &inner.max_size {
            answer.set(headers::TUS_MAX_SIZE, max.clone());
        }
        answer
    }

    async fn do_create<B>(&self, head: Head<'_>, body: &mut Pin<&mut B>) -> Result<Answer, Error>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let inner = &*self.0;
        let engine = &inner.engine;
        let create = Create::parse(
            &head.parts.headers,
            inner.extensions,
            engine.limits.max_size,
        )?;
        let ids = match &create.concat {
            Some(Concat::Final { urls, .. }) => urls
                .iter()
                .map(|url| inner.place.resolve(&head.place(), url))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let request = CreateRequest {
            head: create,
            parts: ids,
            content_length: head.content_length,
        };
        let created = engine.create(&head.caller, request, body).await?;
        let mut answer = Answer::new(StatusCode::CREATED);
        let location = inner.place.location(&head.place(), &created.upload.id);
        tracing::debug!(
            id = %created.upload.id,
            requestId = answer::request_id(head.parts),
            size = created.upload.length,
            url = location,
            "UploadCreated"
        );
        answer.expires(created.expires);
        if let Some(offset) = created.offset {
            answer.set(headers::UPLOAD_OFFSET, offset.into());
        }
        answer.merge(created.reply);
        answer.set(header::LOCATION, answer::value(&location)?);
        Ok(answer)
    }

    async fn do_append<B>(
        &self,
        head: Head<'_>,
        id: &UploadId,
        body: &mut Pin<&mut B>,
    ) -> Result<Answer, Error>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let engine = &self.0.engine;
        engine.admit(&head.caller, Intent::Write, Some(id)).await?;
        let append = match Append::parse(&head.parts.headers) {
            Ok(append) => append,
            // What is wrong with the upload comes before what is wrong with the request (E-4).
            Err(problem) => {
                let inspected = engine.inspect(&head.caller, id).await?;
                let is_final = matches!(inspected.upload.kind, Kind::Final { .. });
                return Err(if is_final {
                    Fault::ModifyFinal.into()
                } else {
                    problem.into()
                });
            }
        };
        let request = AppendRequest {
            head: append,
            content_length: head.content_length,
        };
        let appended = engine.append(&head.caller, id, request, body).await?;
        let mut answer = Answer::new(StatusCode::NO_CONTENT);
        answer.expires(appended.expires);
        answer.set(headers::UPLOAD_OFFSET, appended.offset.into());
        answer.merge(appended.reply);
        Ok(answer)
    }

    async fn do_inspect(&self, head: Head<'_>, id: &UploadId) -> Result<Answer, Error> {
        let engine = &self.0.engine;
        engine
            .admit(&head.caller, Intent::Inspect, Some(id))
            .await?;
        let inspected = engine.inspect(&head.caller, id).await?;
        let upload = &inspected.upload;
        let mut answer = Answer::new(StatusCode::OK);
        answer.outcome = Outcome::Head {
            length: upload.length,
        };
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(offset) = inspected.offset {
            answer.set(headers::UPLOAD_OFFSET, offset.into());
        }
        let length = match (upload.length, &upload.kind) {
            (None, Kind::Final { .. }) => engine.length_by_parts(upload).await,
            (length, _) => length,
        };
        match length {
            Some(length) => answer.set(headers::UPLOAD_LENGTH, length.into()),
            None if upload.is_final() => {}
            None => answer.set(headers::UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
        }
        match &upload.kind {
            Kind::Whole => {}
            Kind::Partial => {
                answer.set(headers::UPLOAD_CONCAT, HeaderValue::from_static("partial"));
            }
            // One that tusd made: it doesn't keep the header.
            Kind::Final { header, parts, .. } if header.is_empty() => {
                let place = head.place();
                let urls = parts.iter().map(|part| self.0.place.location(&place, part));
                let urls: Vec<_> = urls.collect();
                let list = format!("final;{}", urls.join(" "));
                answer.set(headers::UPLOAD_CONCAT, answer::value(&list)?);
            }
            Kind::Final { header, .. } => {
                answer.set(headers::UPLOAD_CONCAT, answer::value(header)?);
            }
        }
        if !upload.metadata.is_empty() {
            answer.set(
                headers::UPLOAD_METADATA,
                answer::value(upload.metadata.header())?,
            );
        }
        answer.expires(inspected.expires);
        if self.0.extensions.download && inspected.is_complete() {
            download::describe(&inspected, answer.headers_mut());
        }
        Ok(answer)
    }

    async fn do_terminate(&self, head: Head<'_>, id: &UploadId) -> Result<Answer, Error> {
        let engine = &self.0.engine;
        engine
            .admit(&head.caller, Intent::Terminate, Some(id))
            .await?;
        let reply = engine.terminate(&head.caller, id).await?;
        let mut answer = Answer::new(StatusCode::NO_CONTENT);
        answer.merge(reply);
        Ok(answer)
    }

    async fn do_download(&self, head: Head<'_>, id: &UploadId) -> Result<Answer, Error> {
        let engine = &self.0.engine;
        engine.admit(&head.caller, Intent::Read, Some(id)).await?;
        download::answer(engine, &head.caller, id, &head.parts.headers).await
    }
}

impl<B> tower_service::Service<Request<B>> for Handler
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let handler = self.clone();
        Box::pin(async move { Ok(handler.handle(request).await) })
    }
}

fn request_info(parts: &Parts, peer: Peer) -> RequestInfo {
    RequestInfo {
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        remote: peer
            .address
            .map_or_else(|| "@".into(), |address| address.to_string()),
        headers: parts.headers.clone(),
    }
}

/// The body's length as its head states it; without one, what the body itself knows.
fn content_length(parts: &Parts, body: &impl Body) -> Result<Option<u64>, Problem> {
    let stated = landfall_protocol::only_value(&parts.headers, &header::CONTENT_LENGTH)
        .and_then(|value| value.map(parse_size).transpose())
        .map_err(|error| {
            Fault::UnexpectedEof.because(format_args!("Content-Length is invalid: {error}"))
        })?;
    Ok(stated.or_else(|| body.size_hint().exact()))
}

/// Headers that hooks may not replace in an answer: they are the protocol's.
fn is_protocols_own(name: &http::HeaderName) -> bool {
    [
        headers::TUS_RESUMABLE,
        headers::UPLOAD_OFFSET,
        headers::UPLOAD_LENGTH,
        header::LOCATION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
    ]
    .contains(name)
}

/// Headers of an answer before they are the answer's.
type Fields = HeaderMap;
