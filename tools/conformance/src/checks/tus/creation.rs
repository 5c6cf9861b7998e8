//! Creation: lengths, URLs and the maximum size.

use std::collections::HashSet;

use futures_util::future::try_join_all;

use crate::client::{Content, Request};
use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, ensure};

const POST: &str = "Creation, POST";
const LENGTH: &str = "Core Protocol, Headers, Upload-Length";
const MAX_SIZE: &str = "Creation, POST (Tus-Max-Size)";

checks! {
    Must "tus/creation/succeeds-with-201", POST,
        "The response to a successful creation has the status 201." => succeeds(10);
    Must "tus/creation/has-location", POST,
        "The response has Location with the URL of the upload." => has_location;
    Must "tus/creation/location-is-usable", POST,
        "Location, absolute or relative, leads to the upload." => location_is_usable;
    Must "tus/creation/offset-is-0", POST,
        "A new upload has the offset 0." => offset_is_0;
    Must "tus/creation/length-is-kept", POST,
        "The length of the upload is that of the creation." => length_is_kept;
    Must "tus/creation/uploads-are-different", POST,
        "Each creation makes another upload." => uploads_are_different;
    Should "tus/creation/simultaneous-creations", POST,
        "Simultaneous creations make different uploads." => simultaneous_creations;
    Should "tus/creation/does-not-redirect", POST,
        "A creation is not redirected: clients would repeat it with GET." => does_not_redirect;
    Should "tus/creation/without-content-length", POST,
        "A creation needs neither a body nor Content-Length." => without_content_length;
    May "tus/creation/empty-chunked-body", POST,
        "A creation may have an empty body in chunks." => empty_chunked_body;
    May "tus/creation/other-content-type", POST,
        "A Content-Type that is not that of upload data does not prevent a creation." => other_content_type;
    May "tus/creation/length-0", POST,
        "A creation with Upload-Length: 0 succeeds." => succeeds(0);
    Must "tus/creation/length-0-is-complete", POST,
        "An upload of 0 bytes has offset 0 and length 0." => length_0_is_complete;
    Should "tus/creation/missing-length-is-rejected", POST,
        "A creation needs Upload-Length or Upload-Defer-Length." => length_is_rejected(&[]);
    Must "tus/creation/negative-length-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: -1 is rejected." => length_is_rejected(&["-1"]);
    Should "tus/creation/text-length-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: a text is rejected." => length_is_rejected(&["abc"]);
    Should "tus/creation/empty-length-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: an empty value is rejected." => length_is_rejected(&[""]);
    Should "tus/creation/decimal-length-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: 5.5 is rejected." => length_is_rejected(&["5.5"]);
    Should "tus/creation/length-with-text-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: 5x is rejected." => length_is_rejected(&["5x"]);
    Should "tus/creation/signed-length-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: +5 is rejected." => length_is_rejected(&["+5"]);
    Should "tus/creation/exponent-length-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: 1e3 is rejected." => length_is_rejected(&["1e3"]);
    Should "tus/creation/hexadecimal-length-is-rejected", LENGTH,
        "Upload-Length is a non-negative integer: 0x5 is rejected." => length_is_rejected(&["0x5"]);
    Should "tus/creation/huge-length-is-rejected", LENGTH,
        "A length that does not fit in 64 bits is rejected." => length_is_rejected(&["18446744073709551617"]);
    Should "tus/creation/two-lengths-are-rejected", LENGTH,
        "Two different Upload-Length are rejected." => length_is_rejected(&["5", "6"]);
    Must "tus/creation/too-large-is-413", MAX_SIZE, [MaxSize],
        "A length above Tus-Max-Size is 413." => too_large(1);
    Must "tus/creation/far-too-large-is-413", MAX_SIZE, [MaxSize],
        "A length far above Tus-Max-Size is 413." => too_large(1 << 40);
    Should "tus/creation/too-large-has-no-location", MAX_SIZE, [MaxSize],
        "The response 413 names no upload." => too_large_has_no_location;
    Should "tus/creation/largest-is-accepted", MAX_SIZE, [MaxSize],
        "A length of Tus-Max-Size is accepted." => largest_is_accepted;
    Should "tus/creation/rejection-names-no-upload", POST,
        "The response to a rejected creation has no Location." => rejection_names_no_upload;
    Must "tus/creation/uploads-are-independent", POST,
        "Data of one upload does not appear in another." => uploads_are_independent;
    Should "tus/creation/no-upload-offset-unless-data", "Creation With Upload",
        "Upload-Offset in the response to a creation without data is absent or 0." => no_offset_unless_data;
}

