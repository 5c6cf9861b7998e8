//! Requests with the fields of tus and of the draft. Operating systems add the fields of the draft to requests of tus
//! clients.

use super::requests::Draft;
use super::{COMPLETENESS, LENGTH, draft_checks};
use url::Url;

use crate::client::{Request, Response};
use crate::context::UPLOAD_DATA;
use crate::requirement::{Capability, CheckResult, equal, skip};

const HEAD_OF_TUS: &str = "tus 1.0.0, Core Protocol, HEAD";
const NO_SECTION: &str = "not specified: two protocols in one request";

draft_checks! {
    May "draft/both/tus-creation-with-fields-of-the-draft", NO_SECTION,
        "A creation with Tus-Resumable is one of tus, though Upload-Complete is ?1." => creation;
    May "draft/both/tus-append-with-fields-of-the-draft", NO_SECTION,
        "A PATCH with Tus-Resumable is one of tus, though it has fields of the draft." => append;
    May "draft/both/no-104", NO_SECTION,
        "A request with Tus-Resumable gets no 104." => no_104;
    Must "draft/both/tus-upload-keeps-its-length", LENGTH,
        "The last content of the draft does not complete an upload of tus before its length." => keeps_its_length;
    Must "draft/both/tus-upload-completed-by-the-draft", HEAD_OF_TUS,
        "An upload of tus that the draft has completed has the offset of its length for tus." => completed_by_draft;
    Must "draft/both/tus-upload-of-unknown-length-completed-by-the-draft", HEAD_OF_TUS,
        "An upload of tus whose length the last content of the draft told has that length for tus." => deferred_completed_by_draft;
    Must "draft/both/complete-draft-upload-is-complete-for-tus", HEAD_OF_TUS,
        "A complete upload of the draft has its length and the offset of its length for tus." => complete_for_tus;
    Must "draft/both/draft-upload-completed-by-tus-is-complete-for-tus", HEAD_OF_TUS,
        "An upload of the draft has the offset of its length for tus when tus has sent its last byte." => completed_by_tus_for_tus;
    Must "draft/both/complete-upload-takes-no-data-of-tus", COMPLETENESS,
        "An upload that the draft has completed takes no data of tus." => takes_no_data_of_tus;
    Must "draft/both/complete-upload-takes-no-data-of-the-draft", COMPLETENESS,
        "An upload that tus has completed takes no data of the draft." => takes_no_data_of_draft;
    May "draft/both/draft-upload-completed-by-tus", NO_SECTION,
        "An upload of the draft is complete for both when tus has sent its last byte." => completed_by_tus;
    May "draft/both/head-by-tus", NO_SECTION,
        "HEAD by tus of an upload that the draft created reports its offset." => head_by_tus;
}

async fn needs_tus(d: &Draft<'_>) -> CheckResult {
    let response = d
        .send(Request::new("OPTIONS", d.context.endpoint()))
        .await?;
    match response.field("Tus-Version") {
        Some(_) => Ok(()),
        None => skip("the server does not speak tus"),
    }
}

/// A creation of tus with the fields of the draft.
async fn request(d: &Draft<'_>, length: usize) -> CheckResult<Request> {
    needs_tus(d).await?;
    let request = d.dialect.name(d.context.post());
    Ok(d.dialect.flag(request, true).field("Upload-Length", length))
}

async fn creation(d: &Draft<'_>) -> CheckResult {
    let url = d.created(request(d, 10).await?).await?;
    d.context.expect_offset(&url, 0).await?;
    d.context.append(&url, 0, &[0; 10]).await?;
    Ok(())
}

async fn append(d: &Draft<'_>) -> CheckResult {
    let url = d.created(request(d, 10).await?).await?;
    let request = d
        .append(&url, 0, &[0; 5], true)
        .field("Tus-Resumable", "1.0.0");
    let response = d.send(request.set("Content-Type", UPLOAD_DATA)).await?;
    response.expect_stored(5)?;
    d.context.expect_offset(&url, 5).await
}

async fn no_104(d: &Draft<'_>) -> CheckResult {
    let response = d.send(request(d, 10).await?).await?.success()?;
    response.expect_no_104()
}

async fn head_by_tus(d: &Draft<'_>) -> CheckResult {
    needs_tus(d).await?;
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    let response = d.send(d.context.tus("HEAD", &url)).await?;
    if !response.is_success() {
        return skip("the server has uploads of one protocol each");
    }
    let offset = response.number("Upload-Offset")?;
    equal("Upload-Offset", offset, d.unit() as u64)
}

/// Sends the last content of the draft to an upload of tus, or skips the check if the server has uploads of one
/// protocol each.
async fn complete_by_draft(
    d: &Draft<'_>,
    length: usize,
    data: &[u8],
) -> CheckResult<(Url, Response)> {
    needs_tus(d).await?;
    let url = d.context.create(length as u64).await?;
    if !d.send(d.request("HEAD", &url)).await?.is_success() {
        return skip("the server has uploads of one protocol each");
    }
    let response = d.send(d.append(&url, 0, data, true)).await?;
    Ok((url, response))
}

