//! The structured fields of requests: valid values in unusual forms, and malformed values.

use super::requests::Draft;
use super::retrieval::expect_optional;
use super::{STRUCTURED_FIELDS, draft_checks};
use crate::requirement::{CheckResult, ensure};

draft_checks! {
    Must "draft/syntax/complete-with-parameters", STRUCTURED_FIELDS, [4..],
        "Unknown parameters of Upload-Complete are ignored." => complete_with_parameters;
    Must "draft/syntax/length-with-zeros", STRUCTURED_FIELDS, [6..],
        "Upload-Length is an Integer, which may begin with zeros." => length_in_form("00");
    Must "draft/syntax/length-with-parameters", STRUCTURED_FIELDS, [6..],
        "Unknown parameters of Upload-Length are ignored." => length_with_parameters;
    Must "draft/syntax/offset-with-zeros", STRUCTURED_FIELDS, [4..],
        "Upload-Offset is an Integer, which may begin with zeros." => offset_in_form("00", "");
    Must "draft/syntax/offset-with-parameters", STRUCTURED_FIELDS, [4..],
        "Unknown parameters of Upload-Offset are ignored." => offset_in_form("", ";a=b");
    Must "draft/syntax/length-as-text-is-ignored", STRUCTURED_FIELDS, [6..],
        "Upload-Length that is no Integer is ignored." => malformed_length("abc");
    Must "draft/syntax/length-as-decimal-is-ignored", STRUCTURED_FIELDS, [6..],
        "Upload-Length that is a Decimal is ignored." => malformed_length("1000.0");
    Must "draft/syntax/length-as-string-is-ignored", STRUCTURED_FIELDS, [6..],
        "Upload-Length that is a String is ignored." => malformed_length("\"1000\"");
    Must "draft/syntax/length-of-16-digits-is-ignored", STRUCTURED_FIELDS, [6..],
        "Upload-Length with 16 digits is no Integer, and is ignored." => malformed_length("1000000000000000");
    Must "draft/syntax/complete-as-1-is-ignored", STRUCTURED_FIELDS, [4..],
        "A creation with Upload-Complete: 1 is a conventional request, without 104." => conventional("1");
    Must "draft/syntax/complete-as-token-is-ignored", STRUCTURED_FIELDS, [4..],
        "A creation with Upload-Complete: true is a conventional request, without 104." => conventional("true");
    Must "draft/syntax/complete-as-list-is-ignored", STRUCTURED_FIELDS, [4..],
        "A creation with Upload-Complete: ?1, ?1 is a conventional request, without 104." => conventional("?1, ?1");
    Must "draft/syntax/complete-out-of-range-is-ignored", STRUCTURED_FIELDS, [4..],
        "A creation with Upload-Complete: ?2 is a conventional request, without 104." => conventional("?2");
    Must "draft/syntax/malformed-complete-does-not-complete", STRUCTURED_FIELDS, [7..],
        "An append whose Upload-Complete is malformed does not complete the upload." => malformed_complete("1");
    Must "draft/syntax/token-complete-does-not-complete", STRUCTURED_FIELDS, [7..],
        "An append whose Upload-Complete is a Token does not complete the upload." => malformed_complete("true");
    Must "draft/syntax/offset-as-text-is-rejected", STRUCTURED_FIELDS, [4..],
        "An append whose Upload-Offset is no Integer is one without an offset: it is rejected." => malformed_offset("abc");
    Must "draft/syntax/offset-as-decimal-is-rejected", STRUCTURED_FIELDS, [4..],
        "An append whose Upload-Offset is a Decimal is one without an offset: it is rejected." => decimal_offset;
    Must "draft/syntax/offset-with-sign-is-rejected", STRUCTURED_FIELDS, [4..],
        "An append whose Upload-Offset has a plus sign is one without an offset: it is rejected." => signed_offset;
    Must "draft/syntax/offset-as-string-is-rejected", STRUCTURED_FIELDS, [4..],
        "An append whose Upload-Offset is a String is one without an offset: it is rejected." => string_offset;
    Must "draft/syntax/offset-as-list-is-rejected", STRUCTURED_FIELDS, [4..],
        "An append with two equal offsets is one without an offset: it is rejected." => list_of_offsets;
    Must "draft/syntax/two-offset-lines-are-rejected", STRUCTURED_FIELDS, [4..],
        "Two lines of Upload-Offset are a list, not an Integer: the append is rejected." => two_offset_lines;
    Must "draft/syntax/negative-offset-is-rejected", STRUCTURED_FIELDS, [4..],
        "An append with a negative Upload-Offset is rejected." => malformed_offset("-1");
}

