//! The length of an upload: when it becomes known, and content that disagrees.

use url::Url;

use super::requests::Draft;
use super::retrieval::expect_optional;
use super::{LENGTH, PROBLEMS, draft_checks};
use crate::client::{Content, Response};
use crate::requirement::{CheckResult, ensure};

draft_checks! {
    Must "draft/length/content-above-the-length-is-rejected", LENGTH, [6..],
        "An append whose content would exceed the length is rejected." => above(Framing::Length);
    Must "draft/length/chunks-above-the-length-are-rejected", LENGTH, [6..],
        "An append whose content exceeds the length is rejected, also without Content-Length." => above(Framing::Chunks);
    Must "draft/length/last-content-above-the-length-is-rejected", LENGTH, [6..],
        "The last content cannot exceed the length." => last_above;
    Must "draft/length/offset-stays-within-the-length", LENGTH, [6..],
        "The offset does not exceed the length, whatever is sent." => stays_within;
    Must "draft/length/content-above-the-length-ends-the-upload", LENGTH, [8..],
        "An upload whose content exceeded the length is invalid: later requests are rejected." => ends_the_upload;
    Must "draft/length/creation-above-the-length-is-rejected", LENGTH, [6..],
        "A creation whose part is longer than Upload-Length is rejected." => creation_above;
    May "draft/length/creation-of-another-length-is-rejected", LENGTH, [6..],
        "A whole upload whose Content-Length differs from Upload-Length is 400." => creation_differs;
    May "draft/length/creation-of-another-length-in-chunks-is-rejected", LENGTH, [6..],
        "A whole upload in chunks that differs from Upload-Length is not successful." => creation_in_chunks_differs;
    May "draft/length/last-content-below-the-length-is-rejected", LENGTH, [6..],
        "The last content has to reach the length." => last_below;
    Should "draft/length/does-not-change", LENGTH, [6..],
        "An append with another Upload-Length does not change the length." => does_not_change;
    May "draft/length/another-length-is-400", LENGTH, [6..],
        "An append with another Upload-Length is 400." => another_is_400;
    Must "draft/length/same-length-is-accepted", LENGTH, [6..],
        "An append with the same Upload-Length succeeds." => same_is_accepted;
    Must "draft/length/becomes-known-by-an-append", LENGTH, [6..],
        "Upload-Length of an append becomes the length; HEAD reports it, or need not from version 10 on." => known_by_append;
    Must "draft/length/holds-when-known-by-an-append", LENGTH, [8..],
        "A length that became known by an append limits the content." => holds;
    Must "draft/length/unknown-until-the-end", LENGTH, [6..],
        "An upload of unknown length is completed by its last content." => unknown_until_the_end;
    May "draft/length/problem-type", PROBLEMS, [6..],
        "Lengths that disagree are a problem of the type inconsistent-upload-length." => problem_type;
}

#[derive(Clone, Copy)]
enum Framing {
    Length,
    Chunks,
}

/// Creates an upload of two units with one, and sends two more.
async fn exceed(
    d: &Draft<'_>,
    framing: Framing,
    is_last: bool,
) -> CheckResult<(Url, Response, usize)> {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create(2 * unit).await?;
    d.part(&url, 0, &data[..unit]).await?;
    let content = match framing {
        Framing::Length => Content::Bytes(data[unit..].to_vec()),
        Framing::Chunks => Content::in_chunks(&data[unit..], unit),
    };
    let request = d.append(&url, unit, b"", is_last).content(content);
    Ok((url, d.send(request).await?, 2 * unit))
}

async fn above(d: &Draft<'_>, framing: Framing) -> CheckResult {
    exceed(d, framing, false).await?.1.expect_rejection()
}

async fn last_above(d: &Draft<'_>) -> CheckResult {
    for framing in [Framing::Chunks, Framing::Length] {
        exceed(d, framing, true).await?.1.expect_rejection()?;
    }
    Ok(())
}

