//! The HTTP face: a [`tower_service::Service`] that takes any request body and knows nothing of
//! sockets, and the operations as single functions for those who route by themselves.

mod answer;
mod body;
mod cors;
mod detach;
mod download;
mod forwarded;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod operations;
pub(crate) mod range;
mod stats;
mod urls;

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header, request::Parts};
use http_body::Body;
use landfall_protocol::{
    Extensions, MetadataSyntax, Operation, Problem, ProblemKind, TUS_VERSION, Target,
    effective_method, headers,
};

pub(crate) use self::operations::request_info;
use self::{
    answer::Rejection,
    stats::RequestCounters,
    urls::{RequestOrigin, UploadUrls},
};
pub use crate::engine::RequestBodyError;

pub use self::{
    body::ResponseBody,
    cors::{Cors, InvalidHeaderList},
    forwarded::{Forwarded, Peer},
    stats::Stats,
};
use crate::{
    BoxError,
    config::{Config, ConfigError},
    direct::{ExternalUploads, HookDispatcher},
    engine::{Engine, Error, Resolution, Settings, Sweeper},
    event::{EventKind, TerminationReason},
    hook::{ClientResponse, UploadToken},
    upload::{Snapshot, UploadId},
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
    place: UploadUrls,
    cors: Option<Cors>,
    direct: Option<Arc<dyn ExternalUploads>>,
    extensions: Extensions,
    extension_list: HeaderValue,
    max_size: Option<HeaderValue>,
    metadata_syntax: MetadataSyntax,
    tally: RequestCounters,
}

