//! Creation with a deferred length.

use url::Url;

use crate::client::Content;
use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, Finding, ensure};

const HEADER: &str = "Creation, Headers, Upload-Defer-Length";
const POST: &str = "Creation, POST";

checks! {
    Must "tus/creation-defer-length/succeeds-with-201", POST,
        "A creation with Upload-Defer-Length: 1 has the status 201." => succeeds;
    Must "tus/creation-defer-length/head-has-defer-length", HEADER,
        "HEAD has Upload-Defer-Length: 1 while the length is unknown." => head_has_defer_length;
    Must "tus/creation-defer-length/head-has-no-length", HEADER,
        "HEAD has no Upload-Length while the length is unknown." => head_has_no_length;
    Must "tus/creation-defer-length/data-before-the-length", HEADER,
        "Data can be sent while the length is unknown, and HEAD still has Upload-Defer-Length: 1." => data_before_the_length;
    Should "tus/creation-defer-length/0-is-400", HEADER,
        "Upload-Defer-Length: 0 is 400." => invalid("0");
    Should "tus/creation-defer-length/2-is-400", HEADER,
        "Upload-Defer-Length: 2 is 400." => invalid("2");
    Should "tus/creation-defer-length/true-is-400", HEADER,
        "Upload-Defer-Length: true is 400." => invalid("true");
    Should "tus/creation-defer-length/empty-is-400", HEADER,
        "An empty Upload-Defer-Length is 400." => invalid("");
    Should "tus/creation-defer-length/with-length-is-rejected", POST,
        "A creation has either Upload-Length or Upload-Defer-Length." => with_length;
    Must "tus/creation-defer-length/first-patch-sets-the-length", POST,
        "Upload-Length in the first PATCH sets the length." => sets_the_length(0);
    Must "tus/creation-defer-length/later-patch-sets-the-length", POST,
        "Upload-Length in a later PATCH sets the length." => sets_the_length(4);
    Must "tus/creation-defer-length/known-length-has-no-defer-length", HEADER,
        "HEAD has no Upload-Defer-Length once the length is known." => known_length;
    Should "tus/creation-defer-length/patch-without-data-sets-the-length", POST,
        "Upload-Length in a PATCH without data sets the length." => without_data;
    Should "tus/creation-defer-length/last-patch-completes", POST,
        "The PATCH with the last bytes may be the one with Upload-Length." => last_patch_completes;
    Must "tus/creation-defer-length/length-does-not-grow", HEADER,
        "The length, once set, does not change: a larger one is not taken." => length_does_not_change(20);
    Must "tus/creation-defer-length/length-does-not-shrink", HEADER,
        "The length, once set, does not change: a smaller one is not taken." => length_does_not_change(6);
    May "tus/creation-defer-length/same-length-again", HEADER,
        "The same length again is accepted: clients repeat an interrupted request." => same_length_again;
    May "tus/creation-defer-length/interrupted-request-again", HEADER,
        "After an interrupted PATCH with Upload-Length, the rest is accepted with the same length." => interrupted_again;
    Should "tus/creation-defer-length/length-below-the-offset", POST,
        "A length below the offset is rejected." => length_below_the_offset;
    Should "tus/creation-defer-length/length-below-the-body", POST,
        "The offset does not exceed the length that the request declares." => length_below_the_body;
    Should "tus/creation-defer-length/malformed-length-is-rejected", "Core Protocol, Headers, Upload-Length",
        "A malformed Upload-Length is rejected, and the length stays unknown." => malformed_length;
    Should "tus/creation-defer-length/length-0", POST,
        "A deferred length may turn out to be 0." => length_0;
    Should "tus/creation-defer-length/above-the-maximum", "Creation, POST (Tus-Max-Size)", [MaxSize],
        "A late length above Tus-Max-Size is 413." => above_the_maximum;
    Should "tus/creation-defer-length/conflict-sets-no-length", "Core Protocol, PATCH",
        "PATCH at another offset does not modify the upload: it sets no length." => conflict_sets_no_length;
}

async fn deferred(c: &Context) -> CheckResult<Url> {
    c.created(c.post().field("Upload-Defer-Length", 1)).await
}

async fn expect_unknown(c: &Context, url: &Url) -> CheckResult {
    let head = c.head(url).await?;
    let value = head.required("Upload-Defer-Length")?;
    ensure!(value == "1", "Upload-Defer-Length is {value:?}")
}

async fn succeeds(c: &Context) -> CheckResult {
    let response = c.send(c.post().field("Upload-Defer-Length", 1)).await?;
    response.expect(&[201])
}

async fn head_has_defer_length(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    expect_unknown(c, &url).await
}

async fn head_has_no_length(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    c.head(&url).await?.expect_absent("Upload-Length")
}

async fn data_before_the_length(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    c.append(&url, 0, b"hello").await?;
    c.expect_offset(&url, 5).await?;
    expect_unknown(c, &url).await
}

