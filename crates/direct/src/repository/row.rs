//! Direct uploads as rows of the table `direct_uploads`: the statements that write them, and their columns.
//!
//! Executes nothing. `update` requires the version that was read; `reschedule` and `touch` skip leased uploads. Modes
//! and statuses are stored as their positions in the enums, so the order of the variants must not change.

use std::{sync::Arc, time::SystemTime};

use landfall::{store::info::UploadInfo, upload::UploadId};
use landfall_objects::ObjectRef;
use landfall_state::queue::JobId;
use landfall_state::sql::{
    DatabaseError, Insert, Row, Statement, from_unix_millis, replace_nul, signed, unix_millis,
};

use crate::{Record, Status, TransferMode};

pub(super) const COLUMNS: &str = "id, upload_json, job_number, subject, transfer_mode, bucket, \
     object_key, multipart_upload_id, status, stored_bytes, active_at, next_check_at, check_count, \
     version";

/// In the order of their numbers in the table.
const MODES: [TransferMode; 5] = [
    TransferMode::Put,
    TransferMode::Post,
    TransferMode::Multipart,
    TransferMode::SignedMultipart,
    TransferMode::Resumable,
];
const STATUSES: [Status; 5] = [
    Status::Creating,
    Status::Open,
    Status::Completing,
    Status::Completed,
    Status::Removed,
];

fn upload_json(record: &Record) -> String {
    let json = UploadInfo::new(Arc::clone(&record.upload)).encode();
    // JSON is UTF-8.
    String::from_utf8_lossy(&json).into_owned()
}

/// Completed uploads are never checked again.
fn next_check_at(record: &Record) -> Option<i64> {
    let is_checked = record.status != Status::Completed;
    record.next_check_at.filter(|_| is_checked).map(unix_millis)
}

static INSERT: Insert = Insert {
    // The columns are those of `COLUMNS`.
    head: "INSERT INTO direct_uploads (id, upload_json, job_number, subject, transfer_mode, bucket, \
           object_key, multipart_upload_id, status, stored_bytes, active_at, next_check_at, \
           check_count, version, lease_expires_at) SELECT v.*, 0 FROM",
    types: &[
        "TEXT", "TEXT", "BIGINT", "TEXT", "BIGINT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT",
        "BIGINT", "BIGINT", "BIGINT", "BIGINT",
    ],
    // Without WHERE, SQLite would parse ON as part of a join.
    tail: "WHERE true ON CONFLICT (id) DO NOTHING",
};

/// The record has not ended.
pub(super) fn insert(record: &Record) -> Statement {
    let row = vec![
        record.id().as_str().into(),
        upload_json(record).into(),
        record.job.0.into(),
        replace_nul(&record.subject).into(),
        (record.mode as i64).into(),
        record.object.bucket.as_str().into(),
        record.object.key.as_str().into(),
        record.multipart.clone().into(),
        (record.status as i64).into(),
        signed(record.stored).into(),
        unix_millis(record.active_at).into(),
        next_check_at(record).into(),
        i64::from(record.check_count).into(),
        signed(record.version).into(),
    ];
    Statement::insert(&INSERT, row)
}

pub(super) fn update(record: &Record, now: &str) -> Statement {
    let ended_at = ended_at(record.status, now);
    let statement = format!(
        "UPDATE direct_uploads SET upload_json = $1, multipart_upload_id = $2, status = $3, \
         stored_bytes = $4, active_at = $5, next_check_at = $6, check_count = $7, version = version + 1, \
         ended_at = COALESCE(ended_at, {ended_at}) WHERE id = $8 AND version = $9"
    );
    Statement::new(statement)
        .with(upload_json(record))
        .with(record.multipart.clone())
        .with(record.status as i64)
        .with(signed(record.stored))
        .with(unix_millis(record.active_at))
        .with(next_check_at(record))
        .with(i64::from(record.check_count))
        .with(record.id().as_str())
        .with(signed(record.version))
}

/// Skips uploads that were written since or are leased. The version stays: requests do not depend on
/// these columns.
pub(super) fn reschedule(records: &[Record], now: &str) -> Statement {
    let rows = records.iter().map(|record| {
        [
            record.id().as_str().into(),
            signed(record.version).into(),
            signed(record.stored).into(),
            unix_millis(record.active_at).into(),
            next_check_at(record).into(),
            i64::from(record.check_count).into(),
        ]
    });
    Statement::from_rows(
        "UPDATE direct_uploads SET stored_bytes = v.column3, active_at = v.column4, \
         next_check_at = v.column5, check_count = v.column6 FROM",
        rows,
        ["TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "BIGINT"],
        &format!(
            "WHERE direct_uploads.id = v.column1 AND direct_uploads.version = v.column2 \
             AND lease_expires_at <= {now}"
        ),
    )
}

/// Checks the upload sooner if needed. The holder of a lease knows better.
pub(super) fn touch(
    id: &UploadId,
    active_at: SystemTime,
    next_check_at: SystemTime,
    now: &str,
) -> Statement {
    Statement::new(format!(
        "UPDATE direct_uploads SET active_at = $1, check_count = 0, version = version + 1, \
         next_check_at = CASE WHEN next_check_at < $2 THEN next_check_at ELSE $2 END \
         WHERE id = $3 AND status = $4 AND lease_expires_at <= {now}"
    ))
    .with(unix_millis(active_at))
    .with(unix_millis(next_check_at))
    .with(id.as_str())
    .with(Status::Open as i64)
}

fn ended_at(status: Status, now: &str) -> &str {
    match status {
        Status::Completed | Status::Removed => now,
        Status::Creating | Status::Open | Status::Completing => "CAST(NULL AS BIGINT)",
    }
}

pub(super) fn read(row: &Row) -> Result<Record, DatabaseError> {
    let id = row.text("id")?;
    let invalid = |what: String| DatabaseError::InvalidRow(format!("direct upload {id}: {what}"));
    let upload_id = UploadId::new(&id).map_err(|error| invalid(error.to_string()))?;
    let info = UploadInfo::decode(&upload_id, row.text("upload_json")?.as_bytes());
    let info = info.map_err(|error| invalid(error.to_string()))?;
    let (mode, status) = (row.number("transfer_mode")?, row.number("status")?);
    Ok(Record {
        upload: info.upload,
        job: JobId(row.number("job_number")?),
        subject: row.text("subject")?,
        mode: from_number(&MODES, mode)
            .ok_or_else(|| invalid(format!("unknown transfer mode {mode}")))?,
        object: ObjectRef::new(row.text("bucket")?, row.text("object_key")?),
        multipart: row.opt_text("multipart_upload_id")?,
        status: from_number(&STATUSES, status)
            .ok_or_else(|| invalid(format!("unknown status {status}")))?,
        stored: row.number("stored_bytes")?.unsigned_abs(),
        active_at: from_unix_millis(row.number("active_at")?),
        next_check_at: row.opt_number("next_check_at")?.map(from_unix_millis),
        check_count: u32::try_from(row.number("check_count")?).unwrap_or(u32::MAX),
        version: row.number("version")?.unsigned_abs(),
    })
}

fn from_number<T: Copy>(all: &[T], number: i64) -> Option<T> {
    all.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_have_their_stored_numbers() {
        for mode in MODES {
            assert_eq!(from_number(&MODES, mode as i64), Some(mode));
        }
        for status in STATUSES {
            assert_eq!(from_number(&STATUSES, status as i64), Some(status));
        }
        assert_eq!(from_number(&MODES, 5), None);
        assert_eq!(from_number(&MODES, -1), None);
        assert!(INSERT.head.contains(COLUMNS));
    }
}
