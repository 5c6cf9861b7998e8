//! Which path goes where.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::ext::ReasonPhrase;
use landfall::{Handler, service::Peer};
use tower_service::Service;

#[cfg(feature = "direct")]
use super::direct::Direct;
#[cfg(feature = "grants")]
use super::grants::{Grants, Pages};
use super::{
    body::{AnswerBody, UploadBody},
    hooks::Hooks,
    metrics,
    proxies::UntrustedProxies,
    storage::Storage,
};
use crate::{
    asset::Asset,
    net::{self, ConnectionInfo, Endpoint, NetStats, Shutdown, Step},
    page::{self, PageSettings},
    settings::Settings,
};

/// The pages beside the uploads: greeting, metrics, health.
#[derive(Debug)]
pub(super) struct Site {
    base: String,
    metrics_path: Option<String>,
    greeting: Option<Bytes>,
    /// `Content-Security-Policy` of the greeting.
    policy: HeaderValue,
    storage: Arc<Storage>,
    hooks: Arc<Hooks>,
    stats: Arc<NetStats>,
    shutdown: Shutdown,
    /// Looks for proxies, if one is expected.
    proxies: Option<UntrustedProxies>,
    #[cfg(feature = "grants")]
    grants: Option<(Arc<Grants>, Pages)>,
    #[cfg(feature = "direct")]
    direct: Option<Arc<Direct>>,
}

impl Site {
    pub(super) fn new(
        settings: &Settings,
        handler: &Handler,
        storage: Arc<Storage>,
        hooks: Arc<Hooks>,
        stats: Arc<NetStats>,
        shutdown: Shutdown,
    ) -> Self {
        let base = settings.urls.base_path.clone();
        let greets = settings.monitoring.show_greeting && base != "/";
        let greeting = greets.then(|| {
            Bytes::from(page::index(&PageSettings {
                endpoint: settings.urls.public_url.as_deref().unwrap_or(&base),
                max_size: settings.protocol.max_size,
                version: env!("CARGO_PKG_VERSION"),
                download: handler.can_download(),
                ask_at: Some(settings.grants.path.as_str()).filter(|_| settings.grants.required),
            }))
        });
        let monitoring = &settings.monitoring;
        Self {
            metrics_path: monitoring
                .expose_metrics
                .then(|| monitoring.metrics_path.clone()),
            policy: policy(settings.urls.public_url.as_deref()),
            base,
            greeting,
            storage,
            hooks,
            stats,
            shutdown,
            proxies: UntrustedProxies::new(&settings.urls),
            #[cfg(feature = "grants")]
            grants: None,
            #[cfg(feature = "direct")]
            direct: None,
        }
    }

    /// The same with pages for grants and the dashboard.
    #[cfg(feature = "grants")]
    pub(super) fn with_grants(self, grants: Option<(Arc<Grants>, Pages)>) -> Self {
        Self { grants, ..self }
    }

    /// The same with what direct uploads have to tell.
    #[cfg(feature = "direct")]
    pub(super) fn with_direct(self, direct: Option<Arc<Direct>>) -> Self {
        Self { direct, ..self }
    }

    /// The pages for grants, direct uploads and the dashboard, if the path is one of theirs.
    #[cfg(feature = "grants")]
    fn pages(&self, path: &str) -> Option<&Pages> {
        let (_, pages) = self.grants.as_ref()?;
        Some(pages).filter(|pages| pages.has(path))
    }

    /// Whether a path belongs to the uploads. Where they live at `/`, that is all but the pages for
    /// machines.
    fn is_upload_path(&self, path: &str) -> bool {
        let is_below = path.starts_with(self.base.as_str())
            || path.len() + 1 == self.base.len() && self.base.starts_with(path);
        let is_page =
            matches!(path, "/healthz" | "/readyz") || self.metrics_path.as_deref() == Some(path);
        is_below && !is_page
    }

    /// Answers what isn't an upload.
    async fn answer(&self, parts: &Parts, handler: &Handler) -> Response<AnswerBody> {
        let path = parts.uri.path();
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        if self.metrics_path.as_deref() == Some(path) {
            let text = metrics::render(&handler.stats(), &self.stats, &self.storage, &self.hooks);
            #[cfg(feature = "grants")]
            let text = match &self.grants {
                Some((grants, pages)) => {
                    metrics::with_grants(text, &grants.stats().await, &pages.answers())
                }
                None => text,
            };
            #[cfg(feature = "direct")]
            let text = match &self.direct {
                Some(direct) => metrics::with_direct(text, &direct.counts()),
                None => text,
            };
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            return respond(StatusCode::OK, kind, text.into());
        }
        match path {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness().await,
            "/" => match &self.greeting {
                Some(html) => greeting(html.clone(), self.policy.clone()),
                None => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            },
            _ => path
                .strip_prefix(page::ASSET_PREFIX)
                .filter(|_| self.greeting.is_some())
                .and_then(page::asset)
                .map_or_else(
                    || plain(StatusCode::NOT_FOUND, "404 page not found\n"),
                    |asset| file_of_page(asset, &parts.headers),
                ),
        }
    }

