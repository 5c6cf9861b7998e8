//! Traces with the real program: a collector decodes what it gets over OTLP/HTTP.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use crate::{
    hooks_endpoint::{Call, Endpoint, unused_address},
    serve_harness::{Landfall, Request, eventually, id_of, program, run},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{CLIENT_SPAN}-01")
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Collector(Endpoint);

impl Collector {
    fn start() -> Self {
        Self(Endpoint::agreeing())
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let decode = |call: &Call| {
            assert_eq!(call.path, "/hooks/v1/traces");
            ExportTraceServiceRequest::decode(&*call.bytes).unwrap()
        };
        self.0.calls().iter().map(decode).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self
            .requests()
            .into_iter()
            .flat_map(|all| all.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    fn waits_for(&self, name: &str) -> Span {
        let find = || self.spans().into_iter().find(|span| span.name == name);
        eventually(&format!("no span {name}"), || find().is_some());
        find().unwrap()
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// Starts a server that sends its traces soon, with these variables.
fn traced(dir: &Path, endpoint: &str, variables: &[(&str, &str)], args: &[&str]) -> Landfall {
    let mut command = program();
    command
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .envs(variables.iter().copied())
        .args(["-host=127.0.0.1", "-port=0", "-upload-dir"])
        .arg(dir)
        .args(args);
    if !endpoint.is_empty() {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    }
    Landfall::spawn(command, dir)
}

fn create(server: &Landfall) -> String {
    let create = Request::post().with("Upload-Length", 5);
    let create = create.with("traceparent", traceparent()).body(b"");
    server.client().ask(create).created()
}

fn upload(server: &Landfall) -> String {
    let path = create(server);
    let append = Request::patch(&path, 0).with("traceparent", traceparent());
    let append = append.with("tracestate", "vendor=1").body(b"hello");
    assert_eq!(server.client().ask(append).status, 204);
    path
}

#[test]
fn one_trace_has_the_request_store_hooks_and_delivery() {
    let (collector, hooks) = (Collector::start(), Endpoint::agreeing());
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "-hooks-http",
        &hooks.url(),
        "-hooks-enabled-events=pre-create,post-finish",
        "-log-format=json",
        "-log-level=debug",
    ];
    let server = traced(dir.path(), &collector.0.url(), &[], &args);
    let path = upload(&server);
    collector.waits_for("PATCH /files/{id}");
    let delivery = collector.waits_for("hook post-finish");
    let hook = collector.waits_for("hook pre-create");
    let post = collector.waits_for("POST /files/");
    let patch = collector.waits_for("PATCH /files/{id}");
    for (span, method, status) in [(&post, "POST", "201"), (&patch, "PATCH", "204")] {
        assert_eq!(span.kind(), SpanKind::Server);
        assert_eq!(hex(&span.parent_span_id), CLIENT_SPAN);
        for (key, value) in [
            ("http.request.method", method),
            ("http.response.status_code", status),
            ("landfall.upload.id", id_of(&path)),
            ("client.address", "127.0.0.1"),
        ] {
            assert_eq!(attribute(span, key).as_deref(), Some(value), "{key}");
        }
    }
    assert_eq!(attribute(&patch, "url.path"), Some(path));
    for (name, parent) in [
        ("store.create", &post),
        ("lease.acquire", &patch),
        ("store.resume", &patch),
        ("store.append", &patch),
        ("store.finish", &patch),
    ] {
        let is_child = |span: &Span| span.name == name && span.parent_span_id == parent.span_id;
        let spans = collector.spans();
        assert!(spans.iter().any(is_child), "no {name} in {spans:#?}");
    }
    let append = collector.waits_for("store.append");
    assert_eq!(attribute(&append, "landfall.bytes").as_deref(), Some("5"));
    // Each receiver of a hook continues at the span of the call.
    for (name, span, parent) in [
        ("pre-create", &hook, &post),
        ("post-finish", &delivery, &patch),
    ] {
        assert_eq!(span.kind(), SpanKind::Client);
        assert_eq!(span.parent_span_id, parent.span_id, "{name}");
        let calls = hooks.waits_for(name, 1);
        let expected = format!("00-{TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(calls[0].header("traceparent"), Some(&*expected));
    }
    let told = hooks.waits_for("post-finish", 1);
    assert_eq!(told[0].header("tracestate"), Some("vendor=1"));
    for span in collector.spans() {
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
    }
    for (event, span) in [
        ("ResponseOutgoing", &patch),
        ("HookInvocationFinish", &delivery),
    ] {
        let ids = format!(
            "\"trace_id\":\"{TRACE}\",\"span_id\":\"{}\"",
            hex(&span.span_id)
        );
        let has_ids = |line: &String| line.contains(event) && line.contains(&ids);
        assert!(server.lines().iter().any(has_ids), "{}", server.log());
    }
    let resource = collector.requests()[0].resource_spans[0].resource.clone();
    let service = resource.unwrap().attributes;
    let service = service
        .iter()
        .find(|one| one.key == "service.name")
        .unwrap();
    assert!(
        format!("{service:?}").contains("\"landfall\""),
        "{service:?}"
    );
    server.stop();
}

#[test]
fn tokens_in_paths_are_not_sent() {
    let collector = Collector::start();
    let dir = tempfile::tempdir().unwrap();
    let server = traced(dir.path(), &collector.0.url(), &[], &[]);
    for path in ["/t/lft_secret/s3/params", "/up//t/lft_secret"] {
        assert_eq!(server.client().ask(Request::get(path)).status, 404);
    }
    let paths = || {
        let spans = collector.spans();
        let paths = spans.iter().filter_map(|span| attribute(span, "url.path"));
        paths.collect::<Vec<_>>()
    };
    eventually("not both spans", || paths().len() >= 2);
    assert_eq!(paths(), ["/t/-", "/up//t/-"]);
    server.stop();
}

#[test]
fn failures_are_marked_and_the_last_spans_are_sent_at_the_end() {
    let collector = Collector::start();
    let hooks = Endpoint::answering(|_| (500, "out of order".to_owned()));
    let dir = tempfile::tempdir().unwrap();
    let variables = [
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ("OTEL_SERVICE_NAME", "uploads"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.0.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret"),
    ];
    let args = [
        "-hooks-http",
        &hooks.url(),
        "-hooks-http-retry=1",
        "-hooks-enabled-events=pre-create",
    ];
    let server = traced(dir.path(), "", &variables, &args);
    let create = Request::post().with("Upload-Length", 5).body(b"");
    assert_eq!(server.client().ask(create).status, 500);
    assert_eq!(server.client().ask(Request::get("/healthz")).status, 200);
    server.stop();
    let calls = collector.0.calls();
    assert_eq!(calls[0].header("x-key"), Some("secret"));
    assert!(format!("{:?}", collector.requests()[0]).contains("\"uploads\""));
    let post = collector.waits_for("POST /files/");
    // A new trace.
    assert!(post.parent_span_id.is_empty());
    for name in ["POST /files/", "hook pre-create"] {
        let span = collector.waits_for(name);
        assert_eq!(span.status.unwrap().code(), StatusCode::Error, "{name}");
        assert_eq!(span.trace_id, post.trace_id);
    }
    assert!(!collector.spans().iter().any(|span| span.name == "GET"));
}

#[test]
fn an_event_that_is_delivered_after_a_crash_belongs_to_its_trace() {
    let address = unused_address();
    let url = format!("http://{address}/hooks");
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let args = ["-hooks-http", &url, "-hooks-enabled-events=post-finish"];
    let server = traced(dir.path(), &collector.0.url(), &[], &args);
    upload(&server);
    let patch = collector.waits_for("PATCH /files/{id}");
    server.kill();

    let hooks = Endpoint::at(address, |_| (200, String::new()));
    let collector = Collector::start();
    let server = traced(dir.path(), &collector.0.url(), &[], &args);
    let calls = hooks.waits_for("post-finish", 1);
    let sent = calls[0].header("traceparent").unwrap().to_owned();
    let delivery = || {
        let mut spans = collector.spans().into_iter();
        spans.rfind(|span| sent.contains(&hex(&span.span_id)))
    };
    eventually("the delivery has no span", || delivery().is_some());
    let delivery = delivery().unwrap();
    assert_eq!(delivery.name, "hook post-finish");
    assert_eq!(hex(&delivery.trace_id), TRACE);
    assert_eq!(delivery.parent_span_id, patch.span_id);
    server.stop();
}

#[test]
fn a_slow_or_missing_collector_delays_no_upload() {
    let slow = Endpoint::answering(|_| {
        thread::sleep(Duration::from_secs(20));
        (200, String::new())
    });
    for endpoint in [slow.url(), format!("http://{}", unused_address())] {
        let dir = tempfile::tempdir().unwrap();
        let variables = [
            ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ];
        let server = traced(dir.path(), &endpoint, &variables, &[]);
        let begun = Instant::now();
        for _ in 0..20 {
            upload(&server);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        let line = server.says("spans of traces were dropped");
        assert!(
            line.contains("level=WARN") && line.contains("dropped="),
            "{line}"
        );
        let begun = Instant::now();
        server.stop();
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn the_sampler_decides_and_without_endpoint_there_are_no_traces() {
    let (collector, hooks) = (Collector::start(), Endpoint::agreeing());
    let args = [
        "-hooks-http",
        &hooks.url(),
        "-hooks-enabled-events=pre-create",
    ];
    let unsampled = |variables: &[(&str, &str)], endpoint: &str| {
        let dir = tempfile::tempdir().unwrap();
        let server = traced(dir.path(), endpoint, variables, &args);
        create(&server);
        server.stop();
        let calls = hooks.calls_of("pre-create");
        let sent = calls.last().unwrap().header("traceparent");
        sent.map(ToOwned::to_owned)
    };
    let sent = unsampled(&[("OTEL_TRACES_SAMPLER", "always_off")], &collector.0.url());
    let sent = sent.unwrap();
    assert!(
        sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"),
        "{sent}"
    );
    assert_eq!(
        unsampled(&[("OTEL_SDK_DISABLED", "true")], &collector.0.url()),
        None
    );
    assert_eq!(unsampled(&[], ""), None);
    assert!(collector.0.calls().is_empty());
}

#[test]
fn an_invalid_endpoint_is_refused() {
    let mut command = program();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "a b");
    let (code, _, error) = run(&mut command);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("cannot send traces"), "{error}");
}

#[test]
fn a_collector_without_tls_needs_no_root_certificates() {
    let (collector, dir) = (Collector::start(), tempfile::tempdir().unwrap());
    let nothing = dir.path().join("certificates");
    std::fs::create_dir(&nothing).unwrap();
    let nothing = nothing.to_str().unwrap();
    let variables = [("SSL_CERT_DIR", nothing), ("SSL_CERT_FILE", "/dev/null")];
    let server = traced(dir.path(), &collector.0.url(), &variables, &[]);
    upload(&server);
    server.stop();
    assert!(!collector.0.calls().is_empty());
}
