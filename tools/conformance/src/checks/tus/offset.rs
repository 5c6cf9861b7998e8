//! PATCH: the offset of the request.

use url::Url;

use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, ensure};

const PATCH: &str = "Core Protocol, PATCH";
const OFFSET: &str = "Core Protocol, Headers, Upload-Offset";

checks! {
    Must "tus/patch/lower-offset-is-409", PATCH,
        "PATCH at a lower offset than that of the upload is 409." => conflict(4, 0);
    Must "tus/patch/slightly-lower-offset-is-409", PATCH,
        "PATCH one byte below the offset of the upload is 409." => conflict(4, 3);
    Must "tus/patch/higher-offset-is-409", PATCH,
        "PATCH at a higher offset than that of the upload is 409." => conflict(4, 5);
    Must "tus/patch/offset-at-the-end-is-409", PATCH,
        "PATCH at the length of an unfinished upload is 409." => conflict(4, 10);
    Must "tus/patch/offset-beyond-the-end-is-rejected", PATCH,
        "PATCH beyond the length of the upload is rejected." => beyond_the_end;
    Must "tus/patch/conflict-changes-nothing", PATCH,
        "A request with another offset does not modify the upload." => conflict_changes_nothing;
    Must "tus/patch/rejected-requests-keep-the-offset", OFFSET,
        "Requests that are rejected for any reason do not lower the offset." => rejected_keep_the_offset;
    Must "tus/patch/complete-upload-with-lower-offset-is-409", PATCH,
        "PATCH at offset 0 of a complete upload is 409." => complete_conflict;
    Must "tus/patch/complete-upload-keeps-its-bytes", PATCH,
        "A rejected PATCH does not modify a complete upload." => complete_keeps_its_bytes;
    Should "tus/patch/repeated-patch-is-409", PATCH,
        "The same PATCH again is 409: its bytes are stored already." => repeated;

    Must "tus/patch/missing-offset-is-rejected", OFFSET,
        "PATCH without Upload-Offset is rejected and changes nothing." => offset_is_rejected(&[]);
    Must "tus/patch/negative-offset-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: -1 is rejected." => offset_is_rejected(&["-1"]);
    Must "tus/patch/text-offset-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: a text is rejected." => offset_is_rejected(&["abc"]);
    Must "tus/patch/empty-offset-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: an empty value is rejected." => offset_is_rejected(&[""]);
    Must "tus/patch/huge-offset-is-rejected", OFFSET,
        "An offset that does not fit in 64 bits is rejected." => offset_is_rejected(&["18446744073709551617"]);
    Should "tus/patch/offset-with-text-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: 3x is rejected." => offset_is_rejected(&["3x"]);
    Should "tus/patch/decimal-offset-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: 3.0 is rejected." => offset_is_rejected(&["3.0"]);
    Should "tus/patch/signed-offset-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: +3 is rejected." => offset_is_rejected(&["+3"]);
    Should "tus/patch/exponent-offset-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: 3e0 is rejected." => offset_is_rejected(&["3e0"]);
    Should "tus/patch/hexadecimal-offset-is-rejected", OFFSET,
        "Upload-Offset is a non-negative integer: 0x3 is rejected." => offset_is_rejected(&["0x3"]);
    Should "tus/patch/list-of-offsets-is-rejected", OFFSET,
        "Upload-Offset is one integer: 3, 3 is rejected." => offset_is_rejected(&["3, 3"]);
    Should "tus/patch/two-offsets-are-rejected", OFFSET,
        "Two Upload-Offset are rejected." => offset_is_rejected(&["3", "3"]);
    May "tus/patch/malformed-offset-is-not-409", OFFSET,
        "A malformed offset is not 409, which clients repeat." => malformed_is_not_409;
}

/// An upload of 10 bytes at this offset.
pub(super) async fn at_offset(c: &Context, offset: usize) -> CheckResult<Url> {
    let url = c.create(10).await?;
    if offset > 0 {
        c.append(&url, 0, &test_data(offset)).await?;
    }
    Ok(url)
}

async fn conflict(c: &Context, offset: usize, sent: u64) -> CheckResult {
    let url = at_offset(c, offset).await?;
    c.send(c.patch(&url, sent, b"x")).await?.expect(&[409])
}

async fn beyond_the_end(c: &Context) -> CheckResult {
    let url = at_offset(c, 4).await?;
    c.send(c.patch(&url, 11, b"x")).await?.expect_rejection()?;
    c.expect_offset(&url, 4).await
}

async fn conflict_changes_nothing(c: &Context) -> CheckResult {
    let data = test_data(10);
    let url = at_offset(c, 4).await?;
    for wrong in [0, 3, 5, 10] {
        c.send(c.patch(&url, wrong, b"xxxxx")).await?;
        c.expect_offset(&url, 4).await?;
    }
    c.append(&url, 4, &data[4..]).await?;
    c.expect_bytes(&url, &data).await
}

async fn rejected_keep_the_offset(c: &Context) -> CheckResult {
    let url = at_offset(c, 4).await?;
    let patch = || c.patch(&url, 4, b"xxx");
    let requests = [
        patch().set("Content-Type", "application/octet-stream"),
        patch().without("Content-Type"),
        patch().set("Tus-Resumable", "0.2.2"),
        patch().without("Upload-Offset"),
        patch().set("Upload-Offset", "-1"),
        patch().set("Upload-Offset", 0),
        patch().set("Upload-Offset", 11),
        patch().field("Upload-Checksum", "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        patch().field("Upload-Checksum", "unknown AAAA"),
        c.patch(&url, 4, &[0; 20]),
    ];
    let mut highest = 4;
    for request in requests {
        // What a server accepts is a matter of other checks.
        let status = c.send(request).await?.status;
        let offset = c.offset(&url).await?;
        ensure!(
            offset >= highest,
            "the offset was {highest}, and is {offset} after a request that got {status}"
        )?;
        highest = offset;
    }
    Ok(())
}

async fn complete_conflict(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    c.send(c.patch(&url, 0, b"world")).await?.expect(&[409])
}

async fn complete_keeps_its_bytes(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    for (offset, data) in [(0, "world"), (5, "world"), (6, "x")] {
        c.send(c.patch(&url, offset, data.as_bytes())).await?;
        c.expect_offset(&url, 5).await?;
    }
    c.expect_bytes(&url, b"hello").await
}

async fn repeated(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    c.append(&url, 0, b"hello").await?;
    c.send(c.patch(&url, 0, b"hello")).await?.expect(&[409])?;
    c.expect_offset(&url, 5).await
}

/// Sends these values of `Upload-Offset`.
async fn offset_is_rejected(c: &Context, values: &[&str]) -> CheckResult {
    let url = at_offset(c, 3).await?;
    let mut request = c.patch(&url, 3, b"hello").without("Upload-Offset");
    for value in values {
        request = request.field("Upload-Offset", value);
    }
    c.send(request).await?.expect_rejection()?;
    c.expect_offset(&url, 3).await
}

async fn malformed_is_not_409(c: &Context) -> CheckResult {
    let url = at_offset(c, 3).await?;
    let request = c.patch(&url, 3, b"hello").set("Upload-Offset", "-1");
    let response = c.send(request).await?;
    response.expect_rejection()?;
    ensure!(response.status != 409, "the status is 409")
}
