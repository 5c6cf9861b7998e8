//! HTTP: a [`tower_service::Service`] for any request body, independent of sockets.

#[cfg(feature = "axum")]
mod axum;
mod body;
pub(crate) mod cors;
mod create_upload;
mod detach;
mod download;
mod field_lines;
pub(crate) mod forwarded;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod interim;
mod lingering;
mod operations;
pub(crate) mod range;
mod response;
mod rufh;
mod stats;
mod urls;

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, request::Parts};
use landfall_protocol::{
    Extensions, Fields, Operation, Problem, ProblemKind, Syntax, Target, effective_method,
    rufh::DraftRequest,
};

use self::{
    operations::RequestHead,
    response::{Rejection, ResponseBuilder, ResponseContent},
    stats::RequestCounters,
    urls::UploadUrls,
};
pub use crate::{
    engine::{RequestBodyError, Stats},
    request_body::RequestBody,
};

pub use self::{
    body::ResponseBody,
    cors::Cors,
    field_lines::FieldLines,
    forwarded::{Forwarded, Peer},
    interim::InterimSender,
    lingering::{LingeringBody, LingeringClose, LingeringCloseLayer, LingeringLimits},
};
use crate::{
    REQUEST_LOG,
    config::{Config, ConfigError},
    engine::{Engine, Error, LoggedRequest, RequestContext, Resolution, Sweeper, log_request},
    error::HandlerError,
    event::{EventKind, TerminationReason},
    external::HookDispatcher,
    hook::{ClientResponse, Decision, RequestInfo, UploadToken},
    upload::{Snapshot, UploadId},
};

/// An upload handler: a [`tower_service::Service`] for any server based on `http`.
///
/// Clones are cheap and share all state.
///
/// An HTTP server may put a [`Peer`] into the request's extensions, the client's address, and a
/// [`RequestBodyError`] into a body's error, the reason of its early end. With the feature `axum`, the
/// address is also taken from axum's `ConnectInfo<SocketAddr>`. A server that can send interim responses
/// provides an [`InterimSender`], and one that copies heads [`FieldLines`].
#[derive(Debug, Clone)]
pub struct Handler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    urls: UploadUrls,
    cors: Option<Cors>,
    extensions: Extensions,
    extension_list: HeaderValue,
    max_size: Option<HeaderValue>,
    syntax: Syntax,
    counters: RequestCounters,
}

/// A request whose operation has ended.
struct Handled {
    draft: Option<DraftRequest>,
    /// `None` if the method is not offered.
    operation: Option<Operation>,
    target: Target,
    wants_head: bool,
    has_origin: bool,
    is_preflight: bool,
}

#[derive(Default)]
struct Ended {
    /// True if the connection is closed after the response.
    closes: bool,
    /// For the log.
    error: String,
}

/// `None` on the creation URL.
type RequestedId = Option<Result<UploadId, Problem>>;

macro_rules! upload_operations {
    ($($(#[$doc:meta])* $name:ident = $method:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name<B: RequestBody>(
            &self,
            id: &str,
            request: Request<B>,
        ) -> impl Future<Output = Response<ResponseBody>> + Send + use<B> {
            self.run_as(Some(&Method::$method), Some(id), request)
        }
    )*};
}