/// Sends HEAD by tus, or skips the check if the server has uploads of one protocol each.
async fn inspect_by_tus(d: &Draft<'_>, url: &Url) -> CheckResult<Response> {
    needs_tus(d).await?;
    let response = d.send(d.context.tus("HEAD", url)).await?;
    match response.is_success() {
        true => Ok(response),
        false => skip("the server has uploads of one protocol each"),
    }
}

/// Fails unless HEAD by tus reports a complete upload of this length, or neither protocol has it any more.
async fn expect_complete_for_tus(d: &Draft<'_>, url: &Url, length: usize) -> CheckResult {
    let response = d.send(d.context.tus("HEAD", url)).await?;
    if matches!(response.status, 404 | 410) {
        return d.expect_gone(url, &[404, 410]).await;
    }
    response.expect_success()?;
    response.expect_number("Upload-Offset", length as u64)?;
    response.expect_number("Upload-Length", length as u64)?;
    response.expect_absent("Upload-Defer-Length")
}

async fn keeps_its_length(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (url, response) = complete_by_draft(d, data.len(), &data[..d.unit()]).await?;
    response.expect_no_success(" for a part of the length")?;
    let head = d.send(d.context.tus("HEAD", &url)).await?;
    if head.is_success() {
        head.expect_number("Upload-Length", data.len() as u64)?;
        d.expect_incomplete(&url).await?;
    }
    Ok(())
}

async fn completed_by_draft(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (url, response) = complete_by_draft(d, data.len(), &data).await?;
    if !response.is_success() {
        response.expect_rejection()?;
        return skip("the server has uploads of one protocol each");
    }
    d.context.expect_offset(&url, data.len() as u64).await?;
    d.expect_state_if_there(&url, data.len()).await
}

/// Creates an upload of tus without a length, which the draft completes.
async fn complete_deferred(d: &Draft<'_>, data: &[u8]) -> CheckResult<Url> {
    needs_tus(d).await?;
    if !d.context.server.has(Capability::CreationDeferLength) {
        return skip("the server does not offer creation-defer-length");
    }
    let request = d.context.post().field("Upload-Defer-Length", 1);
    let url = d.created(request).await?;
    let response = d.send(d.append(&url, 0, data, true)).await?;
    if !response.is_success() {
        response.expect_rejection()?;
        return skip("the server has uploads of one protocol each");
    }
    Ok(url)
}

async fn deferred_completed_by_draft(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = complete_deferred(d, &data).await?;
    expect_complete_for_tus(d, &url, data.len()).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn complete_for_tus(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    for url in [d.create_for(&data).await?, d.create_deferred().await?] {
        d.part(&url, 0, &data[..unit]).await?;
        inspect_by_tus(d, &url).await?;
        d.last(&url, unit, &data[unit..]).await?;
        expect_complete_for_tus(d, &url, data.len()).await?;
    }
    Ok(())
}

async fn completed_by_tus_for_tus(d: &Draft<'_>) -> CheckResult {
    let (url, data) = complete_by_tus(d).await?;
    expect_complete_for_tus(d, &url, data.len()).await
}

async fn takes_no_data_of_tus(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (of_tus, response) = complete_by_draft(d, data.len(), &data).await?;
    let of_draft = d.complete(&data).await?;
    let completed = [Some(of_draft), response.is_success().then_some(of_tus)];
    for url in completed.into_iter().flatten() {
        let request = d.context.patch(&url, data.len() as u64, &data);
        let response = d.send(request).await?;
        response.expect_no_success(" for data beyond the end")?;
        d.expect_state_if_there(&url, data.len()).await?;
    }
    Ok(())
}

async fn takes_no_data_of_draft(d: &Draft<'_>) -> CheckResult {
    let (url, data) = complete_by_tus(d).await?;
    for is_last in [false, true] {
        let request = d.append(&url, data.len(), &data, is_last);
        let response = d.send(request).await?;
        response.expect_no_success(" for data beyond the end")?;
        let response = d.inspect(&url).await?;
        if matches!(response.status, 404 | 410) {
            // Content beyond the length ends the upload.
            return Ok(());
        }
        let offset = d.state_of(&response)?.offset;
        equal("Upload-Offset", offset, data.len() as u64)?;
    }
    Ok(())
}

/// Sends the last bytes of an upload of the draft by tus.
async fn complete_by_tus(d: &Draft<'_>) -> CheckResult<(Url, Vec<u8>)> {
    needs_tus(d).await?;
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let rest = d.context.patch(&url, unit as u64, &data[unit..]);
    let response = d.send(rest).await?;
    if !response.is_success() {
        response.expect_rejection()?;
        return skip("the server has uploads of one protocol each");
    }
    response.expect_number("Upload-Offset", data.len() as u64)?;
    Ok((url, data))
}

async fn completed_by_tus(d: &Draft<'_>) -> CheckResult {
    let (url, data) = complete_by_tus(d).await?;
    d.expect_state_if_there(&url, data.len()).await
}
