//! Appends: content, media type and requests that are rejected.

use url::Url;

use super::creation::send_in_chunks;
use super::requests::{Draft, PARTIAL_UPLOAD, early_response};
use super::{APPEND, COMPLETENESS, TRANSFER_CODINGS, draft_checks};
use crate::client::{Content, Request};
use crate::context::GZIP;
use crate::requirement::{CheckResult, Finding, skip};

const CONTENT_CODINGS: &str = "8 Content Codings";
const ACCEPT_PATCH: &str = "RFC 5789, 2.2 Error Handling";

draft_checks! {
    Must "draft/append/part-succeeds", APPEND,
        "The response to a part has a status 2xx: 201 up to version 6." => part_succeeds;
    Must "draft/append/part-advances-the-offset", APPEND,
        "The offset grows by the bytes of the content." => advances;
    Must "draft/append/part-is-not-complete", APPEND, [7..=8],
        "The response to a part has Upload-Complete: ?0." => part_is_not_complete;
    Should "draft/append/part-has-upload-complete", APPEND, [9..],
        "The response to a part has Upload-Complete: ?0." => part_is_not_complete;
    Must "draft/append/part-has-the-offset", APPEND, [..=6],
        "The response to a part has the new Upload-Offset, up to version 6." => part_has_the_offset;
    Must "draft/append/parts-add-up", APPEND,
        "Several parts, one after the other, make the upload." => parts_add_up;
    Should "draft/append/one-connection", APPEND,
        "Several appends can be sent over one connection." => one_connection;
    Must "draft/append/chunks", TRANSFER_CODINGS,
        "Content in chunks counts without the transfer coding." => in_chunks;
    Should "draft/append/empty-part", APPEND,
        "An append without content succeeds and changes nothing." => empty_part;
    Must "draft/append/content-encoding-is-not-decoded", CONTENT_CODINGS,
        "The offset counts bytes as they are sent, also if they are compressed." => not_decoded;
    Must "draft/append/expect-continue", "RFC 9110, 10.1.1 Expect",
        "A request with Expect: 100-continue gets 100, or a final response." => expect_continue;
    Must "draft/append/no-success-before-the-content", APPEND,
        "A part is acknowledged after all of its content is processed." => no_early_success(false);
    May "draft/append/no-success-before-the-last-content", APPEND,
        "The last content is acknowledged after all of it has arrived." => no_early_success(true);
    Must "draft/append/other-media-type-is-rejected", "6 Media Type application/partial-upload", [6..=6],
        "An append with another Content-Type is rejected and stores nothing." => rejected("Content-Type", Some("text/plain"));
    Should "draft/append/text-is-rejected", "6 Media Type application/partial-upload", [7..],
        "An append with another Content-Type is rejected and stores nothing." => rejected("Content-Type", Some("text/plain"));
    Should "draft/append/similar-media-type-is-rejected", "6 Media Type application/partial-upload", [6..],
        "A type that only begins like application/partial-upload is rejected." => rejected("Content-Type", Some("application/partial-uploads"));
    May "draft/append/missing-media-type-is-rejected", "6 Media Type application/partial-upload", [6..],
        "An append without Content-Type is rejected and stores nothing." => rejected("Content-Type", None);
    Should "draft/append/other-media-type-is-415", ACCEPT_PATCH, [6..],
        "An append with another Content-Type is 415." => is_415;
    Should "draft/append/415-has-accept-patch", ACCEPT_PATCH, [6..],
        "A response with 415 has Accept-Patch with application/partial-upload." => has_accept_patch;
    Should "draft/append/media-type-ignores-case", "RFC 9110, 8.3.1 Media Type", [6..],
        "The case of the media type does not matter." => accepted_type("Application/Partial-Upload");
    May "draft/append/media-type-with-parameters", "RFC 9110, 8.3.1 Media Type", [6..],
        "Parameters of the media type do not matter." => accepted_type("application/partial-upload; a=b");
    Must "draft/append/unknown-upload-is-an-error", APPEND,
        "An append to an upload that does not exist is an error: 404 up to version 6." => unknown_upload;
    Should "draft/append/missing-offset-is-rejected", APPEND,
        "An append without Upload-Offset is rejected and changes nothing." => rejected("Upload-Offset", None);
    Must "draft/append/missing-upload-complete-does-not-complete", COMPLETENESS, [7..],
        "An append without Upload-Complete does not complete the upload." => missing_complete;
    May "draft/append/missing-upload-complete-is-400", APPEND, [7..],
        "An append without Upload-Complete is 400." => missing_complete_is_400;
    Must "draft/append/missing-upload-complete-completes", APPEND, [4..=6],
        "An append without Upload-Complete is the last, up to version 6." => missing_complete_completes;
    Must "draft/append/unknown-fields-are-ignored", "RFC 9110, 5.1 Field Names",
        "Unknown fields are ignored." => unknown_fields;
    Should "draft/append/early-rejection-arrives", APPEND,
        "The rejection of an append arrives although its content is still being sent." => early_rejection;
}

