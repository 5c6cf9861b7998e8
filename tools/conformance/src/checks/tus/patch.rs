//! PATCH: data, media types and lengths.

use url::Url;

use super::offset::at_offset;
use crate::client::{Content, Request};
use crate::context::{Context, GZIP, UPLOAD_DATA, test_data};
use crate::options::HttpVersion;
use crate::requirement::{CheckResult, ensure, skip};

const PATCH: &str = "Core Protocol, PATCH";
const LENGTH: &str = "Core Protocol, Headers, Upload-Length";
const CHUNKED: &str = "RFC 9112, 7.1 Chunked Transfer Coding";

checks! {
    Must "tus/patch/succeeds-with-204", PATCH,
        "The response to a successful PATCH has the status 204." => succeeds;
    Must "tus/patch/returns-the-new-offset", PATCH,
        "The response has Upload-Offset with the new offset." => returns_the_new_offset;
    Must "tus/patch/second-patch-returns-the-sum", PATCH,
        "The new offset is the old one plus the bytes of this request." => second_patch_returns_the_sum;
    Should "tus/patch/appends-add-up", PATCH,
        "The server accepts PATCH requests and stores their bytes at the offset." => appends_add_up;
    Should "tus/patch/stores-the-bytes", PATCH,
        "The upload has the bytes that were sent, as far as a download shows them." => stores_the_bytes(test_data(1000));
    Should "tus/patch/stores-a-mebibyte", PATCH,
        "The upload has the bytes that were sent, as far as a download shows them." => stores_the_bytes(test_data(1 << 20));
    Should "tus/patch/stores-all-byte-values", PATCH,
        "Bytes of all values are stored unchanged." => stores_the_bytes((0..=255).collect());
    Should "tus/patch/single-bytes", PATCH,
        "An upload can be sent in requests of one byte." => single_bytes;
    Should "tus/patch/keep-alive", PATCH,
        "Several requests can be sent over one connection." => keep_alive;
    Must "tus/patch/content-encoding-is-not-decoded", "Core Protocol, PATCH; RFC 9110, 8.4 Content-Encoding",
        "The new offset counts the bytes of the request, also if they are compressed." => not_decoded;
    May "tus/patch/pipelined", "RFC 9112, 9.3.2 Pipelining",
        "Requests that were sent before the responses are processed in order." => pipelined;

    Should "tus/patch/other-content-type-is-415", PATCH,
        "PATCH with another Content-Type is 415." => is_415(Some("text/plain"));
    Should "tus/patch/octet-stream-is-415", PATCH,
        "PATCH with application/octet-stream is 415." => is_415(Some("application/octet-stream"));
    Should "tus/patch/similar-content-type-is-415", PATCH,
        "PATCH with a type that only begins like the right one is 415." => is_415(Some("application/offset+octet-streams"));
    Should "tus/patch/form-content-type-is-415", PATCH,
        "PATCH with the type of a form is 415." => is_415(Some("application/x-www-form-urlencoded"));
    Should "tus/patch/missing-content-type-is-415", PATCH,
        "PATCH without Content-Type is 415." => is_415(None);
    Should "tus/patch/wrong-content-type-stores-nothing", PATCH,
        "A request that is rejected for its Content-Type changes nothing." => wrong_type_stores_nothing;
    Should "tus/patch/content-type-ignores-case", "RFC 9110, 8.3.1 Media Type",
        "The case of the media type does not matter." => accepted("Content-Type", "Application/Offset+Octet-Stream");
    May "tus/patch/content-type-with-parameters", "RFC 9110, 8.3.1 Media Type",
        "Parameters of the media type do not matter." => accepted("Content-Type", "application/offset+octet-stream; charset=utf-8");

    Should "tus/patch/unknown-upload-is-404", PATCH,
        "PATCH on an upload that does not exist is 404." => unknown_upload;
    May "tus/patch/empty-patch", PATCH,
        "PATCH without bytes at the right offset succeeds and changes nothing." => empty_patch;
    May "tus/patch/empty-patch-of-a-complete-upload", PATCH,
        "PATCH without bytes at the end of a complete upload succeeds." => empty_patch_of_a_complete_upload;
    Should "tus/patch/too-long-is-rejected", LENGTH,
        "The length is the size of the whole upload: a longer body is rejected." => too_long;
    Should "tus/patch/offset-stays-below-the-length", LENGTH,
        "The offset does not exceed the length, whatever is sent." => offset_stays_below_the_length;
    Should "tus/patch/too-long-in-chunks", LENGTH,
        "The offset does not exceed the length, also without Content-Length." => too_long_in_chunks;
    Should "tus/patch/too-long-after-the-end", LENGTH,
        "Bytes after the end of a complete upload are rejected." => too_long_after_the_end;

    Must "tus/patch/chunked", CHUNKED,
        "A body in chunks, without Content-Length, is accepted." => chunked(&[1000]);
    Must "tus/patch/many-chunks", CHUNKED,
        "The sizes of chunks do not matter." => chunked(&[1, 2, 3, 500, 7, 400, 87]);
    Should "tus/patch/expect-continue", "RFC 9110, 10.1.1 Expect",
        "A request with Expect: 100-continue gets 100, or a final response." => expect_continue;
    May "tus/patch/expect-continue-with-an-error", "RFC 9110, 10.1.1 Expect",
        "A request with Expect: 100-continue and a wrong offset gets 409 without 100." => expect_continue_with_an_error;
    Should "tus/patch/early-rejection-arrives", PATCH,
        "The response 409 arrives although the body is still being sent." => early_rejection_arrives;
    Must "tus/patch/header-names-ignore-case", "RFC 9110, 5.1 Field Names",
        "The case of field names does not matter." => header_names_ignore_case;
    Must "tus/patch/blanks-around-values", "RFC 9112, 5 Field Syntax",
        "Blanks around field values do not matter." => accepted("Upload-Offset", " \t0 \t");
    May "tus/patch/content-encoding", "RFC 9110, 8.4 Content-Encoding",
        "Data with Content-Encoding is stored as it is sent, or rejected: never decoded." => content_encoding;
}

