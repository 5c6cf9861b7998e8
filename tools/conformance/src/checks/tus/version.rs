//! `Tus-Resumable`: in every response, and in every request.

use url::Url;

use super::concatenation::{concatenation, partial};
use crate::client::{Request, Response};
use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, ensure, fail, skip};

const RESUMABLE: &str = "Core Protocol, Headers, Tus-Resumable";
const VERSION: &str = "Core Protocol, Headers, Tus-Version";

checks! {
    Must "tus/version/creation-has-tus-resumable", RESUMABLE,
        "The response to a creation has Tus-Resumable." => after_creation;
    Must "tus/version/head-has-tus-resumable", RESUMABLE,
        "The response to HEAD has Tus-Resumable." => after("HEAD");
    Must "tus/version/patch-has-tus-resumable", RESUMABLE,
        "The response to PATCH has Tus-Resumable." => after("PATCH");
    Must "tus/version/delete-has-tus-resumable", RESUMABLE, [Termination],
        "The response to DELETE has Tus-Resumable." => after("DELETE");
    Must "tus/version/not-found-has-tus-resumable", RESUMABLE,
        "The response to HEAD on an unknown upload has Tus-Resumable." => after_unknown("HEAD");
    Must "tus/version/patch-not-found-has-tus-resumable", RESUMABLE,
        "The response to PATCH on an unknown upload has Tus-Resumable." => after_unknown("PATCH");
    Must "tus/version/conflict-has-tus-resumable", RESUMABLE,
        "The response to PATCH at another offset has Tus-Resumable." => after_conflict;
    Must "tus/version/wrong-type-has-tus-resumable", RESUMABLE,
        "The response to PATCH with another Content-Type has Tus-Resumable." => after_wrong_type;
    Must "tus/version/invalid-creation-has-tus-resumable", RESUMABLE,
        "The response to a creation without a length has Tus-Resumable." => after_invalid_creation;
    Must "tus/version/unsupported-version-has-tus-resumable", RESUMABLE,
        "The response to another version has Tus-Resumable." => after_unsupported;
    Must "tus/version/too-large-has-tus-resumable", RESUMABLE, [MaxSize],
        "The response to a creation above the maximum has Tus-Resumable." => after_too_large;
    Must "tus/version/mismatch-has-tus-resumable", RESUMABLE, [Checksum],
        "The response to PATCH with a wrong checksum has Tus-Resumable." => after_mismatch;
    Must "tus/version/modified-final-upload-has-tus-resumable", RESUMABLE, [Concatenation],
        "The response to PATCH on a final upload has Tus-Resumable." => after_modification;

    Must "tus/version/unsupported-creation-is-412", RESUMABLE,
        "A creation with a version that is not supported is 412." => unsupported("POST");
    Must "tus/version/unsupported-head-is-412", RESUMABLE,
        "HEAD with a version that is not supported is 412." => unsupported("HEAD");
    Must "tus/version/unsupported-patch-is-412", RESUMABLE,
        "PATCH with a version that is not supported is 412." => unsupported("PATCH");
    Must "tus/version/unsupported-delete-is-412", RESUMABLE, [Termination],
        "DELETE with a version that is not supported is 412." => unsupported("DELETE");
    Must "tus/version/older-version-is-412", RESUMABLE,
        "A creation with the version 0.2.2 is 412." => unsupported_creation("0.2.2");
    Must "tus/version/newer-patch-version-is-412", RESUMABLE,
        "A creation with the version 1.0.1 is 412, if the server does not list it." => unsupported_creation("1.0.1");
    Must "tus/version/malformed-version-is-412", RESUMABLE,
        "A creation with a text that is no version is 412." => unsupported_creation("latest");
    Must "tus/version/creation-412-has-tus-version", VERSION,
        "The response 412 to a creation has Tus-Version." => has_versions("POST");
    Must "tus/version/head-412-has-tus-version", VERSION,
        "The response 412 to HEAD has Tus-Version." => has_versions("HEAD");
    Must "tus/version/patch-412-has-tus-version", VERSION,
        "The response 412 to PATCH has Tus-Version." => has_versions("PATCH");
    Must "tus/version/delete-412-has-tus-version", VERSION, [Termination],
        "The response 412 to DELETE has Tus-Version." => has_versions("DELETE");
    Must "tus/version/unsupported-creation-makes-nothing", RESUMABLE,
        "The server does not process a creation with another version." => creates_nothing;
    Must "tus/version/unsupported-patch-stores-nothing", RESUMABLE,
        "The server does not process PATCH with another version." => stores_nothing;
    Must "tus/version/unsupported-delete-removes-nothing", RESUMABLE, [Termination],
        "The server does not process DELETE with another version." => removes_nothing;
    May "tus/version/creation-without-version-is-rejected", RESUMABLE,
        "A creation without Tus-Resumable is rejected: clients must send it." => creation_without_version;
    May "tus/version/patch-without-version-is-rejected", RESUMABLE,
        "PATCH without Tus-Resumable is rejected: clients must send it." => patch_without_version;
}

