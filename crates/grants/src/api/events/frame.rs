use std::time::SystemTime;

use bytes::Bytes;
use landfall_queue::{Page, SharedEvent};
use serde_json::json;

use super::super::{ApiStyle, job_json};

pub(super) fn frame(event: &SharedEvent, style: ApiStyle, with_subject: bool) -> Bytes {
    let at = usize::from(with_subject) + 2 * usize::from(style == ApiStyle::Laravel);
    event.encoding(at, || write(event, style, with_subject).into())
}

/// Replaces the client's list of uploads.
pub(super) fn reset(
    number: i64,
    at: SystemTime,
    page: &Page,
    style: ApiStyle,
    with_subject: bool,
) -> String {
    let rows = page.jobs.iter();
    let rows: Vec<_> = rows
        .map(|job| job_json::job_json(job, style, with_subject))
        .collect();
    let data = json!({
        "type": "reset",
        "at": job_json::rfc3339(at),
        "uploads": rows,
        "has_more": page.has_more,
    });
    format!("id: {number}\nevent: reset\ndata: {data}\n\n")
}

/// JSON has no line breaks, so `data` is one line.
fn write(shared: &SharedEvent, style: ApiStyle, with_subject: bool) -> String {
    let event = &shared.event;
    let name = event.kind.as_str();
    let data = json!({
        "type": name,
        "at": job_json::rfc3339(event.at),
        "upload": job_json::job_json(&event.job, style, with_subject),
    });
    format!("id: {}\nevent: {name}\ndata: {data}\n\n", event.number)
}
