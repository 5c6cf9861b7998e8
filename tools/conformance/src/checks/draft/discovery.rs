//! OPTIONS: the limits of the server.

use super::requests::{Draft, PARTIAL_UPLOAD};
use super::{LIMITS, draft_checks};
use crate::client::{INTEROP_VERSION, Response};
use crate::dialect::fields::Limits;
use crate::requirement::{CheckResult, Finding, ensure, fail, skip};

draft_checks! {
    Should "draft/options/succeeds", LIMITS, [6..],
        "OPTIONS on the resource that creates uploads succeeds." => succeeds;
    Must "draft/options/has-limits", LIMITS, [6..],
        "The response to OPTIONS has Upload-Limit." => has_limits;
    Must "draft/options/limits-are-a-dictionary", LIMITS, [6..],
        "Upload-Limit is a Dictionary of Integers from 0 on, with min-size=0 if there is no limit." => are_a_dictionary;
    Should "draft/options/sizes-are-ordered", LIMITS, [6..],
        "The smallest sizes of Upload-Limit are not above the largest." => sizes_are_ordered;
    May "draft/options/lifetime-has-the-key-of-the-version", LIMITS, [6..],
        "The lifetime is max-age from version 7 on, and expires before." => lifetime_key;
    Should "draft/options/repeats", LIMITS, [6..],
        "OPTIONS reports the same sizes each time." => repeats;
    Should "draft/options/limits-of-uploads-are-not-tighter", LIMITS, [8..],
        "The limits of an upload are not tighter than those that OPTIONS reports." => not_tighter;
    May "draft/options/without-version", LIMITS, [6..],
        "OPTIONS without an interop version reports the limits, too." => without_version;
    May "draft/options/on-an-upload", LIMITS, [6..],
        "OPTIONS on an upload succeeds." => on_an_upload;
    May "draft/options/accept-patch", "RFC 5789, 3.1 The Accept-Patch Header", [6..],
        "OPTIONS on an upload names the media type of appends in Accept-Patch." => accept_patch;
}

async fn options(d: &Draft<'_>) -> CheckResult<Response> {
    d.send(d.request("OPTIONS", d.context.endpoint())).await
}

async fn limits(d: &Draft<'_>) -> CheckResult<Limits> {
    let limits = Limits::parse(&options(d).await?)?;
    limits.ok_or_else(|| Finding::failed("the response to OPTIONS has no Upload-Limit"))
}

async fn succeeds(d: &Draft<'_>) -> CheckResult {
    options(d).await?.expect(&[200, 204])
}

async fn has_limits(d: &Draft<'_>) -> CheckResult {
    let response = options(d).await?;
    ensure!(
        response.field("Upload-Limit").is_some(),
        "the response to OPTIONS has no Upload-Limit"
    )
}

async fn are_a_dictionary(d: &Draft<'_>) -> CheckResult {
    limits(d).await?;
    Ok(())
}

async fn sizes_are_ordered(d: &Draft<'_>) -> CheckResult {
    let limits = limits(d).await?;
    for (least, most) in [
        ("min-size", "max-size"),
        ("min-append-size", "max-append-size"),
    ] {
        if let (Some(low), Some(high)) = (limits.get(least), limits.get(most)) {
            ensure!(low <= high, "{least} is {low}, and {most} is {high}")?;
        }
    }
    Ok(())
}

async fn lifetime_key(d: &Draft<'_>) -> CheckResult {
    let limits = limits(d).await?;
    let (right, other) = match d.dialect.version {
        ..=6 => ("expires", "max-age"),
        _ => ("max-age", "expires"),
    };
    if limits.get(right).is_none() && limits.get(other).is_some() {
        return fail(format!("Upload-Limit has {other}, not {right}"));
    }
    Ok(())
}

const SIZES: [&str; 4] = ["max-size", "min-size", "max-append-size", "min-append-size"];

async fn repeats(d: &Draft<'_>) -> CheckResult {
    let (first, second) = (limits(d).await?, limits(d).await?);
    for key in SIZES {
        let (first, second) = (first.get(key), second.get(key));
        ensure!(first == second, "{key} was {first:?}, and then {second:?}")?;
    }
    Ok(())
}

async fn not_tighter(d: &Draft<'_>) -> CheckResult {
    let general = limits(d).await?;
    let url = d.create(d.data(2)?.len()).await?;
    let of_upload = Limits::parse(&d.head(&url).await?)?;
    let Some(of_upload) = of_upload else {
        return skip("the response to HEAD has no Upload-Limit");
    };
    for key in SIZES {
        let (general, of_upload) = (general.get(key), of_upload.get(key));
        let is_tighter = match (key.starts_with("max"), general, of_upload) {
            (true, Some(general), Some(of_upload)) => of_upload < general,
            (true, None, Some(_)) => true,
            (false, general, Some(of_upload)) => of_upload > general.unwrap_or_default(),
            (_, _, None) => false,
        };
        ensure!(
            !is_tighter,
            "{key} is {general:?} in OPTIONS, and {of_upload:?} in HEAD"
        )?;
    }
    Ok(())
}

async fn without_version(d: &Draft<'_>) -> CheckResult {
    let request = d
        .request("OPTIONS", d.context.endpoint())
        .without(INTEROP_VERSION);
    let limits = Limits::parse(&d.send(request).await?)?;
    ensure!(limits.is_some(), "the response has no Upload-Limit")
}

async fn on_an_upload(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    d.send(d.request("OPTIONS", &url))
        .await?
        .expect(&[200, 204])
}

async fn accept_patch(d: &Draft<'_>) -> CheckResult {
    let url = d.create(d.data(2)?.len()).await?;
    let response = d.send(d.request("OPTIONS", &url)).await?;
    response.expect_member("Accept-Patch", PARTIAL_UPLOAD)
}
