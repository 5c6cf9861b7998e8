//! Checksums in trailers of chunked bodies.

use url::Url;

use super::checksum::{expect_nothing_stored, value};
use crate::client::{Content, Response, chunk};
use crate::context::{Context, test_data};
use crate::requirement::CheckResult;

const SECTION: &str = "Checksum (checksum-trailer)";

checks! {
    Must "tus/checksum-trailer/match", SECTION,
        "Data whose checksum in the trailer is right is accepted." => matching("Upload-Checksum");
    Must "tus/checksum-trailer/field-name-ignores-case", SECTION,
        "The case of the trailer's name does not matter." => matching("upload-checksum");
    Must "tus/checksum-trailer/mismatch", SECTION,
        "Data whose checksum in the trailer is wrong is discarded: the offset stays." => mismatch(5);
    Must "tus/checksum-trailer/large-mismatch", SECTION,
        "A mismatch of 256 KiB discards all of it." => mismatch(256 << 10);
    May "tus/checksum-trailer/mismatch-is-460", SECTION,
        "The status of a mismatch is 460." => status_of_mismatch;
    Must "tus/checksum-trailer/unknown-algorithm-discards", SECTION,
        "With an algorithm that is not supported, the data is discarded." => discards("unknown AAAA");
    Should "tus/checksum-trailer/malformed-discards", SECTION,
        "With a malformed value, the data is discarded." => discards("sha1 !!!!");
    May "tus/checksum-trailer/unknown-algorithm-is-400", SECTION,
        "The status of an algorithm that is not supported is 400." => status_of_unknown;
    Must "tus/checksum-trailer/mismatch-can-be-repeated", SECTION,
        "After a mismatch, the same data with the right checksum is accepted." => can_be_repeated;
    Must "tus/checksum-trailer/mismatch-keeps-earlier-data", SECTION,
        "A mismatch discards the data of this request, and no earlier data." => keeps_earlier_data;
    Should "tus/checksum-trailer/without-announcement", SECTION,
        "A wrong checksum discards the data also without the field Trailer." => without_announcement;
    May "tus/checksum-trailer/missing-trailer-is-rejected", SECTION,
        "A request that announces the trailer and lacks it is rejected." => missing;
    Should "tus/checksum-trailer/cut-data-is-discarded", SECTION,
        "Data of an interrupted request cannot be verified, and does not count." => cut;
    May "tus/checksum-trailer/header-and-trailer-disagree", SECTION,
        "Different checksums in header and trailer discard the data." => disagree;
}

fn content(data: &[u8], name: &str, checksum: &str) -> Content {
    let chunks = data.chunks(1000).map(<[u8]>::to_vec).collect();
    Content::Chunked(chunks, vec![(name.to_owned(), checksum.to_owned())])
}

async fn send(
    c: &Context,
    url: &Url,
    offset: u64,
    data: &[u8],
    checksum: &str,
) -> CheckResult<Response> {
    let request = c
        .patch(url, offset, b"")
        .field("Trailer", "Upload-Checksum");
    c.send(request.content(content(data, "Upload-Checksum", checksum)))
        .await
}

fn expect_discarded(response: &Response) -> CheckResult {
    response.expect_no_success("")
}

async fn matching(c: &Context, name: &str) -> CheckResult {
    let data = test_data(2500);
    let url = c.create(2500).await?;
    let request = c.patch(&url, 0, b"").field("Trailer", name);
    let content = content(&data, name, &value("sha1", &data)?);
    let response = c.send(request.content(content)).await?;
    response.expect_stored(2500)?;
    c.expect_offset(&url, 2500).await?;
    c.expect_bytes(&url, &data).await
}

async fn mismatch(c: &Context, bytes: usize) -> CheckResult {
    c.needs_size(bytes as u64)?;
    let url = c.create(bytes as u64).await?;
    let response = send(c, &url, 0, &test_data(bytes), &value("sha1", b"other")?).await?;
    expect_discarded(&response)?;
    c.expect_offset(&url, 0).await
}

async fn status_of_mismatch(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let response = send(c, &url, 0, b"hello", &value("sha1", b"other")?).await?;
    response.expect(&[460])
}

async fn discards(c: &Context, checksum: &str) -> CheckResult {
    let url = c.create(10).await?;
    expect_discarded(&send(c, &url, 0, b"hello", checksum).await?)?;
    c.expect_offset(&url, 0).await
}

async fn status_of_unknown(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    send(c, &url, 0, b"hello", "unknown AAAA")
        .await?
        .expect(&[400])
}

async fn can_be_repeated(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    expect_discarded(&send(c, &url, 0, b"jello", &value("sha1", b"hello")?).await?)?;
    let response = send(c, &url, 0, b"hello", &value("sha1", b"hello")?).await?;
    response.expect_stored(5)?;
    c.expect_bytes(&url, b"hello").await
}

async fn keeps_earlier_data(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    c.append(&url, 0, b"hello").await?;
    expect_discarded(&send(c, &url, 5, b"world", &value("sha1", b"other")?).await?)?;
    c.expect_offset(&url, 5).await
}

async fn without_announcement(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let content = content(b"hello", "Upload-Checksum", &value("sha1", b"other")?);
    expect_discarded(&c.send(c.patch(&url, 0, b"").content(content)).await?)?;
    c.expect_offset(&url, 0).await
}

async fn missing(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let request = c.patch(&url, 0, b"").field("Trailer", "Upload-Checksum");
    let content = Content::in_chunks(b"hello", 5);
    expect_discarded(&c.send(request.content(content)).await?)?;
    c.expect_offset(&url, 0).await
}

async fn cut(c: &Context) -> CheckResult {
    let url = c.create(1000).await?;
    let request = c.patch(&url, 0, b"").field("Trailer", "Upload-Checksum");
    let request = request.content(Content::DeclaredChunked);
    let mut connection = c.start(&request, b"").await?;
    connection.write(&chunk(&test_data(500))).await?;
    connection.close();
    expect_nothing_stored(c, &url).await
}

async fn disagree(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let request = c.patch(&url, 0, b"").field("Trailer", "Upload-Checksum");
    let request = request.field("Upload-Checksum", value("sha1", b"hello")?);
    let content = content(b"hello", "Upload-Checksum", &value("sha1", b"other")?);
    expect_discarded(&c.send(request.content(content)).await?)?;
    c.expect_offset(&url, 0).await
}