async fn complete_with_parameters(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(b"", false).field("Upload-Length", data.len());
    let url = d
        .created(request.set("Upload-Complete", "?0;a=b;c"))
        .await?;
    let request = d.append(&url, 0, &data, true);
    let response = d.send(request.set("Upload-Complete", "?1;a=b")).await?;
    response.expect_success()?;
    d.expect_flag(&response, true)
}

async fn length_in_form(d: &Draft<'_>, before: &str) -> CheckResult {
    length(d, |size| format!("{before}{size}")).await
}

async fn length_with_parameters(d: &Draft<'_>) -> CheckResult {
    length(d, |size| format!("{size};a=b")).await
}

async fn length(d: &Draft<'_>, value: impl FnOnce(usize) -> String) -> CheckResult {
    let size = d.data(2)?.len();
    let request = d.creation(b"", false).field("Upload-Length", value(size));
    let url = d.created(request).await?;
    let length = d.state(&url).await?.length;
    expect_optional(d, "Upload-Length", length, size as u64)
}

async fn offset_in_form(d: &Draft<'_>, before: &str, after: &str) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let request = d.append(&url, unit, &data[unit..2 * unit], false);
    let value = format!("{before}{unit}{after}");
    d.send(request.set("Upload-Offset", value))
        .await?
        .expect_success()?;
    d.expect_offset(&url, 2 * unit).await
}

async fn malformed_length(d: &Draft<'_>, value: &str) -> CheckResult {
    let request = d.creation(b"", false).field("Upload-Length", value);
    let url = d.created(request).await?;
    let length = d.state(&url).await?.length;
    ensure!(
        length.is_none(),
        "Upload-Length of the upload is {length:?}"
    )
}

async fn conventional(d: &Draft<'_>, value: &str) -> CheckResult {
    let request = d.creation(&d.data(2)?, true).set("Upload-Complete", value);
    d.send(request).await?.expect_no_104()
}

async fn malformed_complete(d: &Draft<'_>, value: &str) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    let request = d.append(&url, 0, &data, true).set("Upload-Complete", value);
    d.send(request).await?;
    d.expect_incomplete(&url).await.map(drop)
}

/// Sends an append at the right offset in a form that is no Integer.
async fn rejected(d: &Draft<'_>, value: impl FnOnce(usize) -> Vec<String>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let request = d.append(&url, unit, &data[unit..2 * unit], false);
    let values = value(unit);
    let request = values
        .iter()
        .fold(request.without("Upload-Offset"), |request, value| {
            request.field("Upload-Offset", value)
        });
    d.send(request).await?.expect_rejection()?;
    d.expect_offset(&url, unit).await
}

async fn malformed_offset(d: &Draft<'_>, value: &str) -> CheckResult {
    rejected(d, |_| vec![value.to_owned()]).await
}

async fn decimal_offset(d: &Draft<'_>) -> CheckResult {
    rejected(d, |offset| vec![format!("{offset}.0")]).await
}

async fn signed_offset(d: &Draft<'_>) -> CheckResult {
    rejected(d, |offset| vec![format!("+{offset}")]).await
}

async fn string_offset(d: &Draft<'_>) -> CheckResult {
    rejected(d, |offset| vec![format!("\"{offset}\"")]).await
}

async fn list_of_offsets(d: &Draft<'_>) -> CheckResult {
    rejected(d, |offset| vec![format!("{offset}, {offset}")]).await
}

async fn two_offset_lines(d: &Draft<'_>) -> CheckResult {
    rejected(d, |offset| vec![offset.to_string(); 2]).await
}
