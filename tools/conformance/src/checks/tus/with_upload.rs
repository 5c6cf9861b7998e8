//! Creation with upload.

use super::metadata::expect_pair;
use crate::client::{Content, Request};
use crate::context::{Context, UPLOAD_DATA, test_data};
use crate::requirement::{CheckResult, ensure};

const SECTION: &str = "Creation With Upload";

checks! {
    Must "tus/creation-with-upload/succeeds-with-201", SECTION,
        "A creation with data has the status 201." => succeeds;
    Must "tus/creation-with-upload/returns-the-offset", SECTION,
        "The response has Upload-Offset with the number of accepted bytes." => returns_the_offset;
    Must "tus/creation-with-upload/offset-is-that-of-head", SECTION,
        "The accepted bytes are those that HEAD reports." => offset_is_that_of_head;
    Should "tus/creation-with-upload/accepts-the-whole", SECTION,
        "The server accepts as many bytes as possible: here all of them." => accepts(100, 100);
    Should "tus/creation-with-upload/accepts-a-part", SECTION,
        "The server accepts as many bytes as possible: here the beginning." => accepts(40, 100);
    Should "tus/creation-with-upload/accepts-a-mebibyte", SECTION,
        "The server accepts as many bytes as possible: here a mebibyte." => accepts(1 << 20, 1 << 20);
    Must "tus/creation-with-upload/continues-with-patch", SECTION,
        "An upload whose first bytes came with the creation is continued by PATCH." => continues_with_patch;
    Must "tus/creation-with-upload/has-location", SECTION,
        "The response has Location." => has_location;
    Must "tus/creation-with-upload/has-tus-resumable", "Core Protocol, Headers, Tus-Resumable",
        "The response has Tus-Resumable." => has_tus_resumable;
    Must "tus/creation-with-upload/data-and-metadata", SECTION,
        "The metadata of the creation is kept." => data_and_metadata;
    Should "tus/creation-with-upload/other-type-is-no-data", SECTION,
        "A body with another Content-Type is no upload data." => other_type_is_no_data;
    May "tus/creation-with-upload/empty-body", SECTION,
        "A creation with the Content-Type of data and an empty body reports the offset 0." => empty_body;
    Should "tus/creation-with-upload/chunked", SECTION,
        "The body may be in chunks." => chunked;
    Should "tus/creation-with-upload/too-long-is-rejected", SECTION,
        "A body longer than Upload-Length is rejected, or no byte beyond it is accepted." => too_long;
    Should "tus/creation-with-upload/expect-continue", SECTION,
        "Clients send Expect: 100-continue: the server responds with 100 or finally." => expect_continue;
    Should "tus/creation-with-upload/expect-continue-with-an-error", SECTION,
        "A creation without a length and with Expect: 100-continue is rejected before the body." => expect_continue_with_an_error;
    Should "tus/creation-with-upload/cut-body-keeps-the-server-usable", SECTION,
        "After an interrupted creation, the next one succeeds." => cut_body;
    Should "tus/creation-with-upload/deferred-length", SECTION, [CreationDeferLength],
        "Data may come with a creation whose length is deferred." => deferred_length;
    Should "tus/creation-with-upload/checksum", "Checksum", [Checksum],
        "A checksum of the body is verified: the right one is accepted." => checksum(true);
    Should "tus/creation-with-upload/wrong-checksum", "Checksum", [Checksum],
        "A checksum of the body is verified: with a wrong one no byte is accepted." => checksum(false);
    Should "tus/creation-with-upload/partial", "Concatenation", [Concatenation],
        "A partial upload may be created with data." => partial;
    Must "tus/creation-with-upload/unsupported-version-makes-nothing", "Core Protocol, Headers, Tus-Resumable",
        "A creation with data and another version is not processed." => unsupported_version;
}

fn with_data(c: &Context, data: &[u8], length: u64) -> Request {
    c.post()
        .field("Upload-Length", length)
        .field("Content-Type", UPLOAD_DATA)
        .body(data)
}

async fn succeeds(c: &Context) -> CheckResult {
    c.send(with_data(c, b"hello", 10)).await?.expect(&[201])
}

async fn returns_the_offset(c: &Context) -> CheckResult {
    let response = c.send(with_data(c, b"hello", 10)).await?.success()?;
    let offset = response.number("Upload-Offset")?;
    ensure!(
        offset <= 5,
        "Upload-Offset is {offset}, but 5 bytes were sent"
    )
}

async fn offset_is_that_of_head(c: &Context) -> CheckResult {
    let response = c.send(with_data(c, b"hello", 10)).await?;
    let url = c.location(&response)?;
    c.expect_offset(&url, response.number("Upload-Offset")?)
        .await
}

async fn accepts(c: &Context, bytes: usize, length: u64) -> CheckResult {
    c.needs_size(length)?;
    let data = test_data(bytes);
    let response = c.send(with_data(c, &data, length)).await?;
    let url = c.location(&response)?;
    response.expect_number("Upload-Offset", bytes as u64)?;
    c.expect_offset(&url, bytes as u64).await?;
    match bytes as u64 == length {
        true => c.expect_bytes(&url, &data).await,
        false => Ok(()),
    }
}

