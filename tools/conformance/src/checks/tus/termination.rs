//! Termination.

use std::time::Duration;

use url::Url;

use super::offset::at_offset;
use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, ensure};

const SECTION: &str = "Termination, DELETE";

checks! {
    Must "tus/termination/succeeds-with-204", SECTION,
        "DELETE on an unfinished upload has the status 204." => is_204(4);
    Must "tus/termination/new-upload", SECTION,
        "DELETE on an upload without data has the status 204." => is_204(0);
    Must "tus/termination/complete-upload", SECTION,
        "DELETE on a complete upload has the status 204." => is_204(10);
    Must "tus/termination/deferred-length", SECTION, [CreationDeferLength],
        "DELETE on an upload of unknown length has the status 204." => deferred_length;
    Must "tus/termination/partial-upload", SECTION, [Concatenation],
        "DELETE on a partial upload has the status 204." => partial_upload;
    Should "tus/termination/head-is-not-found", SECTION,
        "After DELETE, HEAD is 404 or 410." => afterwards(0, "HEAD");
    Should "tus/termination/patch-is-not-found", SECTION,
        "After DELETE, PATCH is 404 or 410." => afterwards(0, "PATCH");
    Should "tus/termination/second-delete-is-not-found", SECTION,
        "After DELETE, another DELETE is 404 or 410." => afterwards(0, "DELETE");
    Should "tus/termination/complete-upload-is-not-found", SECTION,
        "After DELETE on a complete upload, HEAD is 404 or 410." => afterwards(10, "HEAD");
    Should "tus/termination/download-is-not-found", SECTION,
        "After DELETE, GET does not return the data." => download_is_not_found;
    Should "tus/termination/head-has-no-offset", "Core Protocol, HEAD",
        "After DELETE, HEAD has no Upload-Offset." => head_has_no_offset;
    Should "tus/termination/unknown-upload-is-not-found", SECTION,
        "DELETE on an upload that does not exist is 404 or 410." => unknown_upload;
    Must "tus/termination/other-uploads-stay", SECTION,
        "DELETE on one upload does not change another." => other_uploads_stay;
    Should "tus/termination/during-a-patch", SECTION,
        "DELETE during a PATCH removes the upload, or is 423 until the PATCH has ended." => during_a_patch;
}

async fn delete(c: &Context, url: &Url) -> CheckResult {
    c.send(c.tus("DELETE", url)).await?.expect(&[204])
}

async fn is_204(c: &Context, stored: usize) -> CheckResult {
    let url = at_offset(c, stored).await?;
    delete(c, &url).await
}

async fn deferred_length(c: &Context) -> CheckResult {
    let url = c.created(c.post().field("Upload-Defer-Length", 1)).await?;
    c.append(&url, 0, b"hello").await?;
    delete(c, &url).await
}

async fn partial_upload(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Length", 5);
    let url = c.created(request.field("Upload-Concat", "partial")).await?;
    delete(c, &url).await
}

async fn afterwards(c: &Context, stored: usize, method: &str) -> CheckResult {
    let url = at_offset(c, stored).await?;
    delete(c, &url).await?;
    expect_gone(c, method, &url, 0).await
}

/// Fails unless a request to the upload gets 404 or 410.
pub(super) async fn expect_gone(c: &Context, method: &str, url: &Url, offset: u64) -> CheckResult {
    let request = match method {
        "PATCH" => c.patch(url, offset, b"hello"),
        _ => c.tus(method, url),
    };
    c.send(request).await?.expect(&[404, 410])
}

async fn download_is_not_found(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    delete(c, &url).await?;
    ensure!(
        c.download(&url).await?.is_none(),
        "the data can be downloaded"
    )
}

async fn head_has_no_offset(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    delete(c, &url).await?;
    let response = c.send(c.tus("HEAD", &url)).await?;
    response.expect_absent("Upload-Offset")
}

async fn unknown_upload(c: &Context) -> CheckResult {
    let url = c.unknown().await?;
    c.send(c.tus("DELETE", &url)).await?.expect(&[404, 410])
}

async fn other_uploads_stay(c: &Context) -> CheckResult {
    let (first, second) = (c.complete(b"hello").await?, c.complete(b"world").await?);
    delete(c, &first).await?;
    c.expect_offset(&second, 5).await?;
    c.expect_bytes(&second, b"world").await
}

async fn during_a_patch(c: &Context) -> CheckResult {
    let url = c.create(1000).await?;
    let request = c.patch(&url, 0, &test_data(1000));
    let connection = c.start(&request, &test_data(500)).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let response = c.send(c.tus("DELETE", &url)).await?;
    response.expect(&[204, 423])?;
    if response.status == 204 {
        connection.close();
        c.send(c.tus("HEAD", &url)).await?.expect(&[404, 410])?;
    }
    Ok(())
}
