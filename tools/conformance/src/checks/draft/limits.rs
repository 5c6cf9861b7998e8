//! Limits that the server reports: whether it enforces them, and accepts requests within them.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use url::Url;

use super::requests::Draft;
use super::{CREATION, LIMITS, draft_checks};
use crate::client::{Content, Request, Response};
use crate::dialect::fields::Limits;
use crate::requirement::{CheckResult, Finding, ensure, fail, skip};

/// The largest Integer of structured fields.
const MAX_INTEGER: u64 = 999_999_999_999_999;

draft_checks! {
    Must "draft/limits/upload-of-the-largest-size", LIMITS, [6..],
        "An upload of exactly max-size bytes can be created." => largest_upload;
    May "draft/limits/larger-upload-is-rejected", LIMITS, [6..],
        "An upload above max-size is rejected." => larger_upload;
    Should "draft/limits/rejection-of-a-larger-upload-has-limits", LIMITS, [9..],
        "The rejection of an upload above max-size has Upload-Limit." => larger_upload_has_limits;
    May "draft/limits/larger-upload-of-unknown-length-is-rejected", LIMITS, [6..],
        "An upload of unknown length does not exceed max-size." => larger_unknown;
    Must "draft/limits/content-of-the-largest-size", LIMITS, [6..],
        "Content of exactly max-append-size bytes is accepted." => largest_content;
    May "draft/limits/larger-content-is-rejected", LIMITS, [6..],
        "Content above max-append-size is rejected." => larger_content;
    Should "draft/limits/rejection-of-larger-content-has-limits", LIMITS, [9..],
        "The rejection of content above max-append-size has Upload-Limit." => larger_content_has_limits;
    Should "draft/limits/larger-content-does-not-end-the-upload", LIMITS, [6..],
        "After content above max-append-size, the upload can be resumed." => resumable_after_larger_content;
    Must "draft/limits/content-of-the-smallest-size", LIMITS, [6..],
        "Content of exactly min-append-size bytes is accepted." => smallest_content;
    May "draft/limits/smaller-content-is-rejected", LIMITS, [6..],
        "A part below min-append-size is rejected." => smaller_content;
    Should "draft/limits/rejection-of-smaller-content-has-limits", LIMITS, [9..],
        "The rejection of a part below min-append-size has Upload-Limit." => smaller_content_has_limits;
    Must "draft/limits/last-content-may-be-smaller", LIMITS, [6..],
        "min-append-size does not apply to the last content." => last_content_may_be_smaller;
    Must "draft/limits/creation-may-be-empty", LIMITS, [6..],
        "min-append-size does not apply to a creation without content." => empty_creation;
    Must "draft/limits/limits-of-contents-are-reported", CREATION, [8..],
        "Contents that the Upload-Limit of an upload allows are not rejected for their size." => contents_within_limits;
    Must "draft/limits/limits-of-an-upload-are-reported", CREATION, [8..],
        "Limits of an upload are in the Upload-Limit of its creation, of its 104 and of HEAD, each as far as it applies." => limits_of_upload;
    Should "draft/limits/limit-of-the-size-is-reported", LIMITS, [9..],
        "A server that rejects an upload for its size reports max-size." => size_limit_is_reported;
    Should "draft/limits/lifetime-is-not-shortened", LIMITS, [7..],
        "The end of max-age does not come earlier from one response to the next." => lifetime;
    Should "draft/limits/sizes-are-not-tightened", LIMITS, [8..],
        "Limits of sizes do not become tighter while an upload is sent." => not_tightened;
}

async fn largest_upload(d: &Draft<'_>) -> CheckResult {
    let max = d.limits().required("max-size")?;
    let url = d
        .created(d.creation(b"", false).field("Upload-Length", max))
        .await?;
    d.expect_offset(&url, 0).await
}

fn above_max_size(d: &Draft<'_>) -> CheckResult<Request> {
    let max = d.limits().required("max-size")?;
    if max >= MAX_INTEGER {
        return skip("max-size is the largest Integer");
    }
    Ok(d.creation(b"", false).field("Upload-Length", max + 1))
}

async fn larger_upload(d: &Draft<'_>) -> CheckResult {
    d.send(above_max_size(d)?).await?.expect_rejection()
}

/// Fails unless a rejection reports the limit that is its reason.
fn expect_limit(response: &Response, key: &str) -> CheckResult {
    if response.is_success() {
        return skip("the server does not enforce the limit");
    }
    let limits = Limits::parse(response)?.unwrap_or_default();
    ensure!(
        limits.get(key).is_some(),
        "the response has no Upload-Limit with {key}"
    )
}

async fn larger_upload_has_limits(d: &Draft<'_>) -> CheckResult {
    expect_limit(&d.send(above_max_size(d)?).await?, "max-size")
}

