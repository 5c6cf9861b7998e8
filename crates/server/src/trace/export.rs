//! Exports spans to an OTLP collector over HTTP, as the standard `OTEL_…` variables configure it.
//!
//! Requests run in the exporter's thread, in a separate runtime, so a slow collector delays no request of a client.
//! A batch that the collector does not take is dropped; the number of its spans is logged at most once a minute.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use http_body_util::Full;
use landfall_http::LogThrottle;
use landfall_net::{Client, Proxies};
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter as Otlp, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tokio::runtime::{self, Runtime};

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns `None` if the environment names no endpoint, or turns traces off.
pub(super) fn provider() -> anyhow::Result<Option<SdkTracerProvider>> {
    let url = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let url = url.or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let is_off = variable("OTEL_SDK_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let Some(url) = url.filter(|_| !is_off) else {
        return Ok(None);
    };
    let sender = Sender::new(url.starts_with("https:"))?;
    let exporter = Otlp::builder().with_http().with_http_client(sender);
    let exporter = ReportingExporter {
        otlp: exporter.build()?,
        dropped: AtomicU64::default(),
        throttle: LogThrottle::default(),
    };
    let mut resource = Resource::builder();
    let names_service = |text: String| text.contains("service.name=");
    if variable("OTEL_SERVICE_NAME").is_none()
        && !variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(names_service)
    {
        resource = resource.with_service_name("landfall");
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.with_attribute(version).build())
        .with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}

/// Reports the spans that the collector did not take, once a minute and at the end.
///
/// Those that find the queue full are reported by the processor.
#[derive(Debug)]
struct ReportingExporter {
    otlp: Otlp,
    dropped: AtomicU64,
    throttle: LogThrottle,
}

impl ReportingExporter {
    fn report(&self, error: &str) {
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, error, "spans of traces were dropped");
        }
    }
}

impl SpanExporter for ReportingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        if let Err(error) = self.otlp.export(batch).await {
            self.dropped.fetch_add(spans, Relaxed);
            if self.throttle.is_due() {
                self.report(&error.to_string());
            }
        }
        // The processor would log the error of each export.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.report("the collector failed or was slow");
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// Sends requests in the thread of the exporter, with a separate runtime.
///
/// So the collector cannot delay other requests, and the end of the server not the last spans.
#[derive(Debug)]
struct Sender {
    runtime: Runtime,
    client: Client<Full<Bytes>>,
    timeout: Duration,
}

impl Sender {
    fn new(is_https: bool) -> anyhow::Result<Self> {
        let roots = landfall_net::system_certificates(is_https)?;
        let tls = landfall_net::client_config(roots)?;
        let timeout = variable("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .and_then(|millis| millis.parse().ok());
        Ok(Self {
            runtime: runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            client: Client::new(&tls, Proxies::from_env()),
            timeout: timeout.map_or(TIMEOUT, Duration::from_millis),
        })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = request.map(Full::new);
        let sent = self.client.send(request, MAX_RESPONSE_BYTES, self.timeout);
        Ok(self.runtime.block_on(sent)?)
    }
}
