//! The IETF draft "Resumable Uploads for HTTP" over real sockets, HTTP/1.1 and HTTP/2, on every store, as `tus` for
//! tus. What it requires is checked by `conformance`.

mod creation;
mod digests;
mod ends;
mod fields;
mod hooks;
mod interim;
mod limits;
mod together;
mod urlsession;

use landfall::Config;

use crate::harness::{self, AtEnd, DATA, Site, TestRequest, TestResponse};

const PARTIAL: &str = "application/partial-upload";
const NEWEST: u32 = 10;
const VERSIONS: std::ops::RangeInclusive<u32> = 3..=NEWEST;

async fn everywhere(change: impl Fn(&mut Config), test: impl AsyncFn(&Site)) {
    harness::over_each_version(change, test).await;
}

async fn with_defaults(test: impl AsyncFn(&Site)) {
    everywhere(|_| {}, test).await;
}

/// A request of the draft, with its version.
fn request(site: &Site, version: u32, method: &str, path: &str) -> TestRequest {
    let request = site.request(method, path).without("Tus-Resumable");
    request.with("Upload-Draft-Interop-Version", &version.to_string())
}

/// `Upload-Complete` as this version has it.
fn complete(version: u32, is_complete: bool) -> (&'static str, &'static str) {
    match (version, is_complete) {
        (3, true) => ("Upload-Incomplete", "?0"),
        (3, false) => ("Upload-Incomplete", "?1"),
        (_, true) => ("Upload-Complete", "?1"),
        (_, false) => ("Upload-Complete", "?0"),
    }
}

fn creation(site: &Site, version: u32, is_complete: bool) -> TestRequest {
    request(site, version, "POST", "/files/").with_all(&[complete(version, is_complete)])
}

/// Creates an upload with its first bytes; its path.
async fn create(site: &Site, version: u32, data: &str) -> String {
    let sent = creation(site, version, false).body(data);
    sent.send().await.expect(201).location()
}

/// Creates an upload of a known length with its first bytes; its path.
async fn create_of(site: &Site, version: u32, length: u64, data: &str) -> String {
    let sent = creation(site, version, false).with("Upload-Length", &length.to_string());
    sent.body(data).send().await.expect(201).location()
}

fn append(site: &Site, version: u32, path: &str, offset: u64, is_complete: bool) -> TestRequest {
    let request = request(site, version, "PATCH", path);
    let request = if version < 6 {
        request
    } else {
        request.with("Content-Type", PARTIAL)
    };
    request
        .with("Upload-Offset", &offset.to_string())
        .with_all(&[complete(version, is_complete)])
}

async fn head(site: &Site, version: u32, path: &str) -> TestResponse {
    request(site, version, "HEAD", path).send().await
}

#[track_caller]
fn assert_complete(reply: &TestResponse, version: u32, is_complete: bool) {
    let (name, value) = complete(version, is_complete);
    assert_eq!(reply.header(name), Some(value), "{reply:?}");
}

/// Fails unless it is a problem of this type, or of none.
#[track_caller]
fn assert_problem(reply: &TestResponse, problem_type: Option<&str>) -> serde_json::Value {
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json"),
        "{reply:?}"
    );
    assert_eq!(reply.header("tus-resumable"), None);
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let prefix = "https://iana.org/assignments/http-problem-types#";
    let expected = problem_type.map(|name| format!("{prefix}{name}"));
    assert_eq!(body["type"].as_str(), expected.as_deref(), "{reply:?}");
    body
}
