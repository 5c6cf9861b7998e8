//! Decides by path which part of the server responds to a request: uploads, an API, or a page of this module.
//!
//! The order matters. Validations by an ACME authority come before the redirect to HTTPS, because they must not be
//! redirected. APIs come before uploads, whose base path may include theirs. `/readyz` is public and sends the texts of
//! conditions without their details.

use std::{mem, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use landfall::{Handler, service::Peer, store::BoxError};
use landfall_http::{
    Body, NetStats, OtherBody, OtherResponse, Routes, Shutdown, ShutdownPhase, Tls,
};
use parking_lot::RwLock;

use super::grants::ApiRoutes;
use super::{metrics, parts::AppParts, proxies::UntrustedProxies, tls::HttpsRedirect};
#[cfg(feature = "full")]
use crate::trace;
use crate::{
    asset::Asset,
    condition::Effect,
    page::{self, PageSettings},
    settings::Settings,
};

const LOGO_URL: &str = "./_landfall/logo";

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn other_body<B>(body: B) -> OtherBody
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

#[derive(Debug)]
pub(super) struct AppRoutes {
    base: String,
    metrics_path: Option<String>,
    greeting: RwLock<Option<Bytes>>,
    logo: Option<Asset>,
    policy: HeaderValue,
    parts: Arc<AppParts>,
    pub(super) stats: Arc<NetStats>,
    shutdown: Shutdown,
    proxies: Option<UntrustedProxies>,
    redirect: Option<HttpsRedirect>,
    tls: Option<Tls>,
    acme: Option<landfall_acme::Acme>,
    api: ApiRoutes,
}

impl AppRoutes {
    pub(super) fn new(
        settings: &Settings,
        handler: &Handler,
        parts: Arc<AppParts>,
        shutdown: Shutdown,
        tls: Option<Tls>,
        redirect: Option<HttpsRedirect>,
        acme: Option<landfall_acme::Acme>,
    ) -> anyhow::Result<Self> {
        let base = settings.urls.base_path.clone();
        let monitoring = &settings.monitoring;
        let logo = monitoring.page_logo.as_deref().map(|path| {
            let place = || format!("--page-logo {}", path.display());
            Asset::read_image(path).with_context(place)
        });
        let logo = logo.transpose()?;
        let exposes = monitoring.expose_metrics;
        Ok(Self {
            metrics_path: exposes.then(|| monitoring.metrics_path.clone()),
            policy: content_security_policy(settings.urls.public_url()),
            base,
            greeting: RwLock::new(greeting(settings, handler, logo.is_some())),
            logo,
            api: ApiRoutes::new(settings, &parts, handler, &shutdown)?,
            proxies: UntrustedProxies::new(&settings.urls, &parts.conditions),
            parts,
            stats: Arc::default(),
            shutdown,
            redirect,
            tls,
            acme,
        })
    }

    /// The base path `/` has all paths, except health checks and metrics.
    fn is_upload_path(&self, path: &str) -> bool {
        let is_below = path.starts_with(self.base.as_str())
            || path.len() + 1 == self.base.len() && self.base.starts_with(path);
        is_below && !self.is_probe_path(path)
    }

    fn is_probe_path(&self, path: &str) -> bool {
        matches!(path, "/healthz" | "/readyz") || self.metrics_path.as_deref() == Some(path)
    }

    async fn respond(&self, parts: &Parts, handler: &Handler) -> Response<OtherBody> {
        let path = parts.uri.path();
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return not_found();
        }
        if self.metrics_path.as_deref() == Some(path) {
            let text = metrics::render(
                &handler.stats(),
                &self.stats,
                &self.parts,
                self.tls.as_ref(),
                self.acme.as_ref(),
                &self.api,
            )
            .await;
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            return respond(StatusCode::OK, kind, text.into());
        }
        match path {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness().await,
            "/" => match self.greeting.read().clone() {
                Some(html) => html_response(html, self.policy.clone()),
                None => not_found(),
            },
            _ => path
                .strip_prefix(page::ASSET_PREFIX)
                .filter(|_| self.greeting.read().is_some())
                .and_then(|name| match name {
                    "logo" => self.logo,
                    _ => page::asset(name),
                })
                .map_or_else(not_found, |asset| asset_response(asset, &parts.headers)),
        }
    }

    async fn readiness(&self) -> Response<OtherBody> {
        if self.shutdown.phase() > ShutdownPhase::Running {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
        }
        self.parts.check_readiness().await;
        // The list is sorted: those that prevent uploads are first.
        let conditions = self.parts.conditions.list();
        let is_ready = !conditions
            .iter()
            .any(|one| one.kind.effect() == Effect::NotReady);
        let mut lines: Vec<&str> = conditions.iter().map(|one| one.kind.text()).collect();
        lines.dedup();
        let (status, start) = match is_ready {
            true => (StatusCode::OK, "ready\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, ""),
        };
        let lines = lines.iter().flat_map(|line| [*line, "\n"]);
        let text: String = [start].into_iter().chain(lines).collect();
        respond(status, PLAIN, text.into())
    }
}

#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) handler: Handler,
    pub(super) routes: Arc<AppRoutes>,
}

impl App {
    pub(super) fn set_greeting(&self, settings: &Settings) {
        let has_logo = self.routes.logo.is_some();
        *self.routes.greeting.write() = greeting(settings, &self.handler, has_logo);
    }
}

