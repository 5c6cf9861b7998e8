//! Interim responses: 104 (Upload Resumption Supported).

use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use super::requests::{Draft, INTERIM, SETTLE};
use super::{APPEND, CREATION, OFFSET, STATUS_104, draft_checks};
use crate::client::{Connection, Content, Response};
use crate::dialect::fields::{Limits, integer};
use crate::requirement::{CheckResult, Finding, ensure, fail, skip};

/// A server that reports progress does so while this much content arrives.
const PROGRESS_BYTES: u64 = 10 << 20;
const PROGRESS_PIECES: usize = 10;
/// Servers may limit how often they report progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(300);

draft_checks! {
    Should "draft/interim/announces-the-upload", CREATION,
        "A 104 with Location announces the upload before its content is complete." => is_announced;
    Should "draft/interim/announces-the-upload-over-http2", CREATION,
        "A server that announces uploads by 104 and offers HTTP/2 does so over it, too." => is_announced_over_http2;
    Must "draft/interim/has-limits", CREATION, [8..],
        "The 104 with Location has Upload-Limit if there are limits." => has_limits;
    Must "draft/interim/location-is-the-upload", CREATION,
        "HEAD succeeds at the Location of a 104 after the creation was interrupted." => location_is_the_upload;
    Must "draft/interim/final-response-has-the-same-location", CREATION,
        "The final response to a part has the Location that the 104 had." => same_location;
    Must "draft/interim/all-of-a-creation-have-the-same-location", CREATION, [8..],
        "Each 104 of a creation has the same Location." => all_have_the_same_location;
    Must "draft/interim/offsets-are-stored", OFFSET, [5..],
        "HEAD reports no lower offset than a 104 did." => offsets_are_stored;
    Must "draft/interim/offsets-of-an-append-are-stored", OFFSET, [5..],
        "HEAD reports no lower offset than a 104 of an append did." => offsets_of_append_are_stored;
    Must "draft/interim/offsets-do-not-decrease", OFFSET, [5..],
        "Offsets of one 104 after the other do not decrease, and do not exceed the bytes sent." => offsets_do_not_decrease;
    Must "draft/interim/append-has-no-location", APPEND, [5..],
        "A 104 in response to an append has no Location." => append_has_no_location;
    Must "draft/interim/append-without-version-gets-none", STATUS_104,
        "An append without an interop version gets no 104." => append_without_version;
    Must "draft/interim/no-content-fields", "RFC 9110, 8.6 Content-Length; RFC 9112, 6.1 Transfer-Encoding",
        "A 104 has no Content-Length and no Transfer-Encoding." => no_content_fields;
    Must "draft/interim/none-for-http-1-0", "RFC 9110, 15.2 Informational 1xx",
        "A client of HTTP/1.0 gets no interim response." => none_for_http_1_0;
    Must "draft/interim/next-response-follows", "RFC 9112, 9.3 Persistence",
        "After a 104 and a final response, the next request on the connection gets its response." => next_response;
    Must "draft/interim/none-after-the-final-response", "RFC 9110, 15.2 Informational 1xx",
        "Interim responses come before the final response, and none after it." => none_after_the_final_response;
    Must "draft/interim/conventional-request-gets-none", STATUS_104,
        "A request without Upload-Complete gets no 104." => conventional_request;
    Must "draft/interim/head-and-delete-get-none", STATUS_104,
        "HEAD and DELETE of an upload get no 104." => head_and_delete;
}

async fn is_announced(d: &Draft<'_>) -> CheckResult {
    if d.dialect.named.is_none() {
        return skip("the requests name no version");
    }
    let data = d.data(2)?;
    match d.create_announced(&data, d.unit(), true).await {
        Err(Finding::Skipped(_)) => {
            fail(format!("there is no 104 with Location within {INTERIM:?}"))
        }
        announced => announced.map(drop),
    }
}