fn expect_version(response: &Response) -> CheckResult {
    let version = response.required("Tus-Resumable")?;
    ensure!(version == "1.0.0", "Tus-Resumable is {version:?}")
}

/// Sends a request that has to be rejected, with a version in the response.
async fn expect_rejected(c: &Context, request: Request) -> CheckResult {
    let response = c.send(request).await?;
    response.expect_rejection()?;
    expect_version(&response)
}

fn request(c: &Context, method: &str, url: &Url) -> Request {
    match method {
        "POST" => c.post().field("Upload-Length", 5),
        "PATCH" => c.patch(url, 0, b"hello"),
        _ => c.tus(method, url),
    }
}

async fn after_creation(c: &Context) -> CheckResult {
    let response = c.send(c.post().field("Upload-Length", 5)).await?;
    response.expect_success()?;
    expect_version(&response)
}

async fn after(c: &Context, method: &str) -> CheckResult {
    let url = c.create(5).await?;
    let response = c.send(request(c, method, &url)).await?.success()?;
    expect_version(&response)
}

async fn after_unknown(c: &Context, method: &str) -> CheckResult {
    let url = c.unknown().await?;
    expect_rejected(c, request(c, method, &url)).await
}

async fn after_conflict(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    expect_rejected(c, c.patch(&url, 3, b"lo")).await
}

async fn after_wrong_type(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 0, b"hello").set("Content-Type", "text/plain");
    expect_version(&c.send(request).await?)
}

async fn after_invalid_creation(c: &Context) -> CheckResult {
    expect_version(&c.send(c.post()).await?)
}

async fn after_unsupported(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Length", 5);
    expect_rejected(c, request.set("Tus-Resumable", "0.0.1")).await
}

async fn after_too_large(c: &Context) -> CheckResult {
    let limit = c.server.max_size.unwrap_or_default();
    let request = c.post().field("Upload-Length", limit.saturating_add(1));
    expect_rejected(c, request).await
}

async fn after_mismatch(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 0, b"hello");
    let request = request.field("Upload-Checksum", "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    expect_rejected(c, request).await
}

async fn after_modification(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    let url = concatenation(c, &[&part]).await?;
    expect_rejected(c, c.patch(&url, 5, b"x")).await
}

async fn send_unsupported(c: &Context, method: &str) -> CheckResult<Response> {
    let url = c.create(5).await?;
    c.send(request(c, method, &url).set("Tus-Resumable", "0.0.1"))
        .await
}

async fn unsupported(c: &Context, method: &str) -> CheckResult {
    send_unsupported(c, method).await?.expect(&[412])
}

async fn unsupported_creation(c: &Context, version: &str) -> CheckResult {
    let options = c.send(Request::new("OPTIONS", c.endpoint())).await?;
    if options
        .list("Tus-Version")
        .iter()
        .any(|listed| listed == version)
    {
        return skip(format!("the server supports version {version}"));
    }
    let request = c.post().field("Upload-Length", 5);
    c.send(request.set("Tus-Resumable", version))
        .await?
        .expect(&[412])
}

async fn has_versions(c: &Context, method: &str) -> CheckResult {
    let response = send_unsupported(c, method).await?;
    if response.is_success() {
        return fail("the request was processed");
    }
    response.expect_member("Tus-Version", "1.0.0")
}

async fn creates_nothing(c: &Context) -> CheckResult {
    let response = send_unsupported(c, "POST").await?;
    response.expect_rejection()?;
    response.expect_absent("Location")
}

async fn stores_nothing(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = c
        .patch(&url, 0, &test_data(5))
        .set("Tus-Resumable", "0.0.1");
    c.send(request).await?;
    c.expect_offset(&url, 0).await
}

async fn removes_nothing(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    c.send(c.tus("DELETE", &url).set("Tus-Resumable", "0.0.1"))
        .await?;
    c.expect_offset(&url, 0).await
}

async fn creation_without_version(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Length", 5).without("Tus-Resumable");
    c.send(request).await?.expect_rejection()
}

async fn patch_without_version(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 0, b"hello").without("Tus-Resumable");
    c.send(request).await?.expect_rejection()?;
    c.expect_offset(&url, 0).await
}
