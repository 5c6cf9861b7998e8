//! Jobs as JSON.

use std::time::SystemTime;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::{Map, Value};

use super::ApiStyle;
use crate::{Job, JobState};

/// A job as its owner sees it, without tokens and internal numbers.
#[derive(Serialize)]
struct JobJson<'a> {
    /// Only for admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Option<&'a str>>,
    request_id: &'a str,
    filename: Option<&'a str>,
    filetype: Option<&'a str>,
    size: Option<u64>,
    offset: u64,
    etag: Option<&'a str>,
    state: JobState,
    reason: Option<&'a str>,
    metadata: &'a Map<String, Value>,
    created_at: String,
    expires_at: String,
    started_at: Option<String>,
    updated_at: String,
    ended_at: Option<String>,
}

/// The visible columns of the package's table.
#[derive(Serialize)]
struct LaravelJob<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Option<&'a str>>,
    request_id: &'a str,
    filename: Option<&'a str>,
    mimetype: Option<&'a str>,
    metadata: Value,
    size: u64,
    offset: u64,
    cancelled_at: Option<String>,
    completed_at: Option<String>,
    created_at: String,
    updated_at: String,
}

/// Serializes a job, with its subject for admins.
pub(super) fn job_json(job: &Job, style: ApiStyle, with_subject: bool) -> Value {
    let subject = with_subject.then_some(job.subject.as_deref());
    let row = match style {
        ApiStyle::Landfall => serde_json::to_value(JobJson {
            subject,
            request_id: &job.request_id,
            filename: job.filename.as_deref(),
            filetype: job.filetype.as_deref(),
            size: job.size,
            offset: job.offset,
            etag: job.etag.as_deref(),
            state: job.state,
            reason: job.reason.as_deref(),
            metadata: &job.metadata,
            created_at: rfc3339(job.created_at),
            expires_at: rfc3339(job.expires_at),
            started_at: job.started_at.map(rfc3339),
            updated_at: rfc3339(job.updated_at),
            ended_at: job.ended_at.map(rfc3339),
        }),
        ApiStyle::Laravel => {
            let ended = |is_so: bool| job.ended_at.filter(|_| is_so).map(laravel);
            serde_json::to_value(LaravelJob {
                subject,
                request_id: &job.request_id,
                filename: job.filename.as_deref(),
                mimetype: job.filetype.as_deref(),
                // PHP serializes an empty array as a list.
                metadata: match job.metadata.is_empty() {
                    true => Value::Array(Vec::new()),
                    false => Value::Object(job.metadata.clone()),
                },
                size: job.size.unwrap_or_default(),
                offset: job.offset,
                // The package knows no other end; failed and expired jobs would look active.
                cancelled_at: ended(job.state != JobState::Completed),
                completed_at: ended(job.state == JobState::Completed),
                created_at: laravel(job.created_at),
                updated_at: laravel(job.updated_at),
            })
        }
    };
    // Serialization of these types does not fail.
    row.unwrap_or_default()
}

/// `2026-11-20T18:00:00.25Z`
pub(super) fn rfc3339(at: SystemTime) -> String {
    timestamp(at).to_string()
}

/// `2026-11-20T18:00:00.250000Z`
fn laravel(at: SystemTime) -> String {
    timestamp(at)
        .to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string()
}

fn timestamp(at: SystemTime) -> Timestamp {
    Timestamp::try_from(at).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_197_600_250);
        assert_eq!(rfc3339(at), "2026-11-20T18:00:00.25Z");
        assert_eq!(laravel(at), "2026-11-20T18:00:00.250000Z");
        assert_eq!(laravel(UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