impl Handler {
    /// Builds a handler.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration cannot work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if config.cors.as_ref().is_some_and(Cors::shares_credentials) {
            return Err(ConfigError::CredentialsForAnyOrigin);
        }
        let parts = &config.parts;
        let extensions = Extensions {
            termination: parts.get_terminator().is_some() && !config.disable_termination,
            concatenation: parts.get_concatenator().is_some() && !config.disable_concatenation,
            defer_length: parts.get_length_deferrer().is_some(),
            expiration: config.lifetimes.unfinished.is_some(),
            download: parts.get_reader().is_some() && !config.disable_download,
        };
        Ok(Self(Arc::new(Inner {
            extension_list: HeaderValue::from_str(&extensions.list())
                .unwrap_or(HeaderValue::from_static("creation")),
            max_size: config.limits.max_size.map(HeaderValue::from),
            extensions,
            metadata_syntax: if config.lenient_metadata {
                MetadataSyntax::Lenient
            } else {
                MetadataSyntax::Strict
            },
            place: UploadUrls::new(&config)?,
            cors: config.cors,
            direct: config.direct,
            engine: Arc::new(Engine::new(Settings {
                parts: config.parts,
                limits: config.limits,
                lifetimes: config.lifetimes,
                hooks: config.hooks,
                sinks: config.sinks,
                progress_interval: config.progress_interval,
                lease_wait: config.lease_wait,
                body_timeout: config.body_timeout,
                disable_unfinished_download: config.disable_unfinished_download,
            })),
            tally: RequestCounters::default(),
        })))
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

    /// Ends transfers and waits for what they started; for the end of the program.
    ///
    /// From the call on, POST and PATCH get 503 with `Retry-After`. Transfers that run end with that
    /// response, too, and what they received is kept (except bytes whose checksum is not known yet).
    /// Resolves once none of them is left, nor any effect that outlives its request: hooks, events,
    /// concatenations. Other requests are still answered. It cannot be undone.
    ///
    /// Call it when the server stops to accept connections; it takes as long as hooks, sinks and the
    /// store do, so bound it:
    ///
    /// ```
    /// # use std::{future::Future, time::Duration};
    /// # async fn serve(signal: impl Future<Output = ()>) {}
    /// # async fn run(uploads: landfall::Handler, signal: impl Future<Output = ()>) {
    /// let ended = uploads.clone();
    /// // As in `axum::serve(listener, app).with_graceful_shutdown(…)`.
    /// serve(async move {
    ///     signal.await;
    ///     let _ = tokio::time::timeout(Duration::from_secs(10), ended.shutdown()).await;
    /// })
    /// .await;
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// May be dropped: it stays in effect, and another call waits again.
    pub async fn shutdown(&self) {
        self.0.engine.shut_down().await;
    }

    /// Stops an upload whose bytes are coming in, and removes it: its client gets `reply`, or 400
    /// without one. Says whether there was one.
    pub fn stop(&self, id: &UploadId, reply: ClientResponse) -> bool {
        self.0.engine.stop(id, reply)
    }

    /// Stops whoever is writing an upload and removes it, at the application's wish: no hook is asked,
    /// and it goes whether or not clients may remove uploads. Says whether there was one, or what an
    /// interrupted removal left of one.
    /// [`FileStore::take`](crate::store::file::FileStore::take) hands a finished file over.
    ///
    /// # Errors
    /// Those of the store and the locker; it is still there then.
    ///
    /// # Cancel safety
    /// Dropped, it may be there or not; then do it again.
    pub async fn remove(&self, id: &UploadId) -> Result<bool, BoxError> {
        if let Some(direct) = self.direct(id) {
            return direct.remove(id).await;
        }
        match self
            .0
            .engine
            .dismiss(&None, id, TerminationReason::Application)
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.problem().kind == ProblemKind::NotFound => {
                Ok(self.0.engine.remove_remains(id).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An upload as it stands, whether or not its time is over. What a crash left half done (telling
    /// of a completion, joining) is done first.
    ///
    /// # Errors
    /// Those of the store, the locker and the hooks.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn get(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError> {
        if let Some(direct) = self.direct(id) {
            return direct.get(id).await;
        }
        Ok(self.0.engine.look(id).await?)
    }

    /// Where uploads are created, as the client behind this request sees it: the URL for its POST, in
    /// the manner in which `Location` is written.
    #[must_use]
    pub fn creation_url(&self, request: &Parts) -> String {
        self.0
            .place
            .creation_url(&RequestOrigin::from_parts(request))
    }

    /// Whether the client behind this request came over HTTPS, and to which `host[:port]`, as far as
    /// that is known: what trusted proxies say counts.
    #[must_use]
    pub fn external_origin(&self, request: &Parts) -> (bool, Option<String>) {
        self.0
            .place
            .external_origin(&RequestOrigin::from_parts(request))
    }

    /// Finds out, for a sink, what became of something that was announced before its process died, or
    /// a good while ago, for the upload `id` that was created at `created`. A completion that nobody
    /// has been told of is asked about and told by this.
    ///
    /// # Errors
    /// Those of the store, the locker and the hooks: look again later.
    ///
    /// # Cancel safety
    /// May be dropped; then look again.
    pub async fn resolve(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, BoxError> {
        let engine = &self.0.engine;
        let outcome = match self.direct(id) {
            Some(direct) => direct.resolve(kind, id, created).await?,
            None => engine.resolve(kind, id, created).await?,
        };
        engine.record_resolved(kind, id, &outcome).await?;
        Ok(outcome)
    }

    /// The hooks and sinks, for uploads whose bytes don't pass through this handler.
    #[must_use]
    pub fn hook_dispatcher(&self) -> HookDispatcher {
        HookDispatcher::new(self.0.engine.clone())
    }

    /// Who keeps books of an upload, if its bytes don't pass through this handler.
    fn direct(&self, id: &UploadId) -> Option<&dyn ExternalUploads> {
        self.0.direct.as_deref().filter(|direct| direct.owns(id))
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.tally.snapshot(&self.0.engine)
    }

    /// Answers any request below the base path.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let Some(routed) = self.route(&request) else {
            return answer::not_found();
        };
        self.answer(request, routed).await
    }

    /// What a request wants, by its path and method; `None` if it is not below the base path.
    fn route<B>(&self, request: &Request<B>) -> Option<Routed> {
        let escaped = self.0.place.below(request.uri().path())?;
        let target = if escaped.is_empty() {
            Target::Collection
        } else {
            Target::Upload
        };
        let method = effective_method(request.method(), request.headers());
        let operation =
            method.and_then(|method| Operation::parse(&method, target, self.0.extensions));
        let id = match (target, &operation) {
            (Target::Upload, Ok(operation)) if *operation != Operation::Options => {
                Some(UploadUrls::id(escaped))
            }
            _ => None,
        };
        Some(Routed {
            target,
            operation,
            id,
        })
    }

    async fn answer<B>(&self, request: Request<B>, routed: Routed) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        self.run(&mut parts, pin!(body), routed).await
    }

    /// OPTIONS: what the server can do.
    pub async fn options<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.answer(request, Routed::collection(Operation::Options))
            .await
    }

    /// POST: creates an upload.
    pub async fn create<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.answer(request, Routed::collection(Operation::Create))
            .await
    }

    /// HEAD: how far an upload got.
    pub async fn inspect<B>(&self, id: &str, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.run_on(Operation::Inspect, id, request).await
    }

    /// PATCH: more bytes.
    pub async fn append<B>(&self, id: &str, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.run_on(Operation::Append, id, request).await
    }

    /// DELETE: removes an upload.
    pub async fn terminate<B>(&self, id: &str, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.run_on(Operation::Terminate, id, request).await
    }

    /// GET: an upload's bytes.
    pub async fn download<B>(&self, id: &str, request: Request<B>) -> Response<ResponseBody>
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
    ) -> Response<ResponseBody>
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
            Err(ProblemKind::MethodNotAllowed.into())
        };
        let id = UploadId::new(id).map_err(|error| ProblemKind::NotFound.with_detail(error));
        let routed = Routed {
            target: Target::Upload,
            operation,
            id: Some(id),
        };
        self.answer(request, routed).await
    }

    /// The way of every request: origin, version, operation, answer.
    async fn run<B>(
        &self,
        parts: &mut Parts,
        mut body: Pin<&mut B>,
        routed: Routed,
    ) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let Routed {
            target,
            operation,
            id,
        } = routed;
        let inner = &*self.0;
        inner
            .tally
            .count_request(operation.as_ref().ok(), &parts.method);
        // Nothing behind this line may keep it, log it or give it away.
        let token = UploadToken::extract(&mut parts.headers);
        if !body.is_end_stream() {
            detach::detach(parts);
        }
        let wants_head = operation
            .as_ref()
            .map_or(parts.method == Method::HEAD, |operation| {
                *operation == Operation::Inspect
            });
        let mut is_preflight = false;
        let result = match (&inner.cors, operation) {
            (Some(cors), _) if !cors.allows(&parts.headers) => {
                Err(Rejection::from(Error::from(ProblemKind::OriginNotAllowed)))
            }
            (_, Err(problem)) => Err(problem.into()),
            (_, Ok(Operation::Options)) => {
                is_preflight = true;
                Ok(self.capabilities())
            }
            (_, Ok(operation)) => {
                self.operate(parts, body.as_mut(), operation, id.clone(), token)
                    .await
            }
        };
        let leaves_body = result.as_ref().map_or(true, |answer| answer.leaves_body);
        let id = id.as_ref().and_then(|id| id.as_ref().ok());
        let mut response = match result {
            Ok(answer) => answer.into_response(),
            Err(rejection) => {
                let error = &rejection.error;
                answer::log(error, parts, id);
                let response = answer::reject(&rejection, target, inner.extensions, wants_head);
                inner
                    .tally
                    .count_error(response.status(), error.problem().code());
                response
            }
        };
        // POST may stand for HEAD: whether the client waits for a body is decided by the method on
        // the wire.
        if parts.method == Method::HEAD {
            *response.body_mut() = ResponseBody::empty();
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
        if let Some(cors) = &inner.cors {
            let origin = parts.headers.get(header::ORIGIN);
            let admitted = origin.filter(|_| cors.allows(&parts.headers));
            cors.apply(admitted, is_preflight, reply);
        }
        if leaves_body && !body.is_end_stream() {
            answer::close_after(parts, body, reply).await;
        }
        tracing::debug!(
            method = %parts.method,
            path = parts.uri.path(),
            requestId = answer::request_id(parts),
            status = response.status().as_u16(),
            "ResponseOutgoing"
        );
        response
    }
}

/// What a request wants.
struct Routed {
    target: Target,
    operation: Result<Operation, Problem>,
    id: Option<Result<UploadId, Problem>>,
}

impl Routed {
    fn collection(operation: Operation) -> Self {
        Self {
            target: Target::Collection,
            operation: Ok(operation),
            id: None,
        }
    }
}

impl<B> tower_service::Service<Request<B>> for Handler
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let handler = self.clone();
        let Some(routed) = handler.route(&request) else {
            return Box::pin(ready(Ok(answer::not_found())));
        };
        // Not `handle`: the request would be in its future twice.
        let (mut parts, body) = request.into_parts();
        Box::pin(async move { Ok(handler.run(&mut parts, pin!(body), routed).await) })
    }
}