/// Creates an upload of two units, and returns its URL and the append of the first one.
pub(super) async fn first_part(d: &Draft<'_>) -> CheckResult<(Url, Request)> {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_for(&data).await?;
    let request = d.append(&url, 0, &data[..unit], false);
    Ok((url, request))
}

async fn part_succeeds(d: &Draft<'_>) -> CheckResult {
    let response = d.send(first_part(d).await?.1).await?;
    match d.dialect.version {
        ..=6 => response.expect(&[201]),
        _ => response.expect_success(),
    }
}

async fn advances(d: &Draft<'_>) -> CheckResult {
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    d.expect_offset(&url, d.unit()).await
}

async fn part_is_not_complete(d: &Draft<'_>) -> CheckResult {
    let response = d.send(first_part(d).await?.1).await?.success()?;
    d.expect_flag(&response, false)
}

async fn part_has_the_offset(d: &Draft<'_>) -> CheckResult {
    let response = d.send(first_part(d).await?.1).await?;
    response.expect_stored(d.unit() as u64)
}

async fn parts_add_up(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(5)?, d.unit());
    let url = d.create_for(&data).await?;
    for offset in [0, unit, 2 * unit, 3 * unit] {
        d.part(&url, offset, &data[offset..offset + unit]).await?;
        d.expect_offset(&url, offset + unit).await?;
    }
    d.last(&url, 4 * unit, &data[4 * unit..]).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn one_connection(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(4)?, d.unit());
    let url = d.create_for(&data).await?;
    let mut connection = d.context.connect(&url).await?;
    for offset in [0, unit, 2 * unit] {
        let request = d.append(&url, offset, &data[offset..offset + unit], false);
        let response = connection.send(&request).await?.success()?;
        if response.is_closing() {
            connection = d.context.connect(&url).await?;
        }
    }
    d.resume(&url, &data).await
}

async fn not_decoded(d: &Draft<'_>) -> CheckResult {
    let size = GZIP.len();
    let limit = |key| d.limits().get(key);
    if limit("min-append-size").is_some_and(|min| min > size as u64) {
        return skip("needs smaller contents than min-append-size");
    }
    // The coding is that of the whole, and named at its creation.
    for at_creation in [true, false] {
        let creation = d.creation(if at_creation { GZIP } else { b"" }, false);
        let created = d.send(creation.field("Content-Encoding", "gzip")).await?;
        if !created.is_success() {
            return skip("the server takes no encoded content");
        }
        let url = d.context.location(&created)?;
        if !at_creation {
            d.part(&url, 0, GZIP).await?;
        }
        d.expect_offset(&url, size).await?;
    }
    Ok(())
}

async fn in_chunks(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_for(&data).await?;
    let content = Content::in_chunks(&data[..unit], unit.div_ceil(3));
    let request = d.append(&url, 0, b"", false).content(content);
    d.send(request).await?.expect_success()?;
    d.expect_offset(&url, unit).await?;
    d.resume(&url, &data).await
}

