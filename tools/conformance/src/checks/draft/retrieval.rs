//! Offset retrieval: HEAD and GET.

use futures_util::future::try_join_all;
use url::Url;

use super::requests::{Draft, State};
use super::{RETRIEVAL, draft_checks};
use crate::client::{INTEROP_VERSION, Response};
use crate::requirement::{CheckResult, ensure, equal, skip};

draft_checks! {
    Must "draft/retrieval/succeeds", RETRIEVAL,
        "HEAD of an upload succeeds: 204 up to version 4, 200 or 204 up to 6, any 2xx later." => succeeds;
    Must "draft/retrieval/offset-of-a-new-upload", RETRIEVAL,
        "The response has Upload-Offset: 0 for an empty part." => offset_of_a_new_upload;
    Must "draft/retrieval/offset-of-a-part", RETRIEVAL,
        "Upload-Offset is the number of bytes stored." => offset_of_a_part;
    Must "draft/retrieval/offset-of-a-complete-upload", RETRIEVAL,
        "Upload-Offset of a complete upload is its length, unless it is removed." => offset_of_a_complete_upload;
    Must "draft/retrieval/part-is-not-complete", RETRIEVAL,
        "The response has Upload-Complete: ?0 before the last content; from version 10 on, the field is optional." => not_complete;
    Must "draft/retrieval/whole-is-complete", RETRIEVAL,
        "The response has Upload-Complete: ?1 after the last content; from version 10 on, the field is optional." => complete;
    Must "draft/retrieval/has-length", RETRIEVAL, [6..],
        "The response has Upload-Length if it is known; from version 10 on, the field is optional." => has_length;
    Must "draft/retrieval/has-length-of-a-whole", RETRIEVAL, [6..],
        "The length is known from the last content, too; from version 10 on, the field is optional." => has_length_of_a_whole;
    Must "draft/retrieval/unknown-length-is-absent", RETRIEVAL, [6..],
        "There is no Upload-Length before the length is known." => unknown_length;
    Must "draft/retrieval/has-limits", RETRIEVAL, [8..],
        "The response has Upload-Limit if there are limits." => has_limits;
    Should "draft/retrieval/no-store", RETRIEVAL,
        "The response has Cache-Control: no-store." => no_store;
    Must "draft/retrieval/no-content", "RFC 9110, 9.3.2 HEAD",
        "The response to HEAD has no content: the next response follows at once." => no_content;
    Must "draft/retrieval/changes-nothing", RETRIEVAL,
        "HEAD does not change the upload." => changes_nothing;
    Should "draft/retrieval/simultaneous-requests-agree", RETRIEVAL,
        "Simultaneous requests get the same offset." => simultaneous;
    Should "draft/retrieval/no-redirect", RETRIEVAL,
        "The response to HEAD is not 301, 302 or 303." => no_redirect;
    May "draft/retrieval/get", RETRIEVAL, [9..],
        "GET reports the same as HEAD." => get;
    May "draft/retrieval/without-version", RETRIEVAL,
        "HEAD without an interop version reports the offset." => without_version;
    Must "draft/retrieval/unknown-upload-is-an-error", RETRIEVAL,
        "HEAD of an upload that does not exist is an error: 404 up to version 6." => unknown_is_an_error;
    Should "draft/retrieval/unknown-upload-is-404", RETRIEVAL,
        "HEAD of an upload that does not exist is 404 or 410." => unknown_is_404;
    Must "draft/retrieval/fields-of-appends-are-rejected", RETRIEVAL, [..=6],
        "HEAD with Upload-Offset or Upload-Complete is 400, up to version 6." => fields_are_rejected;
    May "draft/retrieval/fields-of-appends-are-ignored", RETRIEVAL, [7..],
        "HEAD with Upload-Offset and Upload-Complete succeeds, from version 7 on." => fields_are_ignored;
}

async fn succeeds(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    let response = d.send(d.request("HEAD", &url)).await?;
    match d.dialect.version {
        ..=4 => response.expect(&[204]),
        5 | 6 => response.expect(&[200, 204]),
        _ => response.expect_success(),
    }
}

async fn offset_of_a_new_upload(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    d.expect_offset(&url, 0).await
}

async fn offset_of_a_part(d: &Draft<'_>) -> CheckResult {
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    d.expect_offset(&url, d.unit()).await
}

/// Returns the state of a complete upload; skips the check if the server has removed it.
async fn state_of_complete(d: &Draft<'_>) -> CheckResult<(State, u64)> {
    let data = d.data(2)?;
    let url = d.complete(&data).await?;
    let response = d.send(d.request("HEAD", &url)).await?;
    if matches!(response.status, 404 | 410) {
        return skip("the server removes complete uploads");
    }
    response.expect_success()?;
    Ok((d.state_of(&response)?, data.len() as u64))
}