async fn succeeds(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    c.send(c.patch(&url, 0, b"hello")).await?.expect(&[204])
}

async fn returns_the_new_offset(c: &Context) -> CheckResult {
    at_offset(c, 5).await.map(drop)
}

async fn second_patch_returns_the_sum(c: &Context) -> CheckResult {
    let url = at_offset(c, 5).await?;
    c.append(&url, 5, b"wor").await.map(drop)
}

async fn appends_add_up(c: &Context) -> CheckResult {
    let data = test_data(100);
    let url = c.create(100).await?;
    for (start, end) in [(0, 1), (1, 40), (40, 41), (41, 100)] {
        c.append(&url, start as u64, &data[start..end]).await?;
        c.expect_offset(&url, end as u64).await?;
    }
    c.expect_bytes(&url, &data).await
}

async fn stores_the_bytes(c: &Context, data: Vec<u8>) -> CheckResult {
    let length = data.len() as u64;
    c.needs_size(length)?;
    let url = c.complete(&data).await?;
    c.expect_offset(&url, length).await?;
    c.expect_bytes(&url, &data).await
}

async fn single_bytes(c: &Context) -> CheckResult {
    let data = test_data(20);
    let url = c.create(20).await?;
    for (offset, byte) in data.iter().enumerate() {
        c.append(&url, offset as u64, &[*byte]).await?;
    }
    c.expect_offset(&url, 20).await?;
    c.expect_bytes(&url, &data).await
}

async fn keep_alive(c: &Context) -> CheckResult {
    let data = test_data(50);
    let url = c.create(50).await?;
    let mut connection = c.connect(&url).await?;
    for (index, piece) in data.chunks(10).enumerate() {
        let request = c.patch(&url, index as u64 * 10, piece);
        let response = connection.send(&request).await?;
        response.expect_stored((index as u64 + 1) * 10)?;
        if response.is_closing() {
            connection = c.connect(&url).await?;
        }
    }
    c.expect_bytes(&url, &data).await
}

async fn pipelined(c: &Context) -> CheckResult {
    if c.options.http_version != HttpVersion::Http1 {
        // Streams have no order.
        return skip("needs HTTP/1.1");
    }
    let url = c.create(10).await?;
    let mut connection = c.connect(&url).await?;
    for (offset, data) in [(0, b"hello"), (5, b"world")] {
        connection.send_head(&c.patch(&url, offset, data)).await?;
        connection.write(data).await?;
    }
    for offset in [5, 10] {
        let response = connection.response().await?;
        response.expect_stored(offset)?;
    }
    c.expect_bytes(&url, b"helloworld").await
}

async fn is_415(c: &Context, content_type: Option<&str>) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 0, b"hello").without("Content-Type");
    let request = match content_type {
        Some(value) => request.field("Content-Type", value),
        None => request,
    };
    c.send(request).await?.expect(&[415])
}

async fn wrong_type_stores_nothing(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 0, b"hello").set("Content-Type", "text/plain");
    c.send(request).await?.expect_rejection()?;
    c.expect_offset(&url, 0).await
}

async fn accepted(c: &Context, name: &str, value: &str) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 0, b"hello").set(name, value);
    c.send(request).await?.expect_success()?;
    c.expect_offset(&url, 5).await
}

async fn unknown_upload(c: &Context) -> CheckResult {
    let url = c.unknown().await?;
    c.send(c.patch(&url, 0, b"x")).await?.expect(&[404])
}