async fn succeeds(c: &Context, length: u64) -> CheckResult {
    let response = c.send(c.post().field("Upload-Length", length)).await?;
    response.expect(&[201])
}

async fn has_location(c: &Context) -> CheckResult {
    let response = c.send(c.post().field("Upload-Length", 10)).await?;
    response.expect_success()?;
    let location = response.required("Location")?;
    ensure!(!location.is_empty(), "Location is empty")
}

async fn location_is_usable(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    c.append(&url, 0, b"hello").await?;
    c.expect_offset(&url, 5).await
}

async fn offset_is_0(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    c.expect_offset(&url, 0).await
}

async fn length_is_kept(c: &Context) -> CheckResult {
    for length in [1, 10, 12_345] {
        let url = c.create(length).await?;
        c.head(&url).await?.expect_number("Upload-Length", length)?;
    }
    Ok(())
}

async fn uploads_are_different(c: &Context) -> CheckResult {
    let (first, second) = (c.create(10).await?, c.create(10).await?);
    ensure!(first != second, "both uploads are at {first}")
}

async fn simultaneous_creations(c: &Context) -> CheckResult {
    let urls = try_join_all((0..10).map(|_| c.create(10))).await?;
    let different: HashSet<_> = urls.iter().collect();
    ensure!(
        different.len() == urls.len(),
        "two uploads have the same URL"
    )
}

async fn does_not_redirect(c: &Context) -> CheckResult {
    let response = c.send(c.post().field("Upload-Length", 10)).await?;
    ensure!(
        !matches!(response.status, 300..=399),
        "the status is {}",
        response.status
    )
}

async fn without_content_length(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Length", 10).content(Content::None);
    let url = c.created(request).await?;
    c.expect_offset(&url, 0).await
}

async fn empty_chunked_body(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Length", 10);
    let url = c
        .created(request.content(Content::in_chunks(b"", 1)))
        .await?;
    c.expect_offset(&url, 0).await
}

async fn other_content_type(c: &Context) -> CheckResult {
    let request = c.post().field("Upload-Length", 10);
    let url = c
        .created(request.field("Content-Type", "text/plain"))
        .await?;
    c.expect_offset(&url, 0).await
}

async fn length_0_is_complete(c: &Context) -> CheckResult {
    let url = c.create(0).await?;
    let head = c.head(&url).await?;
    head.expect_number("Upload-Offset", 0)?;
    head.expect_number("Upload-Length", 0)
}

/// Sends these values of `Upload-Length`.
async fn length_is_rejected(c: &Context, values: &[&str]) -> CheckResult {
    let fields = values.iter();
    let request = fields.fold(c.post(), |request, value| {
        request.field("Upload-Length", value)
    });
    c.send(request).await?.expect_rejection()
}

fn above_the_limit(c: &Context, bytes: u64) -> Request {
    let length = c.server.max_size.unwrap_or_default().saturating_add(bytes);
    // Not every server reads numbers above 2^63 - 1.
    c.post()
        .field("Upload-Length", length.min(i64::MAX.unsigned_abs()))
}

async fn too_large(c: &Context, bytes: u64) -> CheckResult {
    c.send(above_the_limit(c, bytes)).await?.expect(&[413])
}

async fn too_large_has_no_location(c: &Context) -> CheckResult {
    let response = c.send(above_the_limit(c, 1)).await?;
    response.expect_rejection()?;
    response.expect_absent("Location")
}

async fn largest_is_accepted(c: &Context) -> CheckResult {
    let limit = c.server.max_size.unwrap_or_default();
    c.needs_size(limit)?;
    let url = c.create(limit).await?;
    c.head(&url).await?.expect_number("Upload-Length", limit)
}

async fn rejection_names_no_upload(c: &Context) -> CheckResult {
    let response = c.send(c.post()).await?;
    response.expect_rejection()?;
    response.expect_absent("Location")
}

async fn uploads_are_independent(c: &Context) -> CheckResult {
    let (first, second) = (c.create(10).await?, c.create(20).await?);
    c.append(&first, 0, &test_data(10)).await?;
    c.expect_offset(&second, 0).await?;
    c.append(&second, 0, b"hello").await?;
    c.expect_offset(&first, 10).await?;
    c.expect_bytes(&first, &test_data(10)).await
}

async fn no_offset_unless_data(c: &Context) -> CheckResult {
    let response = c.send(c.post().field("Upload-Length", 10)).await?;
    response.expect_success()?;
    if response.field("Upload-Offset").is_some() {
        response.expect_number("Upload-Offset", 0)?;
    }
    Ok(())
}
