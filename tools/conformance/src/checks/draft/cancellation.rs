//! Cancellation: DELETE.

use url::Url;

use super::concurrency::start_append;
use super::requests::Draft;
use super::{CANCELLATION, draft_checks};
use crate::client::Response;
use crate::requirement::{CheckResult, Finding, skip};

draft_checks! {
    Must "draft/cancellation/is-204", CANCELLATION, [..=7],
        "The response to DELETE has the status 204, up to version 7." => is_204;
    Should "draft/cancellation/succeeds", CANCELLATION, [8..],
        "The response to DELETE has a status 2xx." => succeeds;
    Should "draft/cancellation/head-is-an-error", CANCELLATION,
        "HEAD of a cancelled upload is 404 or 410." => head_is_an_error;
    Should "draft/cancellation/append-is-an-error", CANCELLATION,
        "An append to a cancelled upload is 404 or 410." => append_is_an_error;
    Should "draft/cancellation/new-upload", CANCELLATION,
        "An upload without any content can be cancelled." => new_upload;
    May "draft/cancellation/twice", CANCELLATION,
        "DELETE of a cancelled upload is 404 or 410, or succeeds again." => twice;
    May "draft/cancellation/complete-upload", CANCELLATION,
        "DELETE of a complete upload succeeds, or is rejected." => complete_upload;
    Should "draft/cancellation/unknown-upload", CANCELLATION,
        "DELETE of an upload that does not exist is 404 or 410." => unknown_upload;
    Should "draft/cancellation/no-redirect", CANCELLATION,
        "The response to DELETE is not 301, 302 or 303." => no_redirect;
    Must "draft/cancellation/during-an-append", CANCELLATION,
        "DELETE during an append is answered, and a success ends the upload." => during_an_append;
    Should "draft/cancellation/ends-the-append", CANCELLATION,
        "DELETE ends an append to the same upload." => ends_the_append;
    Must "draft/cancellation/others-remain", CANCELLATION,
        "DELETE of one upload does not change another." => others_remain;
    Must "draft/cancellation/fields-of-appends-are-rejected", CANCELLATION, [..=6],
        "DELETE with Upload-Offset is 400, up to version 6." => fields_are_rejected;
}

/// Creates an upload with a part, and cancels it.
async fn cancel(d: &Draft<'_>) -> CheckResult<(Url, Response)> {
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    let response = d.send(d.request("DELETE", &url)).await?;
    Ok((url, response))
}

async fn cancelled(d: &Draft<'_>) -> CheckResult<Url> {
    let (url, response) = cancel(d).await?;
    match response.is_success() {
        true => Ok(url),
        false => skip(format!("the status of DELETE is {}", response.status)),
    }
}

async fn is_204(d: &Draft<'_>) -> CheckResult {
    let (_, response) = cancel(d).await?;
    response.expect(&[204, 405])
}

async fn succeeds(d: &Draft<'_>) -> CheckResult {
    cancel(d).await?.1.expect_success()
}

async fn head_is_an_error(d: &Draft<'_>) -> CheckResult {
    let url = cancelled(d).await?;
    d.expect_gone(&url, &[404, 410]).await
}

async fn append_is_an_error(d: &Draft<'_>) -> CheckResult {
    let (url, data) = (cancelled(d).await?, d.data(2)?);
    let request = d.append(&url, d.unit(), &data[d.unit()..], true);
    d.send(request).await?.expect(&[404, 410])
}

async fn new_upload(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    d.send(d.request("DELETE", &url)).await?.expect_success()?;
    d.expect_gone(&url, &[404, 410]).await
}

async fn twice(d: &Draft<'_>) -> CheckResult {
    let url = cancelled(d).await?;
    let response = d.send(d.request("DELETE", &url)).await?;
    response.expect(&[200, 202, 204, 404, 410])
}

async fn complete_upload(d: &Draft<'_>) -> CheckResult {
    let url = d.complete(&d.data(2)?).await?;
    let response = d.send(d.request("DELETE", &url)).await?;
    if !response.is_success() {
        response.expect_rejection()?;
    }
    Ok(())
}

async fn unknown_upload(d: &Draft<'_>) -> CheckResult {
    let url = d.unknown().await?;
    d.send(d.request("DELETE", &url)).await?.expect(&[404, 410])
}

async fn no_redirect(d: &Draft<'_>) -> CheckResult {
    cancel(d).await?.1.expect_no_redirect()
}

async fn during_an_append(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_for(&data).await?;
    let connection = start_append(d, &url, &data, unit, true).await?;
    let response = d.send(d.request("DELETE", &url)).await?;
    connection.close();
    match response.is_success() {
        true => d.expect_gone(&url, &[404, 410]).await,
        // The running append may keep the upload.
        false => d.resume(&url, &data).await,
    }
}

async fn ends_the_append(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_for(&data).await?;
    let mut connection = start_append(d, &url, &data, unit, true).await?;
    d.send(d.request("DELETE", &url)).await?.expect_success()?;
    let limit = d.context.options.timeout;
    let ended = tokio::time::timeout(limit, super::requests::end_of(&mut connection)).await;
    let response = ended.map_err(|_| Finding::failed("the append does not end"))?;
    if let Some(response) = response {
        response.expect_no_success(" for the append of a cancelled upload")?;
    }
    Ok(())
}

async fn others_remain(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let other = d.create_with(&data, d.unit()).await?;
    cancelled(d).await?;
    d.resume(&other, &data).await
}

async fn fields_are_rejected(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    let request = d.request("DELETE", &url).field("Upload-Offset", 0);
    d.send(request).await?.expect(&[400, 405])
}
