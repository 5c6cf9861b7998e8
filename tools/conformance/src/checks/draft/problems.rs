//! Problem documents of rejected requests (RFC 9457).

use serde_json::Value;

use super::requests::Draft;
use super::retrieval::inspect_twice;
use super::{APPEND, PROBLEMS, draft_checks};
use crate::client::Response;
use crate::requirement::{CheckResult, Finding, ensure, skip};

const RFC_9457: &str = "RFC 9457, 3 The Problem Details JSON Object";
const REGISTRY: &str = "https://iana.org/assignments/http-problem-types#";

draft_checks! {
    May "draft/problems/offset-mismatch-type", PROBLEMS, [6..],
        "A response with 409 is a problem of the type mismatching-upload-offset." => mismatch_type;
    Should "draft/problems/offset-mismatch-members", PROBLEMS, [6..],
        "A problem of this type has expected-offset and provided-offset." => mismatch_members;
    Should "draft/problems/content-type", RFC_9457, [6..],
        "A problem document has the media type application/problem+json." => content_type;
    Must "draft/problems/status-is-that-of-the-response", RFC_9457, [6..],
        "The member status of a problem document is the status of the response." => status;
    Must "draft/problems/none-in-responses-to-head", "RFC 9110, 9.3.2 HEAD",
        "An error in response to HEAD has no content: the next response follows at once." => none_for_head;
    Should "draft/problems/protocol-errors-are-not-complete", APPEND, [7..],
        "A rejection that ends a request, not the upload, has no Upload-Complete: ?1." => not_complete;
    Should "draft/problems/final-responses-have-upload-complete", APPEND, [7..],
        "Rejections of appends have Upload-Complete." => have_upload_complete;
}

/// Parses a problem document; `None` if the content is none.
fn parse(response: &Response) -> Option<Value> {
    let value: Value = serde_json::from_slice(&response.body).ok()?;
    (value.get("type").is_some() && value.get("type")?.is_string()).then_some(value)
}

/// Returns the problem document of a response, or fails the check.
pub(super) fn required(response: &Response) -> CheckResult<Value> {
    let missing = || Finding::failed("the content is no problem document with a type");
    parse(response).ok_or_else(missing)
}

pub(super) fn expect_type(problem: &Value, name: &str) -> CheckResult {
    let found = problem
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(
        found == format!("{REGISTRY}{name}"),
        "the type is {found:?}, not {REGISTRY}{name}"
    )
}

/// Sends an append at an offset that is one too high.
async fn mismatch(d: &Draft<'_>) -> CheckResult<Response> {
    let data = d.data(3)?;
    let url = d.create_with(&data, d.unit()).await?;
    let request = d.append(&url, d.unit() + 1, &data[..d.unit()], false);
    let response = d.send(request).await?;
    response.expect(&[409])?;
    Ok(response)
}

async fn mismatch_problem(d: &Draft<'_>) -> CheckResult<(Response, Value)> {
    let response = mismatch(d).await?;
    let missing = || Finding::skipped("the server sends no problem documents");
    let problem = parse(&response).ok_or_else(missing)?;
    Ok((response, problem))
}

async fn mismatch_type(d: &Draft<'_>) -> CheckResult {
    let problem = required(&mismatch(d).await?)?;
    expect_type(&problem, "mismatching-upload-offset")
}

async fn mismatch_members(d: &Draft<'_>) -> CheckResult {
    let (_, problem) = mismatch_problem(d).await?;
    if expect_type(&problem, "mismatching-upload-offset").is_err() {
        return skip("the server sends another type");
    }
    let unit = d.unit() as u64;
    for (name, expected) in [("expected-offset", unit), ("provided-offset", unit + 1)] {
        let offset = problem.get(name);
        ensure!(
            offset.and_then(Value::as_u64) == Some(expected),
            "{name} is {offset:?}, not {expected}"
        )?;
    }
    Ok(())
}

async fn content_type(d: &Draft<'_>) -> CheckResult {
    let (response, _) = mismatch_problem(d).await?;
    let value = response.required("Content-Type")?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    ensure!(
        essence.eq_ignore_ascii_case("application/problem+json"),
        "Content-Type is {value}"
    )
}

async fn status(d: &Draft<'_>) -> CheckResult {
    let (response, problem) = mismatch_problem(d).await?;
    if let Some(status) = problem.get("status") {
        ensure!(
            status.as_u64() == Some(u64::from(response.status)),
            "the member status is {status}, and the response has {}",
            response.status
        )?;
    }
    Ok(())
}

async fn none_for_head(d: &Draft<'_>) -> CheckResult {
    let url = d.unknown().await?;
    inspect_twice(d, &url, Response::expect_rejection).await
}

async fn not_complete(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let part = d.append(&url, unit, &data[unit..2 * unit], false);
    for request in [
        part.clone().set("Upload-Offset", 0),
        part.clone().without("Upload-Offset"),
        part.set("Content-Type", "text/plain"),
    ] {
        let response = d.send(request).await?;
        response.expect_rejection()?;
        ensure!(
            d.is_complete(&response)? != Some(true),
            "the response with {} states that the upload is over",
            response.status
        )?;
    }
    Ok(())
}

async fn have_upload_complete(d: &Draft<'_>) -> CheckResult {
    let response = mismatch(d).await?;
    d.expect_flag(&response, false)
}