async fn empty_patch(c: &Context) -> CheckResult {
    let url = at_offset(c, 3).await?;
    let response = c.send(c.patch(&url, 3, b"")).await?;
    response.expect(&[204])?;
    response.expect_number("Upload-Offset", 3)?;
    c.expect_offset(&url, 3).await
}

async fn empty_patch_of_a_complete_upload(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    let response = c.send(c.patch(&url, 5, b"")).await?;
    response.expect(&[204])?;
    response.expect_number("Upload-Offset", 5)
}

async fn too_long(c: &Context) -> CheckResult {
    let url = at_offset(c, 3).await?;
    let response = c.send(c.patch(&url, 3, &test_data(8))).await?;
    response.expect_rejection()
}

async fn expect_at_most(c: &Context, url: &Url, length: u64) -> CheckResult {
    let offset = c.offset(url).await?;
    ensure!(
        offset <= length,
        "the offset is {offset}, the length {length}"
    )
}

async fn offset_stays_below_the_length(c: &Context) -> CheckResult {
    let url = at_offset(c, 3).await?;
    c.send(c.patch(&url, 3, &test_data(100))).await?;
    expect_at_most(c, &url, 10).await
}

async fn too_long_in_chunks(c: &Context) -> CheckResult {
    let url = at_offset(c, 3).await?;
    let chunks = vec![test_data(5), test_data(20)];
    let content = Content::Chunked(chunks, Vec::new());
    c.send(c.patch(&url, 3, b"").content(content)).await?;
    expect_at_most(c, &url, 10).await
}

async fn too_long_after_the_end(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    c.send(c.patch(&url, 5, b"x")).await?.expect_rejection()?;
    c.expect_offset(&url, 5).await
}

async fn chunked(c: &Context, sizes: &[usize]) -> CheckResult {
    let data = test_data(1000);
    let url = c.create(1000).await?;
    let mut rest = data.as_slice();
    let mut chunks = Vec::new();
    for size in sizes {
        let (chunk, after) = rest.split_at(*size);
        chunks.push(chunk.to_vec());
        rest = after;
    }
    let content = Content::Chunked(chunks, Vec::new());
    let response = c.send(c.patch(&url, 0, b"").content(content)).await?;
    response.expect_stored(1000)?;
    c.expect_bytes(&url, &data).await
}

async fn expect_continue(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 0, b"hello").field("Expect", "100-continue");
    let mut connection = c.start(&request, b"").await?;
    let head = connection.interim_within(c.options.timeout).await?;
    if head.status == 100 {
        connection.finish(b"hello").await?.expect_success()?;
        return c.expect_offset(&url, 5).await;
    }
    ensure!(head.status >= 200, "the status is {}, not 100", head.status)
}

async fn expect_continue_with_an_error(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = c.patch(&url, 3, b"lo").field("Expect", "100-continue");
    let mut connection = c.start(&request, b"").await?;
    let head = connection.interim_within(c.options.timeout).await?;
    head.expect(&[409])
}

async fn early_rejection_arrives(c: &Context) -> CheckResult {
    const LENGTH: usize = 8 << 20;
    c.needs_size(LENGTH as u64)?;
    let url = c.create(LENGTH as u64).await?;
    let request = c.patch(&url, 1, &test_data(LENGTH - 1));
    c.send(request).await?.expect(&[409])?;
    c.expect_offset(&url, 0).await
}

async fn header_names_ignore_case(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let request = Request::new("PATCH", &url)
        .field("TUS-RESUMABLE", "1.0.0")
        .field("upload-offset", 0)
        .field("content-TYPE", UPLOAD_DATA)
        .body(b"hello".as_slice());
    c.send(request).await?.expect_success()?;
    c.expect_offset(&url, 5).await
}

async fn content_encoding(c: &Context) -> CheckResult {
    // The gzip format of the text "hello".
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10,
        0x36, 5, 0, 0, 0,
    ];
    let url = c.create(GZIP.len() as u64).await?;
    let request = c.patch(&url, 0, GZIP).field("Content-Encoding", "gzip");
    if c.send(request).await?.is_success() {
        c.expect_offset(&url, GZIP.len() as u64).await?;
        c.expect_bytes(&url, GZIP).await?;
    }
    Ok(())
}

async fn not_decoded(c: &Context) -> CheckResult {
    // Room for the decoded bytes.
    let url = c.create(2000).await?;
    let request = c.patch(&url, 0, GZIP).field("Content-Encoding", "gzip");
    let response = c.send(request).await?;
    let mut stored = 0;
    if response.is_success() {
        stored = GZIP.len() as u64;
        response.expect_number("Upload-Offset", stored)?;
    }
    c.expect_offset(&url, stored).await
}