async fn larger_unknown(d: &Draft<'_>) -> CheckResult {
    let max = d.limits().required("max-size")?;
    d.context.needs_size(max)?;
    match rejection_above(d, max).await? {
        Some(response) => response.expect_rejection(),
        None => fail(format!(
            "{} bytes are accepted, and max-size is {max}",
            max + 1
        )),
    }
}

/// Sends one byte more than `max` to an upload of unknown length; returns the rejection.
async fn rejection_above(d: &Draft<'_>, max: u64) -> CheckResult<Option<Response>> {
    let most = d
        .limits()
        .get("max-append-size")
        .unwrap_or(max + 1)
        .min(max + 1);
    let data = crate::context::test_data(usize::try_from(max + 1).unwrap_or(0));
    let url = d.create_deferred().await?;
    let mut offset = 0;
    for piece in data.chunks(usize::try_from(most).unwrap_or(1)) {
        let request = d.append(&url, offset, piece, offset + piece.len() == data.len());
        let response = d.send(request).await?;
        offset += piece.len();
        if !response.is_success() {
            return Ok(Some(response));
        }
    }
    Ok(None)
}

async fn largest_content(d: &Draft<'_>) -> CheckResult {
    let data = d.sized(d.limits().required("max-append-size")?)?;
    let url = d.create_deferred().await?;
    d.last(&url, 0, &data).await?;
    d.expect_state_if_there(&url, data.len()).await
}

/// Declares content above `max-append-size`, and sends none of it.
async fn send_larger_content(d: &Draft<'_>) -> CheckResult<(Url, Response)> {
    let max = d.limits().required("max-append-size")?;
    let url = d.create_deferred().await?;
    let request = d.append(&url, 0, b"", false);
    let mut connection = d.start(request, Content::Declared(max + 1), b"").await?;
    let response = connection.response().await;
    let missing = |_| Finding::failed("there is no response to content above max-append-size");
    Ok((url, response.map_err(missing)?))
}

async fn larger_content(d: &Draft<'_>) -> CheckResult {
    send_larger_content(d).await?.1.expect_rejection()
}

async fn larger_content_has_limits(d: &Draft<'_>) -> CheckResult {
    expect_limit(&send_larger_content(d).await?.1, "max-append-size")
}

async fn resumable_after_larger_content(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (url, response) = send_larger_content(d).await?;
    ensure!(
        d.is_complete(&response)? != Some(true),
        "the response states that the upload is over"
    )?;
    d.resume(&url, &data).await
}

/// Returns data for an upload of one part of `min-append-size`, and an end of one byte.
fn around_min_append_size(d: &Draft<'_>) -> CheckResult<(Vec<u8>, usize)> {
    let min = d.limits().required("min-append-size")?;
    if min < 2 {
        return skip(format!("min-append-size is {min}"));
    }
    let data = d.data(2)?;
    Ok((data, usize::try_from(min).unwrap_or(usize::MAX)))
}

async fn smallest_content(d: &Draft<'_>) -> CheckResult {
    let (data, min) = around_min_append_size(d)?;
    let url = d.create(data.len()).await?;
    d.part(&url, 0, &data[..min]).await?;
    d.expect_offset(&url, min).await
}

async fn send_smaller_content(d: &Draft<'_>) -> CheckResult<Response> {
    let (data, min) = around_min_append_size(d)?;
    let url = d.create(data.len()).await?;
    d.send(d.append(&url, 0, &data[..min - 1], false)).await
}

async fn smaller_content(d: &Draft<'_>) -> CheckResult {
    send_smaller_content(d).await?.expect_rejection()
}

async fn smaller_content_has_limits(d: &Draft<'_>) -> CheckResult {
    expect_limit(&send_smaller_content(d).await?, "min-append-size")
}

