//! Servers in Python: one with our `.proto`, one with a `.proto` from tusd's field numbers alone.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, UNIX_EPOCH},
};

use landfall_hooks::grpc::Grpc;
use landfall_hooks::{HookResponse, Message, Transport};
use landfall_test_services::Grpcio;
use serde_json::{Value, json};

use super::{message, settings, texts, tls::Authority};

/// tusd's service, by field numbers.
const TUSD: &str = r#"
syntax = "proto3";
package proto;
message HookRequest { string type = 1; Event event = 2; }
message Event { FileInfo upload = 1; HTTPRequest httpRequest = 2; }
message FileInfo {
  string id = 1; int64 size = 2; bool sizeIsDeferred = 3; int64 offset = 4;
  map<string, string> metaData = 5; bool isPartial = 6; bool isFinal = 7;
  repeated string partialUploads = 8; map<string, string> storage = 9;
}
message HTTPRequest {
  string method = 1; string uri = 2; string remoteAddr = 3; map<string, string> header = 4;
}
message HookResponse {
  HTTPResponse httpResponse = 1; bool rejectUpload = 2; bool stopUpload = 3;
  FileInfoChanges changeFileInfo = 4;
}
message HTTPResponse { int64 statusCode = 1; map<string, string> header = 2; string body = 3; }
message FileInfoChanges {
  string id = 1; map<string, string> metaData = 2; map<string, string> storage = 3;
}
service HookHandler { rpc InvokeHook(HookRequest) returns (HookResponse) {} }
"#;

fn start(proto: &Path, tls: &OsStr) -> Grpcio {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc/server.py");
    Grpcio::start(&script, &[proto.as_os_str(), tls])
}

fn our_proto() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/hook.proto")
}

/// Starts a server with our `.proto`.
fn ours() -> String {
    static SERVER: OnceLock<Grpcio> = OnceLock::new();
    let server = SERVER.get_or_init(|| start(&our_proto(), OsStr::new("-")));
    format!("127.0.0.1:{}", server.port())
}

/// Starts a server with tusd's `.proto`.
fn tusds() -> String {
    static SERVER: OnceLock<Grpcio> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let proto = folder.path().join("hook.proto");
        fs::write(&proto, TUSD).unwrap();
        // The file has been read when the server listens.
        start(&proto, OsStr::new("-"))
    });
    format!("127.0.0.1:{}", server.port())
}

fn saying(say: &str) -> Message {
    let mut message = message();
    message.upload.metadata.insert("say".into(), say.into());
    message
}

async fn seen_by(target: String) -> Value {
    let mut settings = settings(target);
    settings.forward_headers = vec!["X-Request-Id".into(), "Authorization".into()];
    let grpc = Grpc::new(settings).unwrap();
    let response = grpc.deliver(&saying("seen")).await.unwrap();
    serde_json::from_slice(&response.client_response.body.unwrap()).unwrap()
}

/// [`message`] in tusd's service, as formatted by Python's Protobuf.
fn told() -> Value {
    json!({
        "type": "post-finish",
        "event": {
            "upload": {
                "id": "5d892c228ec8d0451dfec588697e8930",
                "size": "5000000000",
                "sizeIsDeferred": false,
                "offset": "4999999999",
                "metaData": { "filename": "Zo\u{eb}.png", "empty": "", "say": "seen" },
                "isPartial": true,
                "isFinal": true,
                "partialUploads": ["a", "b/c"],
                "storage": { "Type": "filestore", "Path": "/data/x" },
            },
            "httpRequest": {
                "method": "PATCH",
                "uri": "/files/5d89?x=1",
                "remoteAddr": "127.0.0.1:59395",
                "header": {
                    "Authorization": "Bearer one",
                    "Host": "localhost:8080",
                    "X-Request-Id": "r-1",
                },
            },
        },
    })
}

#[tokio::test]
async fn tusd_server_receives_tusds_fields() {
    let seen = seen_by(tusds()).await;
    assert_eq!(seen["request"], told());
    assert_eq!(seen["metadata"]["x-request-id"], "r-1");
    assert_eq!(seen["metadata"]["authorization"], "Bearer one");
}

#[tokio::test]
async fn server_with_extended_proto_receives_all_fields() {
    let mut told = told();
    let event = &mut told["event"];
    event["upload"]["labels"] = json!({ "tenant": "7" });
    event["intent"] = json!("concatenate");
    event["id"] = json!("0123456789abcdef0123456789abcdef");
    event["sequence"] = json!("1795190400000123");
    event["unixTimeMillis"] = json!("1795190400042");
    assert_eq!(seen_by(ours()).await["request"], told);
}

/// The response with a value in each of tusd's fields.
fn all() -> HookResponse {
    let mut all = HookResponse::default();
    all.client_response.status = Some(http::StatusCode::from_u16(201).unwrap());
    let header = http::HeaderName::from_static("x-header");
    let value = http::HeaderValue::from_static("header");
    all.client_response.headers.insert(header, value);
    all.client_response.body = Some("body".into());
    all.reject_upload = true;
    all.stop_upload = true;
    all.changes.id = Some("id".into());
    all.changes.metadata = Some(texts(&[("x-metaData", "metaData")]));
    all.changes.storage = texts(&[("x-storage", "storage")]);
    all
}

#[tokio::test]
async fn tusd_server_responses_are_parsed() {
    let grpc = Grpc::new(settings(tusds())).unwrap();
    assert_eq!(grpc.deliver(&saying("all")).await.unwrap(), all());
}

#[tokio::test]
async fn extended_responses_are_parsed() {
    let mut all = all();
    all.reject_termination = true;
    all.reject_access = true;
    all.cache_for = Some(Duration::from_secs(1202));
    all.changes.labels = texts(&[("x-labels", "labels")]);
    all.changes.expires = Some(UNIX_EPOCH + Duration::from_secs(1201));
    all.changes.max_size = Some(1202);
    all.changes.content_types = vec!["contentTypes".into()];
    let grpc = Grpc::new(settings(ours())).unwrap();
    assert_eq!(grpc.deliver(&saying("all")).await.unwrap(), all);
}

#[tokio::test]
async fn python_status_codes_match() {
    let grpc = Grpc::new(settings(ours())).unwrap();
    let response = grpc.deliver(&saying("later")).await.unwrap();
    assert_eq!(
        response.client_response.body.as_deref(),
        Some(&b"at last"[..])
    );
    let failure = grpc.deliver(&saying("no")).await.unwrap_err();
    assert_eq!(failure.message, "gRPC FailedPrecondition: no: Zo\u{eb}");
}

#[tokio::test]
async fn mutual_tls_works_with_python() {
    let ca = Authority::new();
    ca.sign("server", "localhost");
    ca.sign("client", "landfall");
    let server = start(&our_proto(), ca.path("").as_os_str());
    let mut settings = settings(format!("localhost:{}", server.port()));
    settings.secure = true;
    settings.server_ca = Some(ca.path("ca.pem"));
    settings.attempts = 1;
    let nobody = Grpc::new(settings.clone()).unwrap();
    assert!(nobody.deliver(&saying("all")).await.is_err());
    settings.client_certificate = Some(ca.path("client.pem"));
    settings.client_key = Some(ca.path("client.key"));
    let known = Grpc::new(settings).unwrap();
    assert!(known.deliver(&saying("all")).await.unwrap().reject_access);
}