async fn invalid(c: &Context, value: &str) -> CheckResult {
    let response = c.send(c.post().field("Upload-Defer-Length", value)).await?;
    response.expect(&[400])
}

async fn with_length(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Defer-Length", 1);
    c.send(request.field("Upload-Length", 5))
        .await?
        .expect_rejection()
}

/// An upload of 10 bytes whose length came with the bytes after `before`.
async fn late_length(c: &Context, before: usize, until: usize) -> CheckResult<Url> {
    let data = test_data(10);
    let url = deferred(c).await?;
    if before > 0 {
        c.append(&url, 0, &data[..before]).await?;
    }
    let request = c.patch(&url, before as u64, &data[before..until]);
    let response = c.send(request.field("Upload-Length", 10)).await?;
    response.expect_success()?;
    Ok(url)
}

async fn sets_the_length(c: &Context, before: usize) -> CheckResult {
    let url = late_length(c, before, before + 2).await?;
    let head = c.head(&url).await?;
    head.expect_number("Upload-Length", 10)?;
    head.expect_number("Upload-Offset", before as u64 + 2)
}

async fn known_length(c: &Context) -> CheckResult {
    let url = late_length(c, 3, 5).await?;
    c.head(&url).await?.expect_absent("Upload-Defer-Length")
}

async fn without_data(c: &Context) -> CheckResult {
    let url = late_length(c, 4, 4).await?;
    let head = c.head(&url).await?;
    head.expect_number("Upload-Length", 10)?;
    head.expect_number("Upload-Offset", 4)
}

async fn last_patch_completes(c: &Context) -> CheckResult {
    let url = late_length(c, 4, 10).await?;
    let head = c.head(&url).await?;
    head.expect_number("Upload-Length", 10)?;
    head.expect_number("Upload-Offset", 10)?;
    c.expect_bytes(&url, &test_data(10)).await
}

async fn length_does_not_change(c: &Context, other: u64) -> CheckResult {
    let url = late_length(c, 2, 5).await?;
    let request = c.patch(&url, 5, b"x").field("Upload-Length", other);
    c.send(request).await?;
    c.head(&url).await?.expect_number("Upload-Length", 10)
}

async fn same_length_again(c: &Context) -> CheckResult {
    let url = late_length(c, 2, 5).await?;
    let request = c.patch(&url, 5, b"x").field("Upload-Length", 10);
    c.send(request).await?.expect_success()?;
    c.expect_offset(&url, 6).await
}

async fn interrupted_again(c: &Context) -> CheckResult {
    let data = test_data(10);
    let url = deferred(c).await?;
    let request = c.patch(&url, 0, b"").field("Upload-Length", 10);
    let request = request.content(Content::Declared(10));
    c.start(&request, &data[..5]).await?.close();
    let offset = c.final_offset(&url).await?;
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|start| data.get(start..));
    let beyond = || Finding::failed(format!("the offset is {offset}, but 5 bytes were sent"));
    let request = c.patch(&url, offset, rest.ok_or_else(beyond)?);
    c.send(request.field("Upload-Length", 10))
        .await?
        .expect_success()?;
    c.expect_offset(&url, 10).await?;
    c.expect_bytes(&url, &data).await
}

async fn length_below_the_offset(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    c.append(&url, 0, b"hello").await?;
    let request = c.patch(&url, 5, b"").field("Upload-Length", 4);
    c.send(request).await?.expect_rejection()?;
    c.expect_offset(&url, 5).await
}

async fn length_below_the_body(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    let request = c.patch(&url, 0, &test_data(10)).field("Upload-Length", 4);
    c.send(request).await?;
    let offset = c.offset(&url).await?;
    ensure!(offset <= 4, "the offset is {offset}, the length 4")
}

async fn malformed_length(c: &Context) -> CheckResult {
    for value in ["-1", "abc", "1.5"] {
        let url = deferred(c).await?;
        let request = c.patch(&url, 0, b"x").field("Upload-Length", value);
        c.send(request).await?.expect_rejection()?;
        expect_unknown(c, &url).await?;
    }
    Ok(())
}

async fn length_0(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    let request = c.patch(&url, 0, b"").field("Upload-Length", 0);
    c.send(request).await?.expect_success()?;
    let head = c.head(&url).await?;
    head.expect_number("Upload-Length", 0)?;
    head.expect_number("Upload-Offset", 0)
}

async fn above_the_maximum(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    let length = c.server.max_size.unwrap_or_default().saturating_add(1);
    let request = c.patch(&url, 0, b"x").field("Upload-Length", length);
    c.send(request).await?.expect(&[413])
}

async fn conflict_sets_no_length(c: &Context) -> CheckResult {
    let url = deferred(c).await?;
    let request = c.patch(&url, 3, b"x").field("Upload-Length", 10);
    c.send(request).await?.expect(&[409])?;
    expect_unknown(c, &url).await
}
