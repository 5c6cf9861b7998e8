//! HEAD: the offset, the length, and uploads that do not exist.

use futures_util::future::try_join_all;

use super::offset::at_offset;
use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, ensure};

const HEAD: &str = "Core Protocol, HEAD";

checks! {
    Should "tus/head/succeeds", HEAD,
        "A successful response to HEAD has the status 200 or 204." => succeeds;
    Must "tus/head/offset-of-new-upload", HEAD,
        "The response has Upload-Offset, even if the offset is 0." => offset(0);
    Must "tus/head/offset-of-partial-data", HEAD,
        "Upload-Offset is the number of bytes stored." => offset(4);
    Must "tus/head/offset-of-complete-upload", HEAD,
        "The response has Upload-Offset, even if the upload is complete." => offset(10);
    Must "tus/head/length", HEAD,
        "The response has Upload-Length if the size of the upload is known." => length(0);
    Must "tus/head/length-of-complete-upload", HEAD,
        "The response has Upload-Length if the size is known, also when the upload is complete." => length(10);
    Must "tus/head/no-store", HEAD,
        "The response has Cache-Control: no-store." => no_store(0);
    Must "tus/head/no-store-of-complete-upload", HEAD,
        "The response has Cache-Control: no-store, also when the upload is complete." => no_store(10);
    Should "tus/head/unknown-upload-is-not-found", HEAD,
        "HEAD on an upload that does not exist is 404, 410 or 403." => unknown_is_not_found;
    Should "tus/head/unknown-upload-has-no-offset", HEAD,
        "HEAD on an upload that does not exist has no Upload-Offset." => unknown_has_no_offset;
    Must "tus/head/changes-nothing", HEAD,
        "HEAD does not change the upload." => changes_nothing;
    Should "tus/head/simultaneous-requests-agree", HEAD,
        "Simultaneous requests get the same offset." => simultaneous_requests_agree;
    Must "tus/head/no-content", "RFC 9110, 9.3.2 HEAD",
        "The response to HEAD has no content: the next response follows at once." => no_content;
}

async fn succeeds(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    c.send(c.tus("HEAD", &url)).await?.expect(&[200, 204])
}

async fn offset(c: &Context, stored: usize) -> CheckResult {
    let url = at_offset(c, stored).await?;
    c.expect_offset(&url, stored as u64).await
}

async fn length(c: &Context, stored: usize) -> CheckResult {
    let url = at_offset(c, stored).await?;
    c.head(&url).await?.expect_number("Upload-Length", 10)
}

async fn no_store(c: &Context, stored: usize) -> CheckResult {
    let url = at_offset(c, stored).await?;
    let head = c.head(&url).await?;
    head.expect_member("Cache-Control", "no-store")
}

async fn unknown_is_not_found(c: &Context) -> CheckResult {
    let url = c.unknown().await?;
    c.send(c.tus("HEAD", &url)).await?.expect(&[404, 410, 403])
}

async fn unknown_has_no_offset(c: &Context) -> CheckResult {
    let url = c.unknown().await?;
    let response = c.send(c.tus("HEAD", &url)).await?;
    response.expect_absent("Upload-Offset")
}

async fn changes_nothing(c: &Context) -> CheckResult {
    let url = at_offset(c, 3).await?;
    for _ in 0..5 {
        c.expect_offset(&url, 3).await?;
    }
    c.append(&url, 3, &test_data(7)).await?;
    c.expect_offset(&url, 10).await
}

async fn simultaneous_requests_agree(c: &Context) -> CheckResult {
    let url = at_offset(c, 6).await?;
    let offsets = try_join_all((0..8).map(|_| c.offset(&url))).await?;
    ensure!(
        offsets.iter().all(|offset| *offset == 6),
        "the offsets are {offsets:?}, not all 6"
    )
}

async fn no_content(c: &Context) -> CheckResult {
    let url = c.complete(&test_data(10)).await?;
    let mut connection = c.connect(&url).await?;
    for _ in 0..2 {
        let response = connection.send(&c.tus("HEAD", &url)).await?.success()?;
        if response.is_closing() {
            break;
        }
    }
    Ok(())
}