async fn is_announced_over_http2(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    // Skips the check if there is no 104 at all.
    d.create_announced(&data, d.unit(), true).await?;
    let Some(client) = d.context.client.over_http2(d.context.endpoint()).await? else {
        return skip("the server does not offer HTTP/2");
    };
    let context = d.context.with(client);
    let over_http2 = Draft {
        context: &context,
        dialect: d.dialect,
    };
    match over_http2.create_announced(&data, d.unit(), true).await {
        Err(Finding::Skipped(_)) => fail(format!(
            "there is no 104 with Location within {INTERIM:?} over HTTP/2"
        )),
        announced => announced.map(drop),
    }
}

async fn has_limits(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (started, _) = d.create_announced(&data, d.unit(), true).await?;
    let named = started
        .interim
        .iter()
        .find(|head| head.field("Location").is_some());
    let limits = named.map(Limits::parse).transpose()?.flatten();
    ensure!(
        limits.is_some() || !d.limits().limits_anything(),
        "the 104 has no Upload-Limit, but OPTIONS reports limits"
    )
}

async fn location_is_the_upload(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (started, url) = d.create_announced(&data, d.unit(), true).await?;
    started.connection.close();
    let state = d.expect_incomplete(&url).await?;
    ensure!(
        state.offset <= d.unit() as u64,
        "Upload-Offset is {}, and {} bytes were sent",
        state.offset,
        d.unit()
    )
}

async fn same_location(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (mut started, url) = d.create_announced(&data, d.unit(), false).await?;
    let response = started.connection.finish(&data[d.unit()..]).await?;
    let last = d.context.location(&response)?;
    ensure!(last == url, "Location was {url}, and then {last}")
}

/// Sends content so slowly that a server may report progress, and returns the interim responses.
async fn progress(connection: &mut Connection, content: &[u8]) -> CheckResult<Vec<Response>> {
    let mut interim = Vec::new();
    for piece in content.chunks(content.len().div_ceil(PROGRESS_PIECES)) {
        connection.write(piece).await?;
        sleep(PROGRESS_INTERVAL).await;
        while let Ok(head) = connection.interim_within(Duration::from_millis(1)).await {
            head.expect_interim()?;
            interim.push(head);
        }
    }
    interim.retain(|head| head.status == 104);
    if interim
        .iter()
        .all(|head| head.field("Upload-Offset").is_none())
    {
        return skip("the server reports no progress by 104");
    }
    Ok(interim)
}

/// Starts a creation with much content, and does not send its last byte.
async fn creation_in_progress(d: &Draft<'_>) -> CheckResult<(Url, Connection, Vec<Response>)> {
    let data = d.sized(PROGRESS_BYTES)?;
    let (mut started, url) = d.create_announced(&data, 0, true).await?;
    let content = &data[..data.len() - 1];
    let mut interim = started.interim;
    interim.extend(progress(&mut started.connection, content).await?);
    Ok((url, started.connection, interim))
}

async fn all_have_the_same_location(d: &Draft<'_>) -> CheckResult {
    let (_, _, interim) = creation_in_progress(d).await?;
    let first = interim.iter().find_map(|head| head.field("Location"));
    for head in interim.iter().filter(|head| head.status == 104) {
        let location = head.field("Location");
        ensure!(
            location == first,
            "Location is {location:?}, and was {first:?}"
        )?;
    }
    Ok(())
}

