//! Concatenation of partial uploads that are not complete yet.

use url::Url;

use super::concatenation::{concatenation, list, partial, post_final, post_partial};
use crate::context::Context;
use crate::requirement::{CheckResult, ensure};

const SECTION: &str = "Concatenation (concatenation-unfinished)";
const HEADER: &str = "Concatenation, Headers, Upload-Concat";

checks! {
    Must "tus/concatenation-unfinished/is-accepted", SECTION,
        "A final upload of unfinished parts has the status 201." => is_accepted;
    Should "tus/concatenation-unfinished/no-offset-before", HEADER,
        "HEAD has no Upload-Offset until the parts are concatenated." => no_offset_before;
    Must "tus/concatenation-unfinished/length-is-the-sum", HEADER,
        "HEAD has Upload-Length if the lengths of all parts are known." => length_is_the_sum;
    Must "tus/concatenation-unfinished/has-upload-concat", HEADER,
        "HEAD has Upload-Concat with the value of the creation." => has_concat;
    Must "tus/concatenation-unfinished/offset-afterwards", HEADER,
        "Once all parts are complete, Upload-Offset is Upload-Length." => offset_afterwards;
    Must "tus/concatenation-unfinished/order-of-the-list", SECTION,
        "Parts are concatenated in the order of the list, not of completion." => order_of_the_list;
    Must "tus/concatenation-unfinished/patch-is-403", SECTION,
        "PATCH on a final upload is 403, also before concatenation." => patch_is_403;
    Should "tus/concatenation-unfinished/parts-take-data", SECTION,
        "Parts of a final upload still take data." => parts_take_data;
    Should "tus/concatenation-unfinished/one-of-two-is-not-enough", HEADER,
        "HEAD has no Upload-Offset while one part is unfinished." => one_of_two;
    Should "tus/concatenation-unfinished/length-of-unknown-parts", HEADER, [CreationDeferLength],
        "HEAD has no Upload-Length while that of a part is unknown." => unknown_length;
    Should "tus/concatenation-unfinished/length-of-known-parts", HEADER, [CreationDeferLength],
        "HEAD has Upload-Length once that of the last part is known." => known_length;
    Must "tus/concatenation-unfinished/can-be-removed", "Termination, DELETE", [Termination],
        "DELETE on a final upload that waits for its parts has the status 204, and removes it." => can_be_removed;
}

/// A final upload of two parts of 5 bytes without data.
async fn unfinished(c: &Context) -> CheckResult<(Url, [Url; 2])> {
    let parts = [
        c.created(post_partial(c, 5)).await?,
        c.created(post_partial(c, 5)).await?,
    ];
    let url = c
        .created(post_final(c, &list(&[&parts[0], &parts[1]])))
        .await?;
    Ok((url, parts))
}

async fn is_accepted(c: &Context) -> CheckResult {
    let part = c.created(post_partial(c, 5)).await?;
    c.send(post_final(c, &list(&[&part]))).await?.expect(&[201])
}

async fn no_offset_before(c: &Context) -> CheckResult {
    let (url, _) = unfinished(c).await?;
    c.head(&url).await?.expect_absent("Upload-Offset")
}

async fn length_is_the_sum(c: &Context) -> CheckResult {
    let (url, _) = unfinished(c).await?;
    c.head(&url).await?.expect_number("Upload-Length", 10)
}

async fn has_concat(c: &Context) -> CheckResult {
    let (url, parts) = unfinished(c).await?;
    let sent = list(&[&parts[0], &parts[1]]);
    let head = c.head(&url).await?;
    let value = head.required("Upload-Concat")?;
    ensure!(value == sent, "Upload-Concat is {value:?}, not {sent:?}")
}

async fn offset_afterwards(c: &Context) -> CheckResult {
    let (url, parts) = unfinished(c).await?;
    c.append(&parts[0], 0, b"hello").await?;
    c.append(&parts[1], 0, b"world").await?;
    c.expect_concatenated(&url, 10).await?;
    c.head(&url).await?.expect_number("Upload-Length", 10)
}

async fn order_of_the_list(c: &Context) -> CheckResult {
    let (url, parts) = unfinished(c).await?;
    c.append(&parts[1], 0, b"world").await?;
    c.append(&parts[0], 0, b"hello").await?;
    c.concatenated(&url).await?;
    c.expect_bytes(&url, b"helloworld").await
}

async fn patch_is_403(c: &Context) -> CheckResult {
    let (url, _) = unfinished(c).await?;
    c.send(c.patch(&url, 0, b"x")).await?.expect(&[403])
}

async fn parts_take_data(c: &Context) -> CheckResult {
    let (_, parts) = unfinished(c).await?;
    c.append(&parts[0], 0, b"he").await?;
    c.expect_offset(&parts[0], 2).await
}

async fn one_of_two(c: &Context) -> CheckResult {
    let complete = partial(c, b"hello").await?;
    let part = c.created(post_partial(c, 5)).await?;
    let url = concatenation(c, &[&complete, &part]).await?;
    c.head(&url).await?.expect_absent("Upload-Offset")
}

/// A final upload of a part whose length is unknown, if the server accepts that.
async fn of_unknown_length(c: &Context) -> CheckResult<Option<(Url, Url)>> {
    let request = c.post().field("Upload-Defer-Length", 1);
    let part = c.created(request.field("Upload-Concat", "partial")).await?;
    let response = c.send(post_final(c, &list(&[&part]))).await?;
    Ok(match response.is_success() {
        true => Some((c.location(&response)?, part)),
        false => None,
    })
}

async fn unknown_length(c: &Context) -> CheckResult {
    if let Some((url, _)) = of_unknown_length(c).await? {
        c.head(&url).await?.expect_absent("Upload-Length")?;
    }
    Ok(())
}

async fn known_length(c: &Context) -> CheckResult {
    if let Some((url, part)) = of_unknown_length(c).await? {
        let request = c.patch(&part, 0, b"hel").field("Upload-Length", 5);
        c.send(request).await?.expect_success()?;
        let head = c.head(&url).await?;
        head.expect_number("Upload-Length", 5)?;
        head.expect_absent("Upload-Offset")?;
    }
    Ok(())
}

async fn can_be_removed(c: &Context) -> CheckResult {
    let (url, parts) = unfinished(c).await?;
    c.send(c.tus("DELETE", &url)).await?.expect(&[204])?;
    for part in &parts {
        c.append(part, 0, b"hello").await?;
    }
    c.send(c.tus("HEAD", &url)).await?.expect(&[404, 410])
}