async fn offset_of_a_complete_upload(d: &Draft<'_>) -> CheckResult {
    let (state, length) = state_of_complete(d).await?;
    equal("Upload-Offset", state.offset, length)
}

/// Fails unless a field that is optional from version 10 on has this value.
pub(super) fn expect_optional<T: PartialEq + std::fmt::Debug>(
    d: &Draft<'_>,
    name: &str,
    value: Option<T>,
    expected: T,
) -> CheckResult {
    let is_right = match &value {
        Some(value) => *value == expected,
        None => d.dialect.version >= 10,
    };
    ensure!(is_right, "{name} is {value:?}, not {expected:?}")
}

async fn not_complete(d: &Draft<'_>) -> CheckResult {
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    let flag = d.state(&url).await?.is_complete;
    expect_optional(d, "completeness", flag, false)
}

async fn complete(d: &Draft<'_>) -> CheckResult {
    let (state, _) = state_of_complete(d).await?;
    expect_optional(d, "completeness", state.is_complete, true)
}

async fn has_length(d: &Draft<'_>) -> CheckResult {
    let size = d.data(2)?.len();
    let url = d.create(size).await?;
    expect_optional(d, "Upload-Length", d.state(&url).await?.length, size as u64)
}

async fn has_length_of_a_whole(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_deferred().await?;
    d.last(&url, 0, &data).await?;
    let response = d.send(d.request("HEAD", &url)).await?;
    if matches!(response.status, 404 | 410) {
        return skip("the server removes complete uploads");
    }
    let length = d.state_of(&response)?.length;
    expect_optional(d, "Upload-Length", length, data.len() as u64)
}

async fn unknown_length(d: &Draft<'_>) -> CheckResult {
    let url = d.create_deferred().await?;
    d.head(&url).await?.expect_absent("Upload-Length")
}

async fn has_limits(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    d.expect_limits(&d.head(&url).await?, "the response")
}

async fn no_store(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    d.head(&url)
        .await?
        .expect_member("Cache-Control", "no-store")
}

/// Sends HEAD twice on one connection: content of the first response would be taken for the second one.
pub(super) async fn inspect_twice(
    d: &Draft<'_>,
    url: &Url,
    expect: fn(&Response) -> CheckResult,
) -> CheckResult {
    let mut connection = d.context.connect(url).await?;
    for _ in 0..2 {
        let response = connection.send(&d.request("HEAD", url)).await?;
        expect(&response)?;
        if response.is_closing() {
            break;
        }
    }
    Ok(())
}

async fn no_content(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    inspect_twice(d, &url, Response::expect_success).await
}

async fn changes_nothing(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    for _ in 0..5 {
        d.expect_offset(&url, unit).await?;
    }
    d.last(&url, unit, &data[unit..]).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn simultaneous(d: &Draft<'_>) -> CheckResult {
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    let states = try_join_all((0..8).map(|_| d.state(&url))).await?;
    let expected = d.unit() as u64;
    ensure!(
        states.iter().all(|state| state.offset == expected),
        "the states are {states:?}, not all at {expected}"
    )
}

async fn no_redirect(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    d.send(d.request("HEAD", &url)).await?.expect_no_redirect()
}

async fn get(d: &Draft<'_>) -> CheckResult {
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    let response = d.send(d.request("GET", &url)).await?.success()?;
    let (by_get, by_head) = (d.state_of(&response)?, d.state(&url).await?);
    ensure!(
        by_get == by_head,
        "GET reports {by_get:?}, and HEAD {by_head:?}"
    )
}

async fn without_version(d: &Draft<'_>) -> CheckResult {
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    let request = d.request("HEAD", &url).without(INTEROP_VERSION);
    let response = d.send(request).await?.success()?;
    let offset = d.state_of(&response)?.offset;
    equal("Upload-Offset", offset, d.unit() as u64)
}

async fn unknown_is_an_error(d: &Draft<'_>) -> CheckResult {
    let url = d.unknown().await?;
    let response = d.send(d.request("HEAD", &url)).await?;
    match d.dialect.version {
        ..=6 => response.expect(&[404]),
        _ => response.expect_rejection(),
    }
}

async fn unknown_is_404(d: &Draft<'_>) -> CheckResult {
    let url = d.unknown().await?;
    d.expect_gone(&url, &[404, 410]).await
}

async fn fields_are_rejected(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    let request = d.request("HEAD", &url).field("Upload-Offset", 0);
    d.send(request).await?.expect(&[400])?;
    let request = d.dialect.flag(d.request("HEAD", &url), false);
    d.send(request).await?.expect(&[400])
}

async fn fields_are_ignored(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    let request = d.dialect.flag(d.request("HEAD", &url), true);
    d.send(request.field("Upload-Offset", 0))
        .await?
        .expect_success()?;
    d.expect_incomplete(&url).await.map(drop)
}