fn offsets(interim: &[Response]) -> CheckResult<Vec<u64>> {
    let offsets = interim.iter().map(|head| integer(head, "Upload-Offset"));
    Ok(offsets
        .collect::<CheckResult<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

async fn offsets_are_stored(d: &Draft<'_>) -> CheckResult {
    expect_stored(d, creation_in_progress(d).await?).await
}

async fn offsets_of_append_are_stored(d: &Draft<'_>) -> CheckResult {
    expect_stored(d, append_in_progress(d).await?).await
}

/// Cuts the request, and fails if HEAD then reports a lower offset than a 104 did.
async fn expect_stored(
    d: &Draft<'_>,
    (url, connection, interim): (Url, Connection, Vec<Response>),
) -> CheckResult {
    connection.reset();
    // A server may still report bytes that it loses when it notices the cut.
    sleep(SETTLE).await;
    let reported = offsets(&interim)?.into_iter().max().unwrap_or_default();
    let offset = d.expect_incomplete(&url).await?.offset;
    ensure!(
        offset >= reported,
        "a 104 reported {reported}, and HEAD reports {offset}"
    )
}

async fn offsets_do_not_decrease(d: &Draft<'_>) -> CheckResult {
    let (_, _, interim) = creation_in_progress(d).await?;
    let offsets = offsets(&interim)?;
    ensure!(offsets.is_sorted(), "the offsets are {offsets:?}")?;
    ensure!(
        offsets.iter().all(|offset| *offset < PROGRESS_BYTES),
        "the offsets are {offsets:?}, and {} bytes were sent",
        PROGRESS_BYTES - 1
    )
}

/// Starts an append with much content, and does not send its last byte.
async fn append_in_progress(d: &Draft<'_>) -> CheckResult<(Url, Connection, Vec<Response>)> {
    let data = d.sized(PROGRESS_BYTES)?;
    let url = d.create(data.len()).await?;
    let request = d.append(&url, 0, b"", true);
    let declared = Content::Declared(PROGRESS_BYTES);
    let mut connection = d.start(request, declared, b"").await?;
    let interim = progress(&mut connection, &data[..data.len() - 1]).await?;
    Ok((url, connection, interim))
}

async fn append_has_no_location(d: &Draft<'_>) -> CheckResult {
    for head in append_in_progress(d).await?.2 {
        head.expect_absent("Location")?;
    }
    Ok(())
}

async fn append_without_version(d: &Draft<'_>) -> CheckResult {
    let data = d.sized(PROGRESS_BYTES)?;
    let url = d.create(data.len()).await?;
    let request = d.append(&url, 0, &data, true);
    d.send(d.with_version(request, None)).await?.expect_no_104()
}

async fn no_content_fields(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (started, _) = d.create_announced(&data, d.unit(), true).await?;
    for head in &started.interim {
        head.expect_absent("Content-Length")?;
        head.expect_absent("Transfer-Encoding")?;
    }
    Ok(())
}

async fn none_for_http_1_0(d: &Draft<'_>) -> CheckResult {
    let request = d.creation(&d.data(2)?, true).http_1_0();
    let response = d.send(request).await?;
    ensure!(
        response.interim.is_empty(),
        "there is an interim response to a request of HTTP/1.0"
    )
}

async fn next_response(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (mut started, url) = d.create_announced(&data, d.unit(), false).await?;
    let response = started.connection.finish(&data[d.unit()..]).await?;
    response.expect_success()?;
    if response.is_closing() {
        return skip("the server closes the connection");
    }
    let response = started.connection.send(&d.request("HEAD", &url)).await?;
    response.expect_success()?;
    let offset = d.state_of(&response)?.offset;
    ensure!(
        offset == data.len() as u64,
        "the next response reports the offset {offset}, not {}",
        data.len()
    )
}

async fn none_after_the_final_response(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create(data.len()).await?;
    for request in [d.creation(&data, true), d.append(&url, 0, &data, true)] {
        let mut connection = d.context.connect(&request.url).await?;
        connection.send(&request).await?.expect_success()?;
        if let Ok(head) = connection.interim_within(SETTLE).await {
            let status = head.status;
            return fail(format!("there is a {status} after the final response"));
        }
    }
    Ok(())
}

async fn conventional_request(d: &Draft<'_>) -> CheckResult {
    let request = d.creation(&d.data(2)?, true).without(d.dialect.flag_name());
    d.send(request).await?.expect_no_104()
}

async fn head_and_delete(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    for method in ["HEAD", "DELETE"] {
        d.send(d.request(method, &url)).await?.expect_no_104()?;
    }
    Ok(())
}
