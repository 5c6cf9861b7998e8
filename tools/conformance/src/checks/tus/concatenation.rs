//! Concatenation of complete partial uploads.

use url::Url;

use super::metadata::expect_pair;
use crate::client::Request;
use crate::context::{Context, test_data};
use crate::requirement::{Capability, CheckResult, ensure};

const SECTION: &str = "Concatenation";
const HEADER: &str = "Concatenation, Headers, Upload-Concat";

checks! {
    Must "tus/concatenation/partial-upload-is-created", HEADER,
        "A creation with Upload-Concat: partial has the status 201." => partial_is_created;
    Must "tus/concatenation/partial-upload-has-upload-concat", HEADER,
        "HEAD on a partial upload has Upload-Concat: partial." => partial_has_concat;
    Must "tus/concatenation/partial-upload-has-offset", HEADER,
        "HEAD on a partial upload has Upload-Offset." => partial_has_offset;
    Must "tus/concatenation/partial-upload-has-length", HEADER,
        "HEAD on a partial upload has Upload-Length." => partial_has_length;
    Must "tus/concatenation/final-upload-is-created", SECTION,
        "A creation with Upload-Concat: final;… has the status 201." => final_is_created;
    Must "tus/concatenation/final-upload-has-location", SECTION,
        "The response to a final upload has Location." => final_has_location;
    Must "tus/concatenation/length-is-the-sum", SECTION,
        "The length of the final upload is the sum of the lengths of its parts." => length_is_the_sum;
    Must "tus/concatenation/offset-is-the-length", HEADER,
        "After concatenation, Upload-Offset is Upload-Length." => offset_is_the_length;
    Must "tus/concatenation/final-upload-has-upload-concat", HEADER,
        "HEAD on a final upload has Upload-Concat with the value of the creation." => final_has_concat;
    Must "tus/concatenation/order-of-the-list", SECTION,
        "Parts are concatenated in the order of the list." => order_of_the_list;
    Must "tus/concatenation/single-part", SECTION,
        "A final upload may have one part." => sizes(&[5]);
    Must "tus/concatenation/many-parts", SECTION,
        "A final upload may have many parts." => sizes(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    Should "tus/concatenation/empty-part", SECTION,
        "A part may have no bytes." => sizes(&[3, 0, 4]);
    Should "tus/concatenation/large-parts", SECTION,
        "Parts of 512 KiB are concatenated." => sizes(&[512 << 10, 512 << 10]);
    Must "tus/concatenation/absolute-urls", HEADER,
        "Parts may be listed with absolute URLs." => with_urls(Url::as_str);
    Must "tus/concatenation/relative-urls", HEADER,
        "Parts may be listed with relative URLs: here with absolute paths." => with_urls(Url::path);
    Must "tus/concatenation/patch-on-final-upload-is-403", SECTION,
        "PATCH on a final upload is 403." => patch_on_final;
    Must "tus/concatenation/patch-on-final-upload-changes-nothing", SECTION,
        "PATCH on a final upload modifies neither it nor its parts." => patch_changes_nothing;
    Must "tus/concatenation/metadata-is-not-copied", SECTION,
        "Metadata of parts is not that of the final upload." => metadata_is_not_copied;
    Must "tus/concatenation/final-upload-has-its-metadata", "Creation, Headers, Upload-Metadata",
        "HEAD on a final upload returns the metadata of its creation." => final_metadata;
    May "tus/concatenation/part-in-two-uploads", SECTION,
        "Partial uploads may be used multiple times: in several final uploads." => part_in_two_uploads;
    May "tus/concatenation/part-twice-in-one-upload", SECTION,
        "Partial uploads may be used multiple times: twice in one final upload." => part_twice;
    May "tus/concatenation/parts-can-be-removed", SECTION, [Termination],
        "Removing the parts does not change the final upload." => parts_can_be_removed;
    Must "tus/concatenation/final-upload-can-be-removed", "Termination, DELETE", [Termination],
        "DELETE on a final upload has the status 204." => final_can_be_removed;
    Must "tus/concatenation/unfinished-needs-the-extension", SECTION,
        "A final upload of unfinished parts is accepted only with concatenation-unfinished." => unfinished_needs_extension;
    Should "tus/concatenation/unknown-part-is-rejected", SECTION,
        "A final upload of an upload that does not exist is rejected." => unknown_part;
    Should "tus/concatenation/other-host-is-rejected", SECTION,
        "A final upload of a resource of another host is rejected." => other_host;
    Should "tus/concatenation/empty-list-is-rejected", HEADER,
        "A final upload without parts is rejected." => malformed("final;");
    Should "tus/concatenation/missing-list-is-rejected", HEADER,
        "Upload-Concat: final without a list is rejected." => malformed("final");
    Should "tus/concatenation/unknown-value-is-rejected", HEADER,
        "The values are partial and final: others are rejected." => malformed("whole");
    May "tus/concatenation/regular-upload-is-no-part", SECTION,
        "A final upload of an upload that is not partial is rejected." => regular_upload;
    May "tus/concatenation/length-of-final-upload-is-not-taken", SECTION,
        "Clients do not send Upload-Length: the length stays the sum." => length_is_not_taken;
    Should "tus/concatenation/partial-needs-a-length", "Creation, POST",
        "A partial upload needs a length, like any other." => partial_needs_length;
    Should "tus/concatenation/sum-above-the-maximum", "Creation, POST (Tus-Max-Size)", [MaxSize],
        "A sum above Tus-Max-Size is rejected." => sum_above_the_maximum;
    Should "tus/concatenation/parts-stay-usable", SECTION,
        "A rejected final upload does not change its parts." => parts_stay_usable;
}

pub(super) fn post_partial(c: &Context, length: u64) -> Request {
    c.post()
        .field("Upload-Length", length)
        .field("Upload-Concat", "partial")
}

pub(super) async fn partial(c: &Context, data: &[u8]) -> CheckResult<Url> {
    let url = c.created(post_partial(c, data.len() as u64)).await?;
    if !data.is_empty() {
        c.append(&url, 0, data).await?;
    }
    Ok(url)
}

pub(super) fn list(parts: &[&Url]) -> String {
    let urls: Vec<_> = parts.iter().map(|url| url.as_str()).collect();
    format!("final;{}", urls.join(" "))
}

pub(super) fn post_final(c: &Context, list: &str) -> Request {
    c.post().field("Upload-Concat", list)
}

pub(super) async fn concatenation(c: &Context, parts: &[&Url]) -> CheckResult<Url> {
    c.created(post_final(c, &list(parts))).await
}

/// A final upload of "hello" and " world".
async fn hello_world(c: &Context) -> CheckResult<(Url, String)> {
    let (hello, world) = (partial(c, b"hello").await?, partial(c, b" world").await?);
    let list = list(&[&hello, &world]);
    Ok((c.created(post_final(c, &list)).await?, list))
}

async fn partial_is_created(c: &Context) -> CheckResult {
    c.send(post_partial(c, 5)).await?.expect(&[201])
}

async fn partial_has_concat(c: &Context) -> CheckResult {
    let url = partial(c, b"hello").await?;
    let head = c.head(&url).await?;
    let value = head.required("Upload-Concat")?;
    ensure!(value == "partial", "Upload-Concat is {value:?}")
}

async fn partial_has_offset(c: &Context) -> CheckResult {
    let url = c.created(post_partial(c, 5)).await?;
    c.expect_offset(&url, 0).await?;
    c.append(&url, 0, b"he").await?;
    c.expect_offset(&url, 2).await
}

async fn partial_has_length(c: &Context) -> CheckResult {
    let url = c.created(post_partial(c, 5)).await?;
    c.head(&url).await?.expect_number("Upload-Length", 5)
}

async fn final_is_created(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    c.send(post_final(c, &list(&[&part]))).await?.expect(&[201])
}

async fn final_has_location(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    let url = concatenation(c, &[&part]).await?;
    ensure!(url != part, "Location is that of the part")
}

async fn length_is_the_sum(c: &Context) -> CheckResult {
    let (url, _) = hello_world(c).await?;
    c.head(&url).await?.expect_number("Upload-Length", 11)
}

async fn offset_is_the_length(c: &Context) -> CheckResult {
    let (url, _) = hello_world(c).await?;
    c.expect_concatenated(&url, 11).await?;
    c.head(&url).await?.expect_number("Upload-Length", 11)
}

async fn final_has_concat(c: &Context) -> CheckResult {
    let (url, list) = hello_world(c).await?;
    let head = c.head(&url).await?;
    let value = head.required("Upload-Concat")?;
    ensure!(value == list, "Upload-Concat is {value:?}, not {list:?}")
}

async fn order_of_the_list(c: &Context) -> CheckResult {
    let (world, hello) = (partial(c, b" world").await?, partial(c, b"hello").await?);
    for (parts, expected) in [
        ([&hello, &world], "hello world"),
        ([&world, &hello], " worldhello"),
    ] {
        let url = concatenation(c, &parts).await?;
        c.concatenated(&url).await?;
        c.expect_bytes(&url, expected.as_bytes()).await?;
    }
    Ok(())
}

async fn sizes(c: &Context, sizes: &[usize]) -> CheckResult {
    let total = sizes.iter().sum();
    c.needs_size(total as u64)?;
    let data = test_data(total);
    let mut rest = data.as_slice();
    let mut parts = Vec::new();
    for size in sizes {
        let (part, after) = rest.split_at(*size);
        parts.push(partial(c, part).await?);
        rest = after;
    }
    let url = concatenation(c, &parts.iter().collect::<Vec<_>>()).await?;
    c.expect_concatenated(&url, total as u64).await?;
    c.expect_bytes(&url, &data).await
}

async fn with_urls(c: &Context, form: fn(&Url) -> &str) -> CheckResult {
    let parts = [partial(c, b"hello").await?, partial(c, b" world").await?];
    let list = format!("final;{}", parts.each_ref().map(form).join(" "));
    let url = c.created(post_final(c, &list)).await?;
    c.expect_concatenated(&url, 11).await?;
    c.expect_bytes(&url, b"hello world").await
}

async fn patch_on_final(c: &Context) -> CheckResult {
    let (url, _) = hello_world(c).await?;
    c.concatenated(&url).await?;
    c.send(c.patch(&url, 11, b"x")).await?.expect(&[403])
}

async fn patch_changes_nothing(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    let url = concatenation(c, &[&part]).await?;
    c.concatenated(&url).await?;
    for offset in [0, 5] {
        let response = c.send(c.patch(&url, offset, b"x")).await?;
        response.expect_rejection()?;
    }
    c.head(&url).await?.expect_number("Upload-Length", 5)?;
    c.expect_bytes(&url, b"hello").await
}

async fn metadata_is_not_copied(c: &Context) -> CheckResult {
    let request = post_partial(c, 5).set("Upload-Metadata", c.metadata("part eA=="));
    let part = c.created(request).await?;
    c.append(&part, 0, b"hello").await?;
    let url = concatenation(c, &[&part]).await?;
    let head = c.head(&url).await?;
    let returned = head.field("Upload-Metadata").unwrap_or_default();
    ensure!(
        !returned.contains("part eA=="),
        "Upload-Metadata is {returned:?}"
    )
}

async fn final_metadata(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    let request = post_final(c, &list(&[&part]));
    let request = request.set("Upload-Metadata", c.metadata("label d2hvbGU="));
    let url = c.created(request).await?;
    expect_pair(c, &url, "label d2hvbGU=").await
}

async fn part_in_two_uploads(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    for _ in 0..2 {
        let url = concatenation(c, &[&part]).await?;
        c.expect_concatenated(&url, 5).await?;
    }
    Ok(())
}

async fn part_twice(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    let url = concatenation(c, &[&part, &part]).await?;
    c.expect_concatenated(&url, 10).await?;
    c.expect_bytes(&url, b"hellohello").await
}

async fn parts_can_be_removed(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    let url = concatenation(c, &[&part]).await?;
    c.concatenated(&url).await?;
    c.send(c.tus("DELETE", &part)).await?;
    c.expect_offset(&url, 5).await?;
    c.expect_bytes(&url, b"hello").await
}

async fn final_can_be_removed(c: &Context) -> CheckResult {
    let (url, _) = hello_world(c).await?;
    c.concatenated(&url).await?;
    c.send(c.tus("DELETE", &url)).await?.expect(&[204])
}

async fn unfinished_needs_extension(c: &Context) -> CheckResult {
    let part = c.created(post_partial(c, 5)).await?;
    let response = c.send(post_final(c, &list(&[&part]))).await?;
    ensure!(
        !response.is_success() || c.server.has(Capability::ConcatenationUnfinished),
        "the status is {}, but the server does not offer concatenation-unfinished",
        response.status
    )
}

async fn expect_rejected(c: &Context, list: &str) -> CheckResult {
    let response = c.send(post_final(c, list)).await?;
    response.expect_rejection()?;
    response.expect_absent("Location")
}

async fn unknown_part(c: &Context) -> CheckResult {
    let unknown = c.unknown().await?;
    expect_rejected(c, &list(&[&unknown])).await
}

async fn other_host(c: &Context) -> CheckResult {
    let other = "http://other.invalid/files/0123456789abcdef0123456789abcdef";
    expect_rejected(c, &format!("final;{other}")).await
}

async fn malformed(c: &Context, value: &str) -> CheckResult {
    let request = c.post().field("Upload-Concat", value);
    // A length, so that the value alone can be the reason.
    let request = match value.starts_with("final") {
        true => request,
        false => request.field("Upload-Length", 5),
    };
    c.send(request).await?.expect_rejection()
}

async fn regular_upload(c: &Context) -> CheckResult {
    let regular = c.complete(b"hello").await?;
    expect_rejected(c, &list(&[&regular])).await
}

async fn length_is_not_taken(c: &Context) -> CheckResult {
    let part = partial(c, b"hello").await?;
    let request = post_final(c, &list(&[&part])).field("Upload-Length", 50);
    let response = c.send(request).await?;
    if response.is_success() {
        let url = c.location(&response)?;
        c.head(&url).await?.expect_number("Upload-Length", 5)?;
    }
    Ok(())
}

async fn partial_needs_length(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Concat", "partial");
    c.send(request).await?.expect_rejection()
}

async fn sum_above_the_maximum(c: &Context) -> CheckResult {
    let limit = c.server.max_size.unwrap_or_default();
    c.needs_size(limit)?;
    let half = usize::try_from(limit / 2 + 1).unwrap_or(usize::MAX);
    let data = test_data(half);
    let parts = [partial(c, &data).await?, partial(c, &data).await?];
    expect_rejected(c, &list(&[&parts[0], &parts[1]])).await
}

async fn parts_stay_usable(c: &Context) -> CheckResult {
    let (part, unknown) = (partial(c, b"hello").await?, c.unknown().await?);
    let response = c.send(post_final(c, &list(&[&part, &unknown]))).await?;
    response.expect_rejection()?;
    c.expect_offset(&part, 5).await?;
    let url = concatenation(c, &[&part]).await?;
    c.expect_concatenated(&url, 5).await
}