async fn last_content_may_be_smaller(d: &Draft<'_>) -> CheckResult {
    let (data, _) = around_min_append_size(d)?;
    let end = data.len() - 1;
    let url = d.create(data.len()).await?;
    d.part(&url, 0, &data[..end]).await?;
    d.last(&url, end, &data[end..]).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn empty_creation(d: &Draft<'_>) -> CheckResult {
    let (data, _) = around_min_append_size(d)?;
    let url = d.create(data.len()).await?;
    d.expect_offset(&url, 0).await
}

/// The content of one request of a client that knows no limit.
const UNLIMITED_CONTENT: u64 = 1 << 20;

async fn contents_within_limits(d: &Draft<'_>) -> CheckResult {
    d.context.needs_size(2 * UNLIMITED_CONTENT)?;
    let response = d.send(d.creation(b"", false)).await?;
    let url = d.context.location(&response)?;
    let limits = Limits::parse(&response)?.unwrap_or_default();
    let largest = ["max-size", "max-append-size"].map(|key| limits.get(key).unwrap_or(u64::MAX));
    let least = limits.get("min-append-size").unwrap_or_default().max(1);
    let most = UNLIMITED_CONTENT.min(largest[0] / 2).min(largest[1]);
    let mut offset = 0;
    for size in [least, most] {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let data = crate::context::test_data(size);
        let response = d.send(d.append(&url, offset, &data, false)).await?;
        ensure!(
            response.is_success(),
            "{size} bytes are {}, but the Upload-Limit of the upload allows them",
            response.status
        )?;
        offset += size;
    }
    Ok(())
}

/// A response may lack a limit of OPTIONS only if it does not apply to the upload.
async fn limits_of_upload(d: &Draft<'_>) -> CheckResult {
    let keys = ["max-size", "max-append-size"];
    let known = keys.map(|key| d.limits().get(key).filter(|limit| *limit < MAX_INTEGER));
    if known == [None; 2] {
        return skip("the server reports no max-size and no max-append-size");
    }
    let data = d.data(2)?;
    let response = d.send(d.creation(b"", false)).await?;
    let url = d.context.location(&response)?;
    let mut heads = vec![
        ("the response to the creation", response),
        ("the response to HEAD", d.head(&url).await?),
    ];
    match d.announced(d.creation(b"", false), &data, d.unit()).await {
        Ok((started, _)) => {
            let mut interim = started.interim.into_iter();
            let named = interim.find(|head| head.field("Location").is_some());
            heads.extend(named.map(|head| ("the 104", head)));
        }
        Err(Finding::Skipped(_)) => {}
        Err(finding) => return Err(finding),
    }
    for (key, limit) in keys.into_iter().zip(known) {
        let Some(limit) = limit else { continue };
        let mut without = Vec::new();
        for (name, head) in &heads {
            let limits = Limits::parse(head)?.unwrap_or_default();
            if limits.get(key).is_none_or(|other| other > limit) {
                without.push(*name);
            }
        }
        ensure!(
            without.is_empty() || !is_enforced(d, key, limit).await?,
            "{key} is {limit}, and is not in {}",
            without.join(", ")
        )?;
    }
    Ok(())
}

/// Returns whether an upload of unknown length is rejected beyond this limit.
async fn is_enforced(d: &Draft<'_>, key: &str, limit: u64) -> CheckResult<bool> {
    if key == "max-append-size" {
        return Ok(send_larger_content(d).await?.1.status == 413);
    }
    let url = d.create_deferred().await?;
    let request = d.append(&url, 0, b"", false);
    let response = d.send(request.field("Upload-Length", limit + 1)).await?;
    if response.status == 413 || d.context.needs_size(limit).is_err() {
        return Ok(response.status == 413);
    }
    let rejection = rejection_above(d, limit).await?;
    Ok(rejection.is_some_and(|response| response.status == 413))
}

async fn size_limit_is_reported(d: &Draft<'_>) -> CheckResult {
    let request = d.creation(b"", false).field("Upload-Length", MAX_INTEGER);
    let response = d.send(request).await?;
    if !matches!(response.status, 400 | 413) {
        return skip("the server has no limit of the size");
    }
    let rejection = Limits::parse(&response)?.unwrap_or_default();
    ensure!(
        rejection.get("max-size").is_some() && d.limits().get("max-size").is_some(),
        "the creation is {}, but no max-size is reported by it and by OPTIONS",
        response.status
    )
}

async fn lifetime(d: &Draft<'_>) -> CheckResult {
    d.limits().required("max-age")?;
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create(data.len()).await?;
    let started = Instant::now();
    let mut previous = None;
    for step in 0..3 {
        let limits = Limits::parse(&d.head(&url).await?)?;
        // Seconds are rounded, on both sides.
        let end = limits
            .and_then(|limits| limits.lifetime())
            .map(|seconds| started.elapsed() + Duration::from_secs(seconds.saturating_add(2)));
        if let (Some(previous), Some(end)) = (previous, end) {
            ensure!(end >= previous, "the end of max-age has become earlier")?;
        }
        previous = end.map(|end| end.saturating_sub(Duration::from_secs(2)));
        if step == 0 {
            d.part(&url, 0, &data[..unit]).await?;
        }
        sleep(Duration::from_millis(600)).await;
    }
    Ok(())
}

async fn not_tightened(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create(data.len()).await?;
    let before = Limits::parse(&d.head(&url).await?)?.unwrap_or_default();
    d.part(&url, 0, &data[..unit]).await?;
    let after = Limits::parse(&d.head(&url).await?)?.unwrap_or_default();
    for key in ["max-size", "max-append-size"] {
        if let (Some(before), Some(after)) = (before.get(key), after.get(key)) {
            ensure!(after >= before, "{key} was {before}, and is {after}")?;
        }
    }
    for key in ["min-size", "min-append-size"] {
        let (before, after) = (before.get(key), after.get(key));
        ensure!(after <= before, "{key} was {before:?}, and is {after:?}")?;
    }
    Ok(())
}