async fn empty_part(d: &Draft<'_>) -> CheckResult {
    if d.limits()
        .get("min-append-size")
        .is_some_and(|size| size > 0)
    {
        return skip("min-append-size is above 0");
    }
    let url = d.create_with(&d.data(2)?, d.unit()).await?;
    d.part(&url, d.unit(), b"").await?;
    d.expect_offset(&url, d.unit()).await
}

async fn expect_continue(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    match d
        .send_after_continue(d.append(&url, 0, b"", true), &data)
        .await?
    {
        true => d.expect_state_if_there(&url, data.len()).await,
        false => Ok(()),
    }
}

async fn no_early_success(d: &Draft<'_>, is_last: bool) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create(data.len()).await?;
    let end = if is_last { data.len() } else { 2 * unit };
    let request = d.append(&url, 0, b"", is_last);
    if !send_in_chunks(d, request, &data[..end]).await? {
        return Ok(());
    }
    match is_last {
        true => d.expect_state_if_there(&url, end).await,
        false => d.expect_offset(&url, end).await,
    }
}

/// Sends a part with another value of a field, or without it.
async fn rejected(d: &Draft<'_>, field: &str, value: Option<&str>) -> CheckResult {
    let (url, request) = first_part(d).await?;
    let request = match value {
        Some(value) => request.set(field, value),
        None => request.without(field),
    };
    d.send(request).await?.expect_rejection()?;
    d.expect_offset(&url, 0).await
}

async fn is_415(d: &Draft<'_>) -> CheckResult {
    let (_, request) = first_part(d).await?;
    let request = request.set("Content-Type", "text/plain");
    d.send(request).await?.expect(&[415])
}

async fn has_accept_patch(d: &Draft<'_>) -> CheckResult {
    let (_, request) = first_part(d).await?;
    let response = d.send(request.set("Content-Type", "text/plain")).await?;
    if response.status != 415 {
        return skip("the server does not respond with 415");
    }
    response.expect_member("Accept-Patch", PARTIAL_UPLOAD)
}

async fn accepted_type(d: &Draft<'_>, content_type: &str) -> CheckResult {
    let (url, request) = first_part(d).await?;
    let response = d.send(request.set("Content-Type", content_type)).await?;
    response.expect_success()?;
    d.expect_offset(&url, d.unit()).await
}

async fn unknown_upload(d: &Draft<'_>) -> CheckResult {
    let url = d.unknown().await?;
    let data = d.data(2)?;
    let response = d.send(d.append(&url, 0, &data, true)).await?;
    match d.dialect.version {
        ..=6 => response.expect(&[404]),
        _ => response.expect_rejection(),
    }
}

async fn missing_complete(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    let request = d.append(&url, 0, &data, true);
    d.send(request.without("Upload-Complete")).await?;
    d.expect_incomplete(&url).await.map(drop)
}

async fn missing_complete_is_400(d: &Draft<'_>) -> CheckResult {
    let (url, request) = first_part(d).await?;
    let response = d.send(request.without("Upload-Complete")).await?;
    response.expect(&[400])?;
    d.expect_offset(&url, 0).await
}

async fn missing_complete_completes(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    let request = d.append(&url, 0, &data, true);
    let response = d.send(request.without("Upload-Complete")).await?;
    response.expect_success()?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn unknown_fields(d: &Draft<'_>) -> CheckResult {
    let (url, request) = first_part(d).await?;
    let request = request
        .field("Upload-Unknown", "?1")
        .field("X-Unknown", "a");
    d.send(request).await?.expect_success()?;
    d.expect_offset(&url, d.unit()).await
}

async fn early_rejection(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let request = d.append(&url, 0, b"", false);
    let declared = Content::Declared(2 * unit as u64);
    let mut connection = d.start(request, declared, &data[..1]).await?;
    let limit = d.context.options.timeout;
    let response = early_response(&mut connection, limit).await;
    let missing = || Finding::failed("there is no response before the end of the content");
    response.ok_or_else(missing)?.expect(&[409])
}