fn greeting(settings: &Settings, handler: &Handler, has_logo: bool) -> Option<Bytes> {
    let (urls, monitoring) = (&settings.urls, &settings.monitoring);
    let endpoint = urls.public_url().unwrap_or(&urls.base_path);
    let html = || {
        page::index(&PageSettings {
            endpoint,
            max_size: settings.protocol.max_size,
            version: env!("CARGO_PKG_VERSION"),
            download: handler.can_download(),
            grants: Some(settings.grants.path.as_str()).filter(|_| settings.grants.enabled),
            token_endpoint: Some(settings.grants.path.as_str())
                .filter(|_| settings.grants.required),
            title: monitoring.page_title.as_deref(),
            text: monitoring.page_text.as_deref(),
            logo: has_logo.then_some(LOGO_URL),
        })
    };
    settings.has_page().then(|| html().into())
}

impl Routes for App {
    fn respond(&self, request: &mut Request<Body>) -> Option<OtherResponse> {
        if let Some(proxies) = &self.routes.proxies
            && let Some(peer) = request.extensions().get::<Peer>()
        {
            proxies.check(peer.address, request.headers());
        }
        #[cfg(feature = "full")]
        if trace::is_on() && !self.routes.is_probe_path(request.uri().path()) {
            let path = request.uri().path();
            let is_upload =
                self.routes.is_upload_path(path) && self.routes.api.find(path).is_none();
            let base = is_upload.then_some(self.routes.base.as_str());
            let span = trace::request(request, base);
            let response = span.in_scope(|| {
                let other = self.respond_to_other(request);
                other.unwrap_or_else(|| landfall_http::respond(&self.handler, mem::take(request)))
            });
            return Some(Box::pin(trace::response(span, is_upload, response)));
        }
        self.respond_to_other(request)
    }
}

impl App {
    /// The redirect to HTTPS, if that is where the request has to go.
    fn redirect(&self, request: &Request<Body>) -> Option<&HttpsRedirect> {
        let redirect = self.routes.redirect.as_ref()?;
        let peer = request.extensions().get::<Peer>()?;
        (!peer.tls && peer.address.is_some()).then_some(redirect)
    }

    /// `None` if the handler of uploads responds.
    fn respond_to_other(&self, request: &mut Request<Body>) -> Option<OtherResponse> {
        if request.uri().path() == "*" {
            return ready(about_server(request.method()));
        }
        if let Some(acme) = &self.routes.acme
            && let Some(response) = super::acme::respond(acme, request)
        {
            return ready(response);
        }
        if let Some(redirect) = self.redirect(request) {
            return ready(redirect_to(redirect.location(request)));
        }
        if let Some(group) = self.routes.api.find(request.uri().path()).cloned() {
            let request = mem::take(request);
            let response = async move { group.respond(request).await.map(other_body) };
            return Some(Box::pin(response));
        }
        if self.routes.is_upload_path(request.uri().path()) {
            return None;
        }
        let (parts, _) = mem::take(request).into_parts();
        let (routes, handler) = (self.routes.clone(), self.handler.clone());
        let response = async move { routes.respond(&parts, &handler).await };
        Some(Box::pin(response))
    }
}

fn ready(response: Response<OtherBody>) -> Option<OtherResponse> {
    Some(Box::pin(async { response }))
}

fn respond(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<OtherBody> {
    let mut response = Response::new(other_body(Full::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    let fixed = HeaderValue::from_static;
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(header::CACHE_CONTROL, fixed("no-cache"));
    response
}

pub(super) fn challenge_response(text: String) -> Response<OtherBody> {
    let kind = HeaderValue::from_static("application/octet-stream");
    respond(StatusCode::OK, kind, text.into())
}

pub(super) fn not_found() -> Response<OtherBody> {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response<OtherBody> {
    respond(status, PLAIN, Bytes::from_static(text.as_bytes()))
}

/// The target `*` is the server as a whole (RFC 9110 section 9.3.7).
fn about_server(method: &Method) -> Response<OtherBody> {
    if method != Method::OPTIONS {
        return plain(StatusCode::BAD_REQUEST, "the target * is for OPTIONS\n");
    }
    let mut response = Response::new(other_body(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn redirect_to(location: Option<HeaderValue>) -> Response<OtherBody> {
    let Some(location) = location else {
        return plain(StatusCode::BAD_REQUEST, "the Host header is not valid\n");
    };
    let mut response = plain(StatusCode::PERMANENT_REDIRECT, "use https://\n");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn html_response(html: Bytes, policy: HeaderValue) -> Response<OtherBody> {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = respond(StatusCode::OK, kind, html);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let no_referrer = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, no_referrer);
    response
}

/// May connect to its own origin and to that of the public URL, which can differ.
fn content_security_policy(public_url: Option<&str>) -> HeaderValue {
    let own = HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
    let Some((scheme, rest)) = public_url.and_then(|url| url.split_once("://")) else {
        return own;
    };
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !host.bytes().all(is_plain) {
        return own;
    }
    let connect = format!("connect-src 'self' {scheme}://{host}");
    let extended = page::CONTENT_SECURITY_POLICY.replace("connect-src 'self'", &connect);
    HeaderValue::from_str(&extended).unwrap_or(own)
}

fn asset_response(asset: Asset, request_headers: &HeaderMap) -> Response<OtherBody> {
    let (status, headers, bytes) = asset.respond(request_headers);
    let mut response = Response::new(other_body(Full::from(bytes)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
