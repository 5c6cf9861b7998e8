//! Completeness: the last content, complete uploads and repeated requests.

use super::requests::Draft;
use super::{APPEND, COMPLETENESS, draft_checks};
use crate::client::Content;
use crate::requirement::{CheckResult, ensure, skip};

draft_checks! {
    Must "draft/completion/last-append-is-complete", APPEND,
        "The response to the last content has Upload-Complete: ?1." => last_is_complete;
    Must "draft/completion/last-append-without-content", APPEND,
        "An append with Upload-Complete: ?1 and no content completes the upload, if all bytes are there." => without_content;
    Must "draft/completion/last-append-in-chunks", APPEND,
        "The last content can be sent in chunks, without Content-Length." => last_in_chunks;
    Should "draft/completion/response-is-that-to-the-whole", APPEND, [7..],
        "The last append gets the status that the whole in one request gets." => as_in_one_request;
    Must "draft/completion/length-does-not-complete", COMPLETENESS, [7..],
        "Upload-Complete: ?0 with the last byte of the length does not complete the upload silently." => not_by_length;
    Must "draft/completion/whole-after-all-parts", COMPLETENESS,
        "An upload whose parts have all bytes is completed by an append with Upload-Complete: ?1." => after_all_parts;
    Must "draft/completion/complete-upload-takes-no-data", COMPLETENESS,
        "Data after the end does not change a complete upload." => takes_no_data;
    Must "draft/completion/complete-upload-is-not-overwritten", COMPLETENESS,
        "Data at a lower offset does not change a complete upload." => not_overwritten;
    May "draft/completion/last-request-repeated", APPEND, [9..],
        "An append without content at the end of a complete upload gets the final response again." => repeated;
    Should "draft/completion/empty-upload", COMPLETENESS,
        "An upload of length 0 is completed by an append without content." => empty_upload;
    Should "draft/completion/part-of-a-complete-upload-is-rejected", COMPLETENESS, [4..],
        "A part that is sent to a complete upload is rejected." => part_is_rejected;
}

async fn last_is_complete(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let response = d.last(&url, unit, &data[unit..]).await?;
    match (d.dialect.version, d.is_complete(&response)?) {
        // The field is required from version 7 on.
        (..=6, None) => Ok(()),
        _ => d.expect_flag(&response, true),
    }
}

async fn without_content(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_deferred().await?;
    d.part(&url, 0, &data[..unit]).await?;
    d.part(&url, unit, &data[unit..]).await?;
    d.expect_incomplete(&url).await?;
    d.last(&url, data.len(), b"").await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn last_in_chunks(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let content = Content::in_chunks(&data[unit..], unit);
    let request = d.append(&url, unit, b"", true).content(content);
    d.send(request).await?.expect_success()?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn as_in_one_request(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let whole = d.send(d.creation(&data, true)).await?;
    let url = d.create(data.len()).await?;
    let last = d.last(&url, 0, &data).await?;
    ensure!(
        whole.status == last.status,
        "the status is {} for the whole in one request, and {} for the last append",
        whole.status,
        last.status
    )
}

async fn not_by_length(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    let response = d.part(&url, 0, &data).await?;
    if d.is_complete(&response)? == Some(true) {
        // A server may complete an upload early, if its response states that.
        return Ok(());
    }
    d.expect_incomplete(&url).await.map(drop)
}

async fn after_all_parts(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    let response = d.part(&url, 0, &data).await?;
    if d.is_complete(&response)? == Some(true) || d.dialect.version <= 6 {
        return skip("the server completes the upload at its length");
    }
    d.last(&url, data.len(), b"").await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn takes_no_data(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.complete(&data).await?;
    for is_last in [false, true] {
        let request = d.append(&url, data.len(), &data, is_last);
        let response = d.send(request).await?;
        response.expect_no_success(" for data beyond the end")?;
        if matches!(d.send(d.request("HEAD", &url)).await?.status, 404 | 410) {
            // Content beyond the length ends the upload.
            return Ok(());
        }
        d.expect_state_if_there(&url, data.len()).await?;
    }
    Ok(())
}

async fn not_overwritten(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.complete(&data).await?;
    let response = d.send(d.append(&url, 0, &data, true)).await?;
    response.expect_rejection()?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn repeated(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    let first = d.last(&url, 0, &data).await?;
    let again = d.send(d.append(&url, data.len(), b"", true)).await?;
    if matches!(again.status, 404 | 410) {
        return skip("the server removes complete uploads");
    }
    again.expect(&[first.status])?;
    d.expect_flag(&again, true)
}

async fn empty_upload(d: &Draft<'_>) -> CheckResult {
    if d.limits().get("min-size").is_some_and(|size| size > 0) {
        return skip("min-size is above 0");
    }
    let url = d.create(0).await?;
    if d.state(&url).await?.is_complete == Some(true) {
        return Ok(());
    }
    d.last(&url, 0, b"").await?;
    d.expect_state_if_there(&url, 0).await
}

async fn part_is_rejected(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.complete(&data).await?;
    let request = d.append(&url, data.len(), &data, false);
    d.send(request).await?.expect_rejection()
}
