//! Creation: POST and PUT with a part or the whole of an upload.

use super::requests::{Draft, SETTLE, early_response};
use super::{CREATION, RETRIEVAL, SECURITY, TRANSFER_CODINGS, draft_checks};
use crate::client::{Content, Request, chunk};
use crate::requirement::{CheckResult, ensure, skip};

draft_checks! {
    Must "draft/creation/part-has-location", CREATION,
        "The response to a part has Location." => part_has_location;
    Should "draft/creation/part-is-201", CREATION,
        "The response to a part has the status 201." => part_is_201;
    Should "draft/creation/part-is-not-complete", CREATION, [4..],
        "The response to a part has Upload-Complete: ?0." => part_is_not_complete;
    Must "draft/creation/part-has-limits", CREATION, [8..],
        "The response to a part has Upload-Limit if there are limits." => part_has_limits;
    Must "draft/creation/part-stores-its-content", CREATION,
        "The content of a part is stored: the offset is its size." => part_stores_its_content;
    Must "draft/creation/part-in-chunks-stores-its-content", TRANSFER_CODINGS,
        "Content in chunks counts without the transfer coding." => part_in_chunks;
    Must "draft/creation/location-is-the-upload", RETRIEVAL,
        "HEAD at the Location of a new upload succeeds." => location_is_the_upload;
    Should "draft/creation/locations-differ", SECURITY,
        "Each upload has a URL that no other has." => locations_differ;
    Should "draft/creation/location-is-hard-to-guess", SECURITY,
        "URLs of uploads created one after the other have more than one different character." => hard_to_guess;
    Must "draft/creation/later-parts-complete-it", CREATION,
        "An upload whose creation had the first part is completed by appends." => later_parts;
    Should "draft/creation/whole-is-complete", CREATION,
        "The response to the whole upload in one request has Upload-Complete: ?1." => whole_is_complete;
    Should "draft/creation/whole-in-chunks-is-complete", CREATION,
        "The whole upload can be sent in chunks, without a length." => whole_in_chunks;
    Should "draft/creation/empty-whole-is-complete", CREATION,
        "Empty content with Upload-Complete: ?1 is an empty upload, which is complete." => empty_whole;
    May "draft/creation/put", CREATION,
        "An upload is created by PUT." => by_put;
    May "draft/creation/put-of-a-whole", CREATION,
        "A whole upload is sent by PUT." => put_whole;
    Should "draft/creation/content-types", CREATION,
        "Content-Type describes the whole representation, and may have any value." => content_types;
    Should "draft/creation/content-disposition", CREATION,
        "Content-Disposition and Content-Language describe the whole representation." => content_disposition;
    May "draft/creation/content-encoding", "8 Content Codings",
        "Content-Encoding is that of the whole; offsets count encoded bytes." => content_encoding;
    Must "draft/creation/unknown-fields-are-ignored", "RFC 9110, 5.1 Field Names",
        "Unknown fields are ignored." => unknown_fields;
    Must "draft/creation/field-names-ignore-case", "RFC 9110, 5.1 Field Names",
        "The case of field names does not matter." => field_names_ignore_case;
    Must "draft/creation/expect-continue", "4.2 Upload Creation; RFC 9110, 10.1.1 Expect",
        "A request with Expect: 100-continue gets 100 or a final response; 104 is no substitute." => expect_continue;
    Must "draft/creation/no-success-before-the-content-of-a-part", CREATION,
        "A part is acknowledged after all of its content is processed." => no_early_success(false);
    May "draft/creation/no-success-before-the-content-of-a-whole", CREATION,
        "A whole upload is acknowledged after all of its content has arrived." => no_early_success(true);
    Should "draft/creation/no-redirect", CREATION,
        "The response to a part is not 301, 302 or 303." => no_redirect;
    Should "draft/creation/length-is-not-the-end", CREATION, [7..],
        "A part that equals Upload-Length is not the end without Upload-Complete: ?1." => length_is_no_end;
}

async fn part_has_location(d: &Draft<'_>) -> CheckResult {
    let size = d.data(2)?.len();
    let request = d.creation(b"", false).field("Upload-Length", size);
    let response = d.send(request).await?.success()?;
    response.required("Location")?;
    Ok(())
}

async fn part_is_201(d: &Draft<'_>) -> CheckResult {
    d.send(d.creation(b"", false)).await?.expect(&[201])
}

async fn part_is_not_complete(d: &Draft<'_>) -> CheckResult {
    let response = d.send(d.creation(b"", false)).await?;
    d.expect_flag(&response, false)
}

async fn part_has_limits(d: &Draft<'_>) -> CheckResult {
    let response = d.send(d.creation(b"", false)).await?;
    d.expect_limits(&response, "the response")
}

async fn part_stores_its_content(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(&data[..d.unit()], false);
    let url = d
        .created(request.field("Upload-Length", data.len()))
        .await?;
    d.expect_offset(&url, d.unit()).await
}

async fn part_in_chunks(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let content = Content::in_chunks(&data[..d.unit()], d.unit().div_ceil(3));
    let request = d.creation(b"", false).field("Upload-Length", data.len());
    let url = d.created(request.content(content)).await?;
    d.expect_offset(&url, d.unit()).await
}

async fn location_is_the_upload(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    d.expect_offset(&url, 0).await
}

async fn locations_differ(d: &Draft<'_>) -> CheckResult {
    let size = d.data(2)?.len();
    let (first, second) = (d.create(size).await?, d.create(size).await?);
    ensure!(first != second, "two uploads have the URL {first}")
}