async fn continues_with_patch(c: &Context) -> CheckResult {
    let data = test_data(100);
    let response = c.send(with_data(c, &data[..40], 100)).await?;
    let url = c.location(&response)?;
    let offset = response.number("Upload-Offset")?;
    ensure!(
        offset <= 40,
        "Upload-Offset is {offset}, but 40 bytes were sent"
    )?;
    let start = usize::try_from(offset).unwrap_or(40);
    c.append(&url, offset, &data[start..]).await?;
    c.expect_offset(&url, 100).await?;
    c.expect_bytes(&url, &data).await
}

async fn has_location(c: &Context) -> CheckResult {
    let response = c.send(with_data(c, b"hello", 5)).await?;
    c.location(&response)?;
    Ok(())
}

async fn has_tus_resumable(c: &Context) -> CheckResult {
    let response = c.send(with_data(c, b"hello", 5)).await?;
    response.required("Tus-Resumable")?;
    Ok(())
}

async fn data_and_metadata(c: &Context) -> CheckResult {
    let sent = c.metadata("label Zmlyc3Q=");
    let request = with_data(c, b"hello", 5).set("Upload-Metadata", sent);
    let url = c.created(request).await?;
    expect_pair(c, &url, "label Zmlyc3Q=").await
}

async fn other_type_is_no_data(c: &Context) -> CheckResult {
    let request = with_data(c, b"hello", 5).set("Content-Type", "text/plain");
    let response = c.send(request).await?;
    if response.is_success() {
        let url = c.location(&response)?;
        c.expect_offset(&url, 0).await?;
    }
    Ok(())
}

async fn empty_body(c: &Context) -> CheckResult {
    let response = c.send(with_data(c, b"", 5)).await?;
    response.expect(&[201])?;
    response.expect_number("Upload-Offset", 0)
}

async fn chunked(c: &Context) -> CheckResult {
    let data = test_data(100);
    let request = with_data(c, b"", 100).content(Content::in_chunks(&data, 30));
    let response = c.send(request).await?;
    let url = c.location(&response)?;
    response.expect_number("Upload-Offset", 100)?;
    c.expect_bytes(&url, &data).await
}

async fn too_long(c: &Context) -> CheckResult {
    let response = c.send(with_data(c, &test_data(20), 10)).await?;
    if response.is_success() {
        let url = c.location(&response)?;
        let offset = c.offset(&url).await?;
        ensure!(offset <= 10, "the offset is {offset}, the length 10")?;
    }
    Ok(())
}

async fn expect_continue(c: &Context) -> CheckResult {
    let request = with_data(c, b"hello", 5).field("Expect", "100-continue");
    let mut connection = c.start(&request, b"").await?;
    let head = connection.interim_within(c.options.timeout).await?;
    if head.status == 100 {
        let response = connection.finish(b"hello").await?;
        response.expect_stored(5)?;
        return Ok(());
    }
    ensure!(head.status >= 200, "the status is {}, not 100", head.status)
}

async fn expect_continue_with_an_error(c: &Context) -> CheckResult {
    let request = with_data(c, b"hello", 5).without("Upload-Length");
    let request = request.field("Expect", "100-continue");
    let mut connection = c.start(&request, b"").await?;
    let head = connection.interim_within(c.options.timeout).await?;
    head.expect_rejection()
}

async fn cut_body(c: &Context) -> CheckResult {
    let request = with_data(c, &test_data(1000), 1000);
    c.start(&request, &test_data(500)).await?.close();
    let url = c.complete(b"hello").await?;
    c.expect_offset(&url, 5).await
}

async fn deferred_length(c: &Context) -> CheckResult {
    let request = with_data(c, b"hello", 0).without("Upload-Length");
    let response = c.send(request.field("Upload-Defer-Length", 1)).await?;
    let url = c.location(&response)?;
    let offset = response.number("Upload-Offset")?;
    let head = c.head(&url).await?;
    head.expect_number("Upload-Offset", offset)?;
    head.expect_absent("Upload-Length")
}

async fn checksum(c: &Context, is_right: bool) -> CheckResult {
    let of = if is_right { "hello" } else { "other" };
    let checksum = super::checksum::value("sha1", of.as_bytes())?;
    let response = c
        .send(with_data(c, b"hello", 5).field("Upload-Checksum", checksum))
        .await?;
    match is_right {
        true => {
            response.expect_stored(5)?;
        }
        // A server that keeps the upload without the data is right, too.
        false if response.is_success() => {
            response.expect_number("Upload-Offset", 0)?;
        }
        false => {}
    }
    Ok(())
}

async fn partial(c: &Context) -> CheckResult {
    let request = with_data(c, b"hello", 5).field("Upload-Concat", "partial");
    let response = c.send(request).await?;
    let url = c.location(&response)?;
    c.expect_offset(&url, response.number("Upload-Offset")?)
        .await
}

async fn unsupported_version(c: &Context) -> CheckResult {
    let request = with_data(c, b"hello", 5).set("Tus-Resumable", "0.0.1");
    let response = c.send(request).await?;
    response.expect(&[412])?;
    response.expect_absent("Location")
}