    /// Ready to take uploads: not shutting down, and what keeps them can be reached.
    async fn readiness(&self) -> Response<AnswerBody> {
        if self.shutdown.step() > Step::Running {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
        }
        let trouble = match self.storage.trouble().await {
            None => self.hooks.trouble().await,
            some => some,
        };
        #[cfg(feature = "grants")]
        let trouble = match (trouble, &self.grants) {
            (None, Some((grants, _))) => grants.trouble().await,
            (trouble, _) => trouble,
        };
        match trouble {
            None => plain(StatusCode::OK, "ready\n"),
            Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

/// The whole server as one service.
#[derive(Debug, Clone)]
pub(super) struct App {
    handler: Handler,
    site: Arc<Site>,
}

impl App {
    pub(super) fn new(handler: Handler, site: Arc<Site>) -> Self {
        Self { handler, site }
    }
}

impl Service<Request<net::Body>> for App {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<net::Body>) -> Self::Future {
        if let Some(info) = request.extensions().get::<ConnectionInfo>() {
            let address = match info.peer() {
                Endpoint::Tcp(address) => Some(address),
                _ => None,
            };
            let tls = info.scheme() == http::uri::Scheme::HTTPS;
            if let Some(proxies) = &self.site.proxies {
                proxies.check(address, request.headers());
            }
            request.extensions_mut().insert(Peer { address, tls });
        }
        #[cfg(feature = "grants")]
        if let Some(pages) = self.site.pages(request.uri().path()).cloned() {
            return Answer::Other(Box::pin(async move {
                let response = pages.answer(request).await;
                Ok(response.map(AnswerBody::Page))
            }));
        }
        if !self.site.is_upload_path(request.uri().path()) {
            let (parts, _) = request.into_parts();
            let (site, handler) = (self.site.clone(), self.handler.clone());
            return Answer::Other(Box::pin(
                async move { Ok(site.answer(&parts, &handler).await) },
            ));
        }
        Answer::Upload(self.handler.call(request.map(UploadBody)))
    }
}

/// The answer to a request. Not an async block around the handler's future, which would have to be boxed
/// again.
pub(super) enum Answer {
    Upload(<Handler as Service<Request<UploadBody>>>::Future),
    Other(Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Response<AnswerBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Other(answer) => answer.as_mut().poll(cx),
            Self::Upload(answer) => answer.as_mut().poll(cx).map_ok(|mut response| {
                if response.status().as_u16() == 460 {
                    // Nobody else knows a phrase for it (E-28).
                    let phrase = ReasonPhrase::from_static(b"Checksum Mismatch");
                    response.extensions_mut().insert(phrase);
                }
                response.map(AnswerBody::Upload)
            }),
        }
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Text(Some(body).filter(|body| !body.is_empty())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<AnswerBody> {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    respond(status, kind, Bytes::from_static(text.as_bytes()))
}

fn greeting(html: Bytes, policy: HeaderValue) -> Response<AnswerBody> {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = respond(StatusCode::OK, kind, html);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

/// What the greeting may do: talk to its own origin, and to that of the public URL, which it may not
/// have been opened at.
fn policy(public_url: Option<&str>) -> HeaderValue {
    let own = HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
    let Some((scheme, rest)) = public_url.and_then(|url| url.split_once("://")) else {
        return own;
    };
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !host.bytes().all(is_plain) {
        return own;
    }
    let wider = page::CONTENT_SECURITY_POLICY.replace(
        "connect-src 'self'",
        &format!("connect-src 'self' {scheme}://{host}"),
    );
    HeaderValue::from_str(&wider).unwrap_or(own)
}

fn file_of_page(asset: Asset, asked: &HeaderMap) -> Response<AnswerBody> {
    let (status, headers, bytes) = asset.answer(asked);
    let body = Some(Bytes::from_static(bytes)).filter(|bytes| !bytes.is_empty());
    let mut response = Response::new(AnswerBody::Text(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