async fn hard_to_guess(d: &Draft<'_>) -> CheckResult {
    let size = d.data(2)?.len();
    let (first, second) = (d.create(size).await?, d.create(size).await?);
    let (first, second) = (first.as_str(), second.as_str());
    let pairs = first.bytes().zip(second.bytes());
    let different = pairs.filter(|(one, other)| one != other).count();
    ensure!(
        different > 1,
        "{first} and {second} differ in {different} characters"
    )
}

async fn later_parts(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let request = d.creation(&data[..unit], false);
    let url = d
        .created(request.field("Upload-Length", data.len()))
        .await?;
    d.part(&url, unit, &data[unit..2 * unit]).await?;
    d.last(&url, 2 * unit, &data[2 * unit..]).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn whole_is_complete(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let response = d.send(d.creation(&data, true)).await?.success()?;
    d.expect_flag(&response, true)
}

async fn whole_in_chunks(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let content = Content::in_chunks(&data, d.unit().div_ceil(2));
    let response = d.send(d.creation(b"", true).content(content)).await?;
    response.expect_success()?;
    d.expect_flag(&response, true)
}

async fn empty_whole(d: &Draft<'_>) -> CheckResult {
    if d.limits().get("min-size").is_some_and(|size| size > 0) {
        return skip("min-size is above 0");
    }
    let response = d.send(d.creation(b"", true)).await?.success()?;
    d.expect_flag(&response, true)
}

async fn by_put(d: &Draft<'_>) -> CheckResult {
    let mut request = d.creation(b"", false);
    request.method = "PUT".to_owned();
    let url = d.created(request).await?;
    d.expect_offset(&url, 0).await
}

async fn put_whole(d: &Draft<'_>) -> CheckResult {
    let mut request = d.creation(&d.data(2)?, true);
    request.method = "PUT".to_owned();
    let response = d.send(request).await?.success()?;
    d.expect_flag(&response, true)
}

async fn content_types(d: &Draft<'_>) -> CheckResult {
    let size = d.data(2)?.len();
    for value in [
        "text/plain; charset=utf-8",
        "image/jpeg",
        "application/octet-stream",
    ] {
        let request = d.creation(b"", false).field("Upload-Length", size);
        let url = d.created(request.field("Content-Type", value)).await?;
        d.expect_offset(&url, 0).await?;
    }
    Ok(())
}

async fn content_disposition(d: &Draft<'_>) -> CheckResult {
    let size = d.data(2)?.len();
    for value in [
        "inline; filename=report.txt",
        "inline; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt",
    ] {
        let request = d.creation(b"", false).field("Upload-Length", size);
        let request = request.field("Content-Disposition", value);
        let url = d.created(request.field("Content-Language", "en")).await?;
        d.expect_offset(&url, 0).await?;
    }
    Ok(())
}

async fn content_encoding(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(b"", false).field("Upload-Length", data.len());
    let request = request.field("Content-Encoding", "gzip");
    let url = d.created(request).await?;
    d.part(&url, 0, &data[..d.unit()]).await?;
    d.expect_offset(&url, d.unit()).await
}

async fn unknown_fields(d: &Draft<'_>) -> CheckResult {
    let request = d
        .creation(b"", false)
        .field("Upload-Length", d.data(2)?.len());
    let request = request
        .field("Upload-Unknown", "?1")
        .field("X-Unknown", "a=b");
    let url = d
        .created(request.field("Upload-Limit", "unknown=1"))
        .await?;
    d.expect_offset(&url, 0).await
}

async fn field_names_ignore_case(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let mut request = d.creation(b"", false).field("Upload-Length", data.len());
    for (name, _) in &mut request.fields {
        name.make_ascii_lowercase();
    }
    let url = d.created(request).await?;
    let mut request = d.append(&url, 0, &data[..d.unit()], false);
    for (name, _) in &mut request.fields {
        name.make_ascii_uppercase();
    }
    d.send(request).await?.expect_success()?;
    d.expect_offset(&url, d.unit()).await
}

async fn expect_continue(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let sent = d.send_after_continue(d.creation(b"", true), &data).await;
    sent.map(drop)
}

async fn no_early_success(d: &Draft<'_>, is_last: bool) -> CheckResult {
    let data = d.data(3)?;
    let size = 2 * d.unit();
    let request = d.creation(b"", is_last);
    let request = match is_last {
        true => request,
        false => request.field("Upload-Length", data.len()),
    };
    send_in_chunks(d, request, &data[..size]).await?;
    Ok(())
}

/// Sends content in two chunks. Returns whether the request succeeds, which it may not do before the second one.
pub(super) async fn send_in_chunks(
    d: &Draft<'_>,
    request: Request,
    content: &[u8],
) -> CheckResult<bool> {
    let (first, second) = content.split_at(d.unit());
    let first = chunk(first);
    let mut connection = d.start(request, Content::DeclaredChunked, &first).await?;
    if let Some(response) = early_response(&mut connection, 3 * SETTLE).await {
        response.expect_no_success(" before all content is sent")?;
        return Ok(false);
    }
    let mut rest = chunk(second);
    rest.extend_from_slice(b"0\r\n\r\n");
    connection.finish(&rest).await?.expect_success()?;
    Ok(true)
}

async fn no_redirect(d: &Draft<'_>) -> CheckResult {
    d.send(d.creation(b"", false)).await?.expect_no_redirect()
}

async fn length_is_no_end(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(&data, false).field("Upload-Length", data.len());
    let url = d.created(request).await?;
    d.expect_offset(&url, data.len()).await?;
    d.last(&url, data.len(), b"").await?;
    d.expect_state_if_there(&url, data.len()).await
}