async fn stays_within(d: &Draft<'_>) -> CheckResult {
    for framing in [Framing::Length, Framing::Chunks] {
        let (url, _, length) = exceed(d, framing, false).await?;
        let response = d.send(d.request("HEAD", &url)).await?;
        if response.is_success() {
            let offset = d.state_of(&response)?.offset;
            ensure!(
                offset <= length as u64,
                "Upload-Offset is {offset}, above the length of {length}"
            )?;
        }
    }
    Ok(())
}

async fn ends_the_upload(d: &Draft<'_>) -> CheckResult {
    let (url, ..) = exceed(d, Framing::Chunks, false).await?;
    let response = d.send(d.request("HEAD", &url)).await?;
    response.expect_rejection()?;
    let data = d.data(2)?;
    let request = d.append(&url, d.unit(), &data[d.unit()..], true);
    d.send(request).await?.expect_rejection()
}

async fn creation_above(d: &Draft<'_>) -> CheckResult {
    let data = d.data(3)?;
    let request = d
        .creation(&data, false)
        .field("Upload-Length", data.len() - 1);
    d.send(request).await?.expect_rejection()
}

async fn creation_differs(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    for length in [data.len() - 1, data.len() + 1] {
        let request = d.creation(&data, true).field("Upload-Length", length);
        d.send(request).await?.expect(&[400])?;
    }
    Ok(())
}

async fn creation_in_chunks_differs(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    for length in [data.len() - 1, data.len() + 1] {
        let content = Content::in_chunks(&data, data.len());
        let request = d.creation(b"", true).field("Upload-Length", length);
        d.send(request.content(content)).await?.expect_rejection()?;
    }
    Ok(())
}

async fn last_below(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create(data.len()).await?;
    let request = d.append(&url, 0, &data[..2 * unit], true);
    d.send(request).await?.expect_rejection()
}

/// Sends a part with another length than that of the creation.
async fn other_length(d: &Draft<'_>) -> CheckResult<(Url, Response, usize)> {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create(data.len()).await?;
    let request = d.append(&url, 0, &data[..unit], false);
    let response = d
        .send(request.field("Upload-Length", data.len() + 1))
        .await?;
    Ok((url, response, data.len()))
}

async fn does_not_change(d: &Draft<'_>) -> CheckResult {
    let (url, _, expected) = other_length(d).await?;
    if let Some(length) = d.state(&url).await?.length {
        ensure!(
            length == expected as u64,
            "Upload-Length is {length}, and was {expected}"
        )?;
    }
    Ok(())
}

async fn another_is_400(d: &Draft<'_>) -> CheckResult {
    other_length(d).await?.1.expect(&[400])
}

async fn same_is_accepted(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create(data.len()).await?;
    let request = d.append(&url, 0, &data[..unit], false);
    let response = d.send(request.field("Upload-Length", data.len())).await?;
    response.expect_success()?;
    d.expect_offset(&url, unit).await
}

/// Creates an upload of unknown length, and sends a part with the length.
async fn learned(d: &Draft<'_>) -> CheckResult<(Url, Vec<u8>)> {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_deferred().await?;
    let request = d.append(&url, 0, &data[..unit], false);
    let response = d.send(request.field("Upload-Length", 2 * unit)).await?;
    response.expect_success()?;
    Ok((url, data))
}

async fn known_by_append(d: &Draft<'_>) -> CheckResult {
    let (url, _) = learned(d).await?;
    let length = d.state(&url).await?.length;
    expect_optional(d, "Upload-Length", length, 2 * d.unit() as u64)
}

async fn holds(d: &Draft<'_>) -> CheckResult {
    let (url, data) = learned(d).await?;
    let request = d.append(&url, d.unit(), &data[d.unit()..], false);
    d.send(request).await?.expect_rejection()
}

async fn unknown_until_the_end(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_deferred().await?;
    d.part(&url, 0, &data[..unit]).await?;
    d.part(&url, unit, &data[unit..2 * unit]).await?;
    d.last(&url, 2 * unit, &data[2 * unit..]).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn problem_type(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d
        .creation(&data, true)
        .field("Upload-Length", data.len() + 1);
    let response = d.send(request).await?;
    response.expect(&[400])?;
    let problem = super::problems::required(&response)?;
    super::problems::expect_type(&problem, "inconsistent-upload-length")
}
