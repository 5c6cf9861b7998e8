//! Traces for OpenTelemetry: spans of requests, store calls, leases and hooks, sent over OTLP/HTTP.
//!
//! Without an endpoint no span is created: [`is_on`] costs an atomic load for each request. Spans are
//! those of the crate `tracing` with one target, which the log does not print. Spans of a request are
//! children of the current span; an event that is delivered later has its parent in its message.

mod export;
mod store;

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use http::{Request, Response, StatusCode, header};
use landfall::service::Peer;
use landfall_hooks::{DeliveryError, HookResponse, Message, TraceContext};
use opentelemetry::{
    Context,
    propagation::TextMapPropagator as _,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, Tracer},
};
use tracing::{Instrument as _, Span, Subscriber, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

pub(crate) use self::store::store;

const TARGET: &str = "landfall::trace";

/// Part of the time that a service manager waits for the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Starts the exporter if the environment names a collector.
///
/// # Errors
/// The endpoint is not a URL, or there are no certificates for `https`.
pub(crate) fn init() -> anyhow::Result<()> {
    if let Some(provider) = export::provider()? {
        let _ = PROVIDER.set(provider);
    }
    Ok(())
}

pub(crate) fn is_on() -> bool {
    PROVIDER.get().is_some()
}

/// Returns the layer that turns spans into those of OpenTelemetry.
pub(crate) fn layer<S>() -> Option<impl Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let tracer: Tracer = PROVIDER.get()?.tracer("landfall");
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    Some(layer.with_filter(filter_fn(|metadata| metadata.target() == TARGET)))
}

/// Sends the waiting spans.
pub(crate) async fn flush() {
    let Some(provider) = PROVIDER.get() else {
        return;
    };
    let flush = tokio::task::spawn_blocking(|| provider.shutdown_with_timeout(FLUSH_TIMEOUT));
    if !matches!(flush.await, Ok(Ok(()))) {
        tracing::warn!("failed to send the last traces");
    }
}

/// Calls `push` with the names and values of the ids of the current span.
pub(crate) fn with_ids(mut push: impl FnMut(&str, &str)) {
    let context = Context::current();
    let span = context.span();
    let ids = span.span_context();
    if ids.is_valid() {
        push("trace_id", &ids.trace_id().to_string());
        push("span_id", &ids.span_id().to_string());
    }
}

fn is_in_trace() -> bool {
    Context::current().span().span_context().is_valid()
}

fn trace_context(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| TraceContext {
        parent: format!(
            "00-{}-{}-{:02x}",
            ids.trace_id(),
            ids.span_id(),
            ids.trace_flags().to_u8() & 1
        ),
        state: Some(ids.trace_state().header()).filter(|state| !state.is_empty()),
    })
}

/// Returns the span of a request, which continues the trace of its `traceparent`.
///
/// `base` is the base path of uploads, for a request for one. Other paths may have a token after `/t/`, which
/// collectors must not receive.
pub(crate) fn request<B>(request: &mut Request<B>, base: Option<&str>) -> Span {
    let (method, path) = (request.method().as_str(), request.uri().path());
    let id = base
        .and_then(|base| path.strip_prefix(base))
        .filter(|id| !id.is_empty());
    let route = base.map(|base| match id {
        Some(_) => format!("{base}{{id}}"),
        None => base.to_owned(),
    });
    let name = match &route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    };
    let redacted = match (base, path.find("/t/")) {
        (None, Some(at)) => &format!("{}/t/-", &path[..at]),
        _ => path,
    };
    let agent = request.headers().get(header::USER_AGENT);
    let client = request.extensions().get::<Peer>();
    let client = client.and_then(|peer| Some(peer.address?.ip()));
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        url.path = redacted,
        url.scheme = "http",
        client.address = client.map(field::display),
        user_agent.original = agent.and_then(|agent| agent.to_str().ok()),
        http.response.status_code = field::Empty,
        error.type = field::Empty,
        landfall.upload.id = id,
    );
    let headers = HeaderExtractor(request.headers());
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    let _ = span.set_parent(parent);
    if let Some(context) = trace_context(&span) {
        request.extensions_mut().insert(context);
    }
    span
}

/// Waits for the response in the span of its request.
pub(crate) async fn response<R>(
    span: Span,
    is_upload: bool,
    response: impl Future<Output = Response<R>>,
) -> Response<R> {
    let response = response.instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    let created = response.headers().get(header::LOCATION);
    let created = created.and_then(|url| url.to_str().ok()?.rsplit('/').next());
    if let Some(id) = created.filter(|_| is_upload && status == StatusCode::CREATED) {
        span.record("landfall.upload.id", id);
    }
    response
}

/// Returns a span for the delivery of a message, and the message with the context of that span.
pub(crate) fn delivery(transport: &str, message: &Message) -> Option<(Span, Message)> {
    if !is_on() {
        return None;
    }
    let kind = match transport {
        "nats" | "amqp" | "redis" | "kafka" => "producer",
        _ => "client",
    };
    let hook = message.hook.as_str();
    let span = tracing::info_span!(
        target: TARGET,
        "hook",
        otel.name = format!("hook {hook}"),
        otel.kind = kind,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        landfall.hook = hook,
        landfall.hook.transport = transport,
        landfall.event.id = message.id,
        landfall.upload.id = Some(&*message.upload.id).filter(|id| !id.is_empty()),
    );
    // A blocking hook runs in its request; an event has the context of the request that caused it.
    if !is_in_trace() && message.trace.is_some() {
        let headers = message.trace_headers();
        let headers: HashMap<_, _> = headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let _ = span.set_parent(TraceContextPropagator::new().extract(&headers));
    }
    let message = Message {
        trace: trace_context(&span),
        ..message.clone()
    };
    Some((span, message))
}

/// Runs a delivery in its span.
pub(crate) async fn run(
    span: &Span,
    delivery: impl Future<Output = Result<HookResponse, DeliveryError>>,
) -> Result<HookResponse, DeliveryError> {
    let result = delivery.instrument(span.clone()).await;
    record(span, &result);
    result
}

fn record<T>(span: &Span, result: &Result<T, impl std::fmt::Display>) {
    if let Err(error) = result {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", field::display(error));
    }
}