impl Handler {
    /// Creates a handler.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration is invalid.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if config.cors.as_ref().is_some_and(Cors::shares_credentials) {
            return Err(ConfigError::CredentialsForAnyOrigin);
        }
        let limits = &config.limits;
        let maximums = [limits.max_append_size, limits.max_size];
        if let (Some(min), Some(max)) =
            (limits.min_append_size, maximums.into_iter().flatten().min())
            && min > max
        {
            return Err(ConfigError::AppendSizes { min, max });
        }
        let store = &config.store;
        let extensions = Extensions {
            termination: store.terminator().is_some() && !config.disable_termination,
            concatenation: store.concatenator().is_some() && !config.disable_concatenation,
            defer_length: store.length_deferrer().is_some(),
            expiration: config.lifetimes.unfinished.is_some(),
            checksum: !config.disable_checksum,
            download: store.reader().is_some() && !config.disable_download,
        };
        let engine = Arc::new(Engine::new(&config));
        engine.start_redelivery();
        Ok(Self(Arc::new(Inner {
            extension_list: HeaderValue::from_str(&extensions.list())
                .unwrap_or(HeaderValue::from_static("creation")),
            max_size: config.limits.max_size.map(HeaderValue::from),
            extensions,
            syntax: if config.lenient {
                Syntax::Lenient
            } else {
                Syntax::Strict
            },
            urls: UploadUrls::new(&config)?,
            engine,
            cors: config.cors,
            counters: RequestCounters::default(),
        })))
    }

    /// Returns the supported extensions, as `Tus-Extension` lists them.
    #[must_use]
    pub fn extensions(&self) -> &str {
        self.0.extension_list.to_str().unwrap_or_default()
    }

    /// Returns whether uploads can be downloaded with GET.
    #[must_use]
    pub fn can_download(&self) -> bool {
        self.0.extensions.download
    }

    /// Creates a sweeper, which removes expired uploads when it runs.
    #[must_use]
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.0.engine.clone())
    }

    /// Shuts down gracefully: ends transfers and waits for their effects.
    ///
    /// From the call on, POST and PATCH get 503 with `Retry-After`. Running transfers end with the same
    /// response; their received bytes are kept, except unverified ones. Resolves when all transfers and the
    /// effects that outlive their requests have ended: hooks, events, concatenations. Other requests are
    /// still served. It cannot be undone.
    ///
    /// Call it when the server stops accepting connections. It takes as long as hooks, sinks and the store,
    /// so use a timeout:
    ///
    /// ```
    /// # use std::{future::Future, time::Duration};
    /// # async fn serve(signal: impl Future<Output = ()>) {}
    /// # async fn run(uploads: landfall::Handler, signal: impl Future<Output = ()>) {
    /// let handler = uploads.clone();
    /// // As in `axum::serve(listener, app).with_graceful_shutdown(…)`.
    /// serve(async move {
    ///     signal.await;
    ///     let _ = tokio::time::timeout(Duration::from_secs(10), handler.shutdown()).await;
    /// })
    /// .await;
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// May be dropped: the shutdown stays in effect, and another call waits again.
    pub async fn shutdown(&self) {
        self.0.engine.shut_down().await;
    }

    /// Removes an upload on behalf of the application, after stopping its writer.
    ///
    /// No hook is called, and it works even if clients cannot remove uploads. Returns whether there was an
    /// upload, or remains of one whose removal was interrupted. To move a finished file, use
    /// [`FileStore::take`](crate::store::file::FileStore::take).
    ///
    /// # Errors
    /// Those of the store and the locker; the upload still exists.
    ///
    /// # Cancel safety
    /// If dropped, the upload may exist or not; repeat the call.
    pub async fn remove(&self, id: &UploadId) -> Result<bool, HandlerError> {
        if let Some(registry) = self.0.engine.registry_of(id) {
            return registry.remove(id).await.map_err(HandlerError::Other);
        }
        match self
            .0
            .engine
            .remove_by_id(RequestContext::NONE, id, TerminationReason::Application)
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.problem().kind == ProblemKind::NotFound => {
                Ok(self.0.engine.remove_remains(id).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns an upload by id, even if it has expired.
    ///
    /// A completion or concatenation that a crash interrupted is finished first.
    ///
    /// # Errors
    /// Those of the store, the locker and the hooks.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn get(&self, id: &UploadId) -> Result<Option<Snapshot>, HandlerError> {
        if let Some(registry) = self.0.engine.registry_of(id) {
            return registry.get(id).await.map_err(HandlerError::Other);
        }
        Ok(self.0.engine.get(id).await?)
    }

    /// Removes an upload as a client's DELETE does, for an operator: `pre-terminate` hooks may deny it, and
    /// the events are those of a termination.
    ///
    /// It works even if clients cannot remove uploads. Access is not checked. Returns the hooks' decision;
    /// the upload is removed if that is [`Decision::Allow`].
    ///
    /// # Errors
    /// Those of the store, the locker and the hooks; the upload still exists.
    ///
    /// # Cancel safety
    /// If dropped, the upload may exist or not; repeat the call.
    #[doc(hidden)]
    pub async fn terminate_by_id(&self, id: &UploadId) -> Result<Decision, HandlerError> {
        match self.0.engine.terminate(RequestContext::NONE, id).await {
            Ok(reply) => Ok(Decision::Allow(
                reply.map(|reply| *reply).unwrap_or_default(),
            )),
            Err(Error::Rejected(_, reply)) => Ok(Decision::Deny(*reply)),
            Err(error) => match error.problem().kind {
                // Expired, external, or remains of an interrupted removal.
                ProblemKind::NotFound | ProblemKind::Gone => {
                    self.remove(id).await?;
                    Ok(Decision::Allow(ClientResponse::default()))
                }
                _ => Err(error.into()),
            },
        }
    }

    /// Returns for how long the client of a running request has sent nothing; `None` if no request of this
    /// process writes the upload.
    #[must_use]
    pub fn silent_for(&self, id: &UploadId) -> Option<Duration> {
        self.0.engine.silent_for(id)
    }

    /// Returns the time from which an upload may be removed because of its age.
    #[must_use]
    pub fn expiry(&self, found: &Snapshot) -> Option<SystemTime> {
        self.0.engine.expiry_of(found)
    }

    /// Returns the URL for creating uploads, as the client of this request sees it.
    ///
    /// It has the format of `Location`.
    #[must_use]
    pub fn creation_url(&self, request: &Parts) -> String {
        self.0.urls.creation_url(request)
    }

    /// Returns the address of the client; `None` if it is not known.
    ///
    /// Headers of trusted proxies are honored.
    #[must_use]
    pub fn client(&self, request: &Parts) -> Option<IpAddr> {
        self.0.urls.client(request)
    }

    /// Returns whether the client uses HTTPS, and the `host[:port]` it connects to, if known.
    ///
    /// Headers of trusted proxies are honored.
    #[must_use]
    pub fn external_origin(&self, request: &Parts) -> (bool, Option<String>) {
        self.0.urls.external_origin(request)
    }

    /// Resolves a prepared event for a sink: returns whether the effect has happened.
    ///
    /// For events whose process died, or that were prepared a while ago, of the upload `id` created at
    /// `created`. Completes an upload whose completion was interrupted: calls its hooks and emits the event.
    ///
    /// # Errors
    /// Those of the store, the locker and the hooks: try again later.
    ///
    /// # Cancel safety
    /// May be dropped; try again later.
    pub async fn resolve(
        &self,
        kind: EventKind,
        id: &UploadId,
        created: Option<SystemTime>,
    ) -> Result<Resolution, HandlerError> {
        let engine = &self.0.engine;
        let outcome = match self.0.engine.registry_of(id) {
            Some(registry) => {
                let resolved = registry.resolve(kind, id, created).await;
                resolved.map_err(HandlerError::Other)?
            }
            None => engine.resolve(kind, id, created).await?,
        };
        engine.record_resolved(kind, id, &outcome).await?;
        Ok(outcome)
    }

    /// Returns the hooks and sinks, for uploads whose bytes bypass this handler.
    #[doc(hidden)]
    #[must_use]
    pub fn hook_dispatcher(&self) -> HookDispatcher {
        HookDispatcher::new(self.0.engine.clone())
    }

    /// Returns a snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot(&self.0.engine)
    }

    /// Adds the CORS headers of a response that this handler did not make: without them, a page that may use
    /// the uploads sees a network error instead of the response.
    pub fn add_cors_fields(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if let Some(cors) = &self.0.cors {
            cors.apply(cors.origin(request), false, response);
        }
    }

    /// Handles any request below the base path.
    pub fn handle<B: RequestBody>(
        &self,
        mut request: Request<B>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<B> {
        let id = self.route(&mut request);
        self.respond(request, id, None)
    }

    /// Handles any request on the creation URL (`None`) or on an upload, for custom routes.
    ///
    /// The method decides, or for one that is not safe the header `X-HTTP-Method-Override`: a route for GET only
    /// downloads.
    /// Browsers need OPTIONS on both.
    ///
    /// Clients of the IETF draft create uploads at any URL. Here the route of `PUT /photos/NAME` passes its
    /// requests on, and the upload gets the id `NAME`:
    ///
    /// ```
    /// use landfall::{Config, Handler, store::MemoryStore, upload::UploadId};
    /// use landfall::hook::{ClientResponse, CreateDecision};
    ///
    /// let config = Config::new(MemoryStore::new()).before_create(|request, _upload| async move {
    ///     let name = request.uri.path().trim_start_matches("/photos/");
    ///     Ok(match UploadId::new(name) {
    ///         Ok(id) => CreateDecision::allow().id(id),
    ///         Err(error) => CreateDecision::deny(ClientResponse::text(400, error.to_string())),
    ///     })
    /// });
    /// let uploads = Handler::new(config)?;
    /// # async fn route<B: landfall::service::RequestBody>(uploads: Handler, request: http::Request<B>) {
    /// let response = uploads.handle_at(None, request).await;
    /// # }
    /// # Ok::<(), landfall::ConfigError>(())
    /// ```
    ///
    /// An id that exists is 409. The client resumes at the URL in `Location`, which is below the base path.
    pub fn handle_at<B: RequestBody>(
        &self,
        id: Option<&str>,
        request: Request<B>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<B> {
        self.run_as(None, id, request)
    }

    /// Handles a request as OPTIONS, whatever its method: returns the capabilities.
    pub fn options<B: RequestBody>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<B> {
        self.run_as(Some(&Method::OPTIONS), None, request)
    }

    /// Handles a request as POST, whatever its method: creates an upload.
    pub fn create<B: RequestBody>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<B> {
        self.run_as(Some(&Method::POST), None, request)
    }

    upload_operations! {
        /// Handles a request as HEAD, whatever its method: returns the offset.
        inspect = HEAD;
        /// Handles a request as PATCH, whatever its method: appends bytes.
        append = PATCH;
        /// Handles a request as GET, whatever its method: returns the bytes.
        download = GET;
        /// Handles a request as DELETE, whatever its method: removes the upload.
        terminate = DELETE;
    }

    fn run_as<B: RequestBody>(
        &self,
        method: Option<&'static Method>,
        id: Option<&str>,
        mut request: Request<B>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<B> {
        self.restore(&mut request);
        self.respond(request, Some(id.map(UploadUrls::unescaped)), method)
    }

    /// Returns the id that the URL contains, or `None` for a URL that is not below the base path.
    fn route<B>(&self, request: &mut Request<B>) -> Option<RequestedId> {
        self.restore(request);
        let escaped = self.0.urls.below(request)?;
        Some((!escaped.is_empty()).then(|| UploadUrls::id(escaped)))
    }

    fn restore<B>(&self, request: &mut Request<B>) {
        #[cfg(feature = "axum")]
        let original = axum::adopt(request);
        #[cfg(not(feature = "axum"))]
        let original = None;
        self.0.urls.restore(request, original);
    }

    /// Runs origin, version, operation, response. Without an id, the URL is not below the base path. `method` replaces
    /// that of the request.
    ///
    /// Not an `async fn`: its future would store the request twice.
    fn respond<B: RequestBody>(
        &self,
        request: Request<B>,
        id: Option<RequestedId>,
        method: Option<&'static Method>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<B> {
        let handler = self.clone();
        let (mut parts, body) = request.into_parts();
        async move {
            let mut reply = ResponseBuilder::reused();
            let Some(id) = &id else {
                response::not_found(&mut reply);
                return reply.into_response(parts);
            };
            let mut body = pin!(body);
            let target = id.as_ref().map_or(Target::Collection, |_| Target::Upload);
            let inner = &*handler.0;
            inner.engine.start_redelivery();
            let fields = Fields::new(&parts.headers);
            let names = fields.names();
            let accepted = &inner.engine.config.interop_versions;
            let sent = method.unwrap_or(&parts.method);
            let draft = DraftRequest::detect(sent, target, fields, accepted);
            // In a block, so that the future stores no more than the outcome.
            let (operation, rejected) = {
                let operation = match (method, draft) {
                    (Some(method), _) => Ok(method.clone()),
                    (None, Some(_)) => Ok(parts.method.clone()),
                    (None, None) => effective_method(&parts.method, fields),
                };
                let operation = operation.and_then(|method| match draft {
                    Some(draft) => draft.operation(&method, target, inner.extensions),
                    None => Operation::parse(&method, target, inner.extensions),
                });
                let parsed = operation.as_ref().ok().copied();
                (parsed, operation.err().map(Box::new))
            };
            let counters = &inner.counters;
            counters.count_request(operation.as_ref(), &parts.method);
            let context = {
                let path = match id {
                    None => "",
                    Some(Ok(id)) => id.as_str(),
                    Some(Err(_)) => parts.uri.path(),
                };
                let is_logged = tracing::enabled!(target: REQUEST_LOG, tracing::Level::DEBUG);
                let logged = is_logged.then(|| {
                    let request = (path, response::request_id(&parts));
                    let creation_url = inner.urls.creation_url(&parts);
                    LoggedRequest::new(&parts, request, creation_url, inner.engine.config.lenient)
                        .into()
                });
                log_request!(logged.as_deref(), "RequestIncoming");
                // The token must not be logged, stored or forwarded from here on.
                let token = UploadToken::extract_named(&mut parts.headers, names);
                if !body.is_end_stream() {
                    detach::detach(&mut parts);
                }
                let needs_context = inner.engine.needs_request_info();
                let client = inner.urls.client(&parts);
                let info = needs_context.then(|| Arc::new(RequestInfo::from_parts(&parts, token)));
                RequestContext::new(info, client, logged)
            };
            let mut head = RequestHead {
                parts: &parts,
                names,
                context,
                content_length: None,
                draft,
            };
            let wants_head = operation.map_or(parts.method == Method::HEAD, |operation| {
                operation == Operation::Inspect
            });
            let mut is_preflight = false;
            let cors = inner.cors.as_ref();
            let fields = Fields::with_names(&parts.headers, names);
            let has_origin = fields.contains(&header::ORIGIN);
            let result = if has_origin && cors.is_some_and(|cors| !cors.allows(&parts.headers)) {
                Err(Rejection::from(Error::from(ProblemKind::OriginNotAllowed)))
            } else {
                match operation {
                    None => Err(rejected
                        .map_or(ProblemKind::Internal.into(), |problem| *problem)
                        .into()),
                    Some(Operation::Options) => {
                        is_preflight = true;
                        handler.capabilities(draft, &mut reply);
                        Ok(())
                    }
                    Some(operation) => {
                        let (body, id) = (body.as_mut(), id.as_ref());
                        let operated = handler.operate(&mut head, body, operation, id, &mut reply);
                        operated.await
                    }
                }
            };
            let handled = Handled {
                draft,
                operation,
                target,
                wants_head,
                has_origin,
                is_preflight,
            };
            let mut ended = Ended::default();
            let id = id.as_ref();
            let log = (head.context.log(), &mut ended);
            handler.complete(&parts, id, &handled, result, &mut reply, log);
            if ended.closes && !body.is_end_stream() {
                // Boxed because it is rare: the largest branch sets the size of every request's future.
                Box::pin(response::close_after(&parts, body, &mut reply.headers)).await;
            }
            if let Some(logged) = head.context.log() {
                let id = id.and_then(|id| id.as_ref().ok()).map(UploadId::as_str);
                logged.log_response(id, operation, reply.status, &ended.error);
            }
            drop(head);
            reply.into_response(parts)
        }
    }

    /// Adds what all responses have. A separate function, so that the future of a request stores less.
    fn complete(
        &self,
        parts: &Parts,
        id: Option<&Result<UploadId, Problem>>,
        handled: &Handled,
        result: Result<(), Rejection>,
        reply: &mut ResponseBuilder,
        (logged, ended): (Option<&LoggedRequest>, &mut Ended),
    ) {
        let inner = &*self.0;
        let Handled {
            draft,
            operation: parsed,
            target,
            wants_head,
            has_origin,
            is_preflight,
        } = *handled;
        ended.closes = result.is_err() || reply.close_after;
        let names_tus =
            result.is_err() || !reply.created_by_draft || !self.names_no_protocol(&parts.headers);
        let id = id.and_then(|id| id.as_ref().ok());
        if let Err(rejection) = &result {
            let error = &rejection.error;
            if logged.is_some() {
                ended.error = error.problem().to_string();
            }
            response::log(error, parts, id, logged);
            let problem = draft.map_or_else(|| error.problem(), |_| rufh::problem(error));
            let name = id.map(UploadId::as_str);
            inner.counters.warn_of_rejection(&problem, name);
            *reply = match draft {
                None => response::reject(rejection, parsed, target, inner.extensions),
                Some(draft) => {
                    let engine = &inner.engine;
                    let max_age = rejection.expires.map(|at| engine.time_until_expiry(at));
                    let limits = rufh::limits(&engine.config.limits, max_age);
                    let (fields, offered) = (&parts.headers, inner.extensions);
                    rufh::reject(rejection, draft, handled, fields, offered, limits)
                }
            };
            let counters = &inner.counters;
            counters.count_error(reply.status, error.problem().code());
        }
        let lines = &mut reply.lines;
        lines.add_constant("X-Content-Type-Options: nosniff\r\n");
        match draft {
            Some(draft) => rufh::set_version(draft, &mut reply.headers),
            None if !names_tus => {}
            None => lines.add_constant("Tus-Resumable: 1.0.0\r\n"),
        }
        if let Some(cors) = &inner.cors {
            lines.add_constant(Cors::VARY);
            if has_origin && let Some(origin) = cors.origin(&parts.headers) {
                cors.allow(origin, is_preflight, &mut reply.headers);
            }
        }
        if wants_head && parts.method != Method::HEAD {
            reply.outcome = ResponseContent::Empty;
        }
    }
}

impl<B: RequestBody + 'static> tower_service::Service<Request<B>> for Handler {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = self.route(&mut request);
        Box::pin(self.respond(request, id, None).map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use http::StatusCode;
    use http_body::{Body, Frame};
    use http_body_util::Full;
    use landfall_protocol::{Append, Create, TUS_VERSION, headers};

    use super::*;
    use crate::{
        engine::{AppendRequest, CreateRequest},
        store::MemoryStore,
    };

    /// A body without content, which sees whether the head still shares the server's buffer.
    struct Probe(Bytes, Arc<AtomicBool>);

    impl Body for Probe {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.1.store(!self.0.is_unique(), Ordering::Relaxed);
            Poll::Ready(None)
        }
    }

    #[tokio::test]
    async fn a_head_shares_the_buffer_only_of_servers_that_do_not_use_it_again() {
        for shares in [false, true] {
            let handler = Handler::new(Config::new(MemoryStore::new())).unwrap();
            let buffer = Bytes::copy_from_slice(b"name YQ==");
            let is_shared = Arc::new(AtomicBool::new(!shares));
            let value = HeaderValue::from_maybe_shared(buffer.clone()).unwrap();
            let mut request = Request::post("/files/")
                .header(headers::TUS_RESUMABLE, TUS_VERSION)
                .header(headers::UPLOAD_LENGTH, 5)
                .header(headers::UPLOAD_METADATA, value)
                .header(header::CONTENT_TYPE, "application/offset+octet-stream")
                .body(Probe(buffer, is_shared.clone()))
                .unwrap();
            if shares {
                request.extensions_mut().insert(FieldLines::default());
            }
            let created = handler.handle(request).await;
            assert_eq!(created.status(), StatusCode::CREATED);
            assert_eq!(is_shared.load(Ordering::Relaxed), shares);
        }
    }

    /// A slow client occupies the future of its request for a long time, and those of fast ones are moved.
    #[test]
    fn the_futures_of_requests_have_at_most_2_kib() {
        let handler = Handler::new(Config::new(MemoryStore::new())).unwrap();
        let request = Request::patch("/files/a")
            .header(headers::UPLOAD_OFFSET, 0)
            .header(headers::UPLOAD_LENGTH, 5)
            .header(header::CONTENT_TYPE, "application/offset+octet-stream")
            .body(Full::new(Bytes::new()))
            .unwrap();
        let (parts, body) = request.clone().into_parts();
        let (engine, extensions) = (&handler.0.engine, handler.0.extensions);
        let head = Append::parse(&parts.headers, extensions, Syntax::Strict).unwrap();
        let mut append = AppendRequest {
            head,
            content_length: None,
            max_content: u64::MAX,
        };
        let head = Create::parse(&parts.headers, extensions, None, Syntax::Strict).unwrap();
        let create = CreateRequest {
            head,
            parts: Vec::new(),
            content_length: None,
        };
        let (id, no_upload) = (UploadId::random(), Err(ProblemKind::Internal.into()));
        let mut body = pin!(body);
        let handle = size_of_val(&handler.handle(request.clone()));
        let respond = size_of_val(&handler.respond(request, None, None));
        let operation = Operation::Append;
        let mut reply = ResponseBuilder::reused();
        let mut head = RequestHead {
            parts: &parts,
            names: Fields::new(&parts.headers).names(),
            context: RequestContext::NONE.clone(),
            content_length: None,
            draft: None,
        };
        let operate = {
            let (head, body) = (&mut head, body.as_mut());
            size_of_val(&handler.operate(head, body, operation, None, &mut reply))
        };
        let create = size_of_val(&engine.create(RequestContext::NONE, create, &mut None));
        let complete = size_of_val(&engine.complete_create(
            RequestContext::NONE,
            no_upload,
            None,
            0,
            None,
            &mut body,
        ));
        let append = size_of_val(&engine.append(
            RequestContext::NONE,
            &id,
            &mut append,
            None,
            &mut body,
            &mut None,
        ));
        let sizes = [handle, respond, operate, create, complete, append];
        assert!(sizes.iter().all(|size| *size <= 2048), "{sizes:?}");
    }
}
