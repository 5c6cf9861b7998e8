//! Checksums in the header.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use landfall_protocol::Algorithm;
use url::Url;

use crate::client::{Content, Request};
use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, Finding, ensure, skip};

const SECTION: &str = "Checksum";
const HEADER: &str = "Checksum, Headers, Upload-Checksum";

checks! {
    Must "tus/checksum/sha1", SECTION, "Data whose SHA-1 checksum is right is accepted." => right("sha1");
    Must "tus/checksum/sha1-mismatch", SECTION,
        "Data whose SHA-1 checksum is wrong is discarded: the offset stays." => wrong("sha1");
    Must "tus/checksum/md5", SECTION, "If listed: data whose MD5 checksum is right is accepted." => right("md5");
    Must "tus/checksum/md5-mismatch", SECTION, "If listed: a wrong MD5 checksum discards the data." => wrong("md5");
    Must "tus/checksum/sha256", SECTION, "If listed: data whose SHA-256 checksum is right is accepted." => right("sha256");
    Must "tus/checksum/sha256-mismatch", SECTION, "If listed: a wrong SHA-256 checksum discards the data." => wrong("sha256");
    Must "tus/checksum/sha512", SECTION, "If listed: data whose SHA-512 checksum is right is accepted." => right("sha512");
    Must "tus/checksum/sha512-mismatch", SECTION, "If listed: a wrong SHA-512 checksum discards the data." => wrong("sha512");
    Must "tus/checksum/crc32", SECTION, "If listed: data whose CRC-32 checksum is right is accepted." => right("crc32");
    Must "tus/checksum/crc32-mismatch", SECTION, "If listed: a wrong CRC-32 checksum discards the data." => wrong("crc32");
    May "tus/checksum/match-is-204", SECTION, "The status of a match is 204." => status_of(b"hello", 204);
    May "tus/checksum/mismatch-is-460", SECTION, "The status of a mismatch is 460." => status_of(b"other", 460);
    May "tus/checksum/unknown-algorithm-is-400", SECTION,
        "The status of an algorithm that is not supported is 400." => status_of_unknown;
    Must "tus/checksum/unknown-algorithm-discards", SECTION,
        "With an algorithm that is not supported, the data is discarded." => discards("unknown Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    Should "tus/checksum/upper-case-algorithm-is-unknown", SECTION,
        "Names of algorithms have no upper-case letters: SHA1 is unknown." => discards("SHA1 qvTGHdzF6KLavt4PO0gs2a6pQ00=");
    Should "tus/checksum/without-a-digest-is-rejected", HEADER,
        "The value is a name, a space and a digest: a name alone is rejected." => discards("sha1");
    Should "tus/checksum/invalid-base64-is-rejected", HEADER,
        "The digest is Base64: another text is rejected." => discards("sha1 !!!!");
    Should "tus/checksum/short-digest-is-rejected", HEADER,
        "A digest of too few bytes is rejected." => discards("sha1 qvTGHdw=");
    Should "tus/checksum/hexadecimal-digest-is-rejected", HEADER,
        "A hexadecimal digest is rejected." => discards("sha1 aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d");
    Should "tus/checksum/empty-value-is-rejected", HEADER,
        "An empty value is rejected." => discards("");
    Must "tus/checksum/is-optional", SECTION, "Requests without Upload-Checksum are accepted." => is_optional;
    Must "tus/checksum/is-of-one-request", SECTION,
        "The checksum is that of the body of this request alone." => is_of_one_request;
    Must "tus/checksum/mismatch-can-be-repeated", SECTION,
        "After a mismatch, the same data with the right checksum is accepted." => mismatch_can_be_repeated;
    Must "tus/checksum/mismatch-of-later-data", SECTION,
        "A mismatch discards the data of this request, and no earlier data." => mismatch_of_later_data;
    Must "tus/checksum/mismatch-of-the-last-data", SECTION,
        "A mismatch of the last data does not complete the upload." => mismatch_of_the_last_data;
    Must "tus/checksum/large-mismatch", SECTION,
        "A mismatch of a mebibyte discards all of it." => large_mismatch;
    Must "tus/checksum/large-match", SECTION, "A match of a mebibyte keeps all of it." => large_match;
    Should "tus/checksum/empty-body", SECTION, "The checksum of an empty body is verified." => empty_body;
    Must "tus/checksum/chunked-mismatch", SECTION,
        "The checksum of a body in chunks is verified." => chunked_mismatch;
    Must "tus/checksum/chunked-match", SECTION,
        "A body in chunks whose checksum is right is accepted." => chunked_match;
    Must "tus/checksum/conflict-comes-first", "Core Protocol, PATCH",
        "PATCH at another offset is 409, also with a right checksum." => conflict_comes_first;
    Should "tus/checksum/cut-data-is-discarded", SECTION,
        "Data of an interrupted request cannot be verified, and does not count." => cut_data_is_discarded;
    Should "tus/checksum/two-checksums-are-rejected", HEADER,
        "Two different checksums are rejected." => two_checksums;
}

/// Returns the value of `Upload-Checksum` for these bytes.
pub(super) fn value(name: &str, data: &[u8]) -> CheckResult<String> {
    let unknown = || Finding::skipped(format!("the checks do not know {name}"));
    let algorithm = Algorithm::by_name(name).ok_or_else(unknown)?;
    let bytes = (1..=64).rev().find(|bytes| algorithm.takes_length(*bytes));
    let mut hasher = algorithm.hasher();
    hasher.update(data);
    let digest = hasher.digest(bytes.unwrap_or_default());
    Ok(format!("{name} {}", STANDARD.encode(digest)))
}

fn listed(c: &Context, name: &str) -> CheckResult {
    let mut names = c.server.checksum_algorithms.iter();
    // Every server with the extension supports sha1.
    match name == "sha1" || names.any(|listed| listed == name) {
        true => Ok(()),
        false => skip(format!("the server does not list {name}")),
    }
}

async fn right(c: &Context, name: &str) -> CheckResult {
    listed(c, name)?;
    let data = test_data(100);
    let url = c.create(100).await?;
    let request = c.patch(&url, 0, &data);
    let response = c
        .send(request.field("Upload-Checksum", value(name, &data)?))
        .await?;
    response.expect_stored(100)?;
    c.expect_offset(&url, 100).await
}

async fn expect_discarded(c: &Context, url: &Url, checksum: &str) -> CheckResult {
    let request = c.patch(url, 0, b"hello").field("Upload-Checksum", checksum);
    let response = c.send(request).await?;
    response.expect_no_success(", although the checksum is wrong")?;
    c.expect_offset(url, 0).await
}

async fn wrong(c: &Context, name: &str) -> CheckResult {
    listed(c, name)?;
    let url = c.create(10).await?;
    expect_discarded(c, &url, &value(name, b"other")?).await
}

async fn discards(c: &Context, checksum: &str) -> CheckResult {
    let url = c.create(10).await?;
    expect_discarded(c, &url, checksum).await
}

async fn status_of(c: &Context, data: &[u8], status: u16) -> CheckResult {
    let url = c.create(10).await?;
    let request = verified(c, &url, 0, b"hello", data)?;
    c.send(request).await?.expect(&[status])
}

async fn status_of_unknown(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let request = c.patch(&url, 0, b"hello");
    let request = request.field("Upload-Checksum", "unknown AAAA");
    c.send(request).await?.expect(&[400])
}

/// A PATCH whose checksum is that of other data.
fn verified(c: &Context, url: &Url, offset: u64, sent: &[u8], of: &[u8]) -> CheckResult<Request> {
    let request = c.patch(url, offset, sent);
    Ok(request.field("Upload-Checksum", value("sha1", of)?))
}

async fn is_optional(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    c.expect_offset(&url, 5).await
}

async fn append_verified(c: &Context, url: &Url, offset: u64, data: &[u8]) -> CheckResult {
    let response = c.send(verified(c, url, offset, data, data)?).await?;
    response.expect_stored(offset + data.len() as u64)
}

async fn append_mismatch(c: &Context, url: &Url, offset: u64, data: &[u8]) -> CheckResult {
    let response = c.send(verified(c, url, offset, data, b"no")?).await?;
    response.expect_no_success("")?;
    c.expect_offset(url, offset).await
}

async fn is_of_one_request(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    append_verified(c, &url, 0, b"hello").await?;
    append_verified(c, &url, 5, b"world").await?;
    c.expect_bytes(&url, b"helloworld").await
}

async fn mismatch_can_be_repeated(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    append_mismatch(c, &url, 0, b"jello").await?;
    append_verified(c, &url, 0, b"hello").await?;
    c.expect_bytes(&url, b"hello").await
}

async fn mismatch_of_later_data(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    append_verified(c, &url, 0, b"hello").await?;
    append_mismatch(c, &url, 5, b"xx").await?;
    append_verified(c, &url, 5, b"world").await?;
    c.expect_bytes(&url, b"helloworld").await
}

async fn mismatch_of_the_last_data(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    append_mismatch(c, &url, 0, b"hello").await
}

async fn large_mismatch(c: &Context) -> CheckResult {
    c.needs_size(1 << 20)?;
    let url = c.create(1 << 20).await?;
    append_mismatch(c, &url, 0, &test_data(1 << 20)).await
}

async fn large_match(c: &Context) -> CheckResult {
    c.needs_size(1 << 20)?;
    let data = test_data(1 << 20);
    let url = c.create(1 << 20).await?;
    append_verified(c, &url, 0, &data).await?;
    c.expect_bytes(&url, &data).await
}

async fn empty_body(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    append_verified(c, &url, 0, b"").await?;
    append_mismatch(c, &url, 0, b"").await
}

async fn send_chunked(c: &Context, url: &Url, of: &[u8]) -> CheckResult<bool> {
    let request = verified(c, url, 0, b"", of)?.content(Content::in_chunks(b"hello", 2));
    Ok(c.send(request).await?.is_success())
}

async fn chunked_mismatch(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let is_accepted = send_chunked(c, &url, b"other").await?;
    ensure!(!is_accepted, "the data was accepted")?;
    c.expect_offset(&url, 0).await
}

async fn chunked_match(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let is_accepted = send_chunked(c, &url, b"hello").await?;
    ensure!(is_accepted, "the data was rejected")?;
    c.expect_offset(&url, 5).await
}

async fn conflict_comes_first(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let request = verified(c, &url, 5, b"hello", b"hello")?;
    c.send(request).await?.expect(&[409])?;
    c.expect_offset(&url, 0).await
}

async fn cut_data_is_discarded(c: &Context) -> CheckResult {
    let data = test_data(1000);
    let url = c.create(1000).await?;
    let request = verified(c, &url, 0, &data, &data)?;
    c.start(&request, &data[..500]).await?.close();
    expect_nothing_stored(c, &url).await
}

/// Fails unless the offset stays 0 after an interrupted request.
pub(super) async fn expect_nothing_stored(c: &Context, url: &Url) -> CheckResult {
    let offset = c.final_offset(url).await?;
    ensure!(
        offset == 0,
        "the offset is {offset}, but no data could be verified"
    )
}

async fn two_checksums(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let request = verified(c, &url, 0, b"hello", b"hello")?;
    let request = request.field("Upload-Checksum", value("sha1", b"other")?);
    c.send(request).await?.expect_no_success("")?;
    c.expect_offset(&url, 0).await
}
