//! Jobs as JSON in the styles of the API, the same for lists, single jobs, cancellations and event streams.
//!
//! Only admins see the subject. The Laravel style must stay as the front end of the package expects it.

use std::time::SystemTime;

use jiff::{Timestamp, tz::TimeZone};
use landfall_hooks::rfc3339;
use landfall_state::queue::{Job, JobState};
use serde_json::{Value, json};

use super::ApiStyle;

pub(super) fn job_json(job: &Job, style: ApiStyle, with_subject: bool) -> Value {
    let is_completed = matches!(job.state, JobState::Completed | JobState::Removed);
    let mut row = match style {
        ApiStyle::Landfall => json!({
            "request_id": job.request_id,
            "filename": job.filename,
            "filetype": job.filetype,
            "size": job.size,
            "offset": job.offset,
            "etag": job.etag,
            // Applications move or delete files as soon as they are complete, and clients poll for that state.
            "state": if is_completed { JobState::Completed } else { job.state },
            "reason": job.reason,
            "metadata": job.metadata,
            "created_at": rfc3339::millis(job.created_at),
            "expires_at": rfc3339::millis(job.expires_at),
            "started_at": job.started_at.map(rfc3339::millis),
            "updated_at": rfc3339::millis(job.updated_at),
            "ended_at": job.ended_at.map(rfc3339::millis),
        }),
        ApiStyle::Laravel => {
            let ended = |is_so: bool| job.ended_at.filter(|_| is_so).map(laravel);
            json!({
                "request_id": job.request_id,
                "filename": job.filename,
                "mimetype": job.filetype,
                // PHP serializes an empty array as a list.
                "metadata": match job.metadata.is_empty() {
                    true => json!([]),
                    false => json!(job.metadata),
                },
                "size": job.size.unwrap_or_default(),
                "offset": job.offset,
                // The package knows no other end; failed and expired jobs would look active.
                "cancelled_at": ended(!is_completed),
                "completed_at": ended(is_completed),
                "created_at": laravel(job.created_at),
                "updated_at": laravel(job.updated_at),
            })
        }
    };
    if with_subject {
        row["subject"] = json!(job.subject);
    }
    row
}

/// `2026-11-20T18:00:00.250000Z`
fn laravel(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    let at = at.to_zoned(TimeZone::UTC);
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_197_600_250);
        assert_eq!(laravel(at), "2026-11-20T18:00:00.250000Z");
        assert_eq!(laravel(UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
