//! A record as a row.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use landfall::{store::info::UploadInfo, upload::UploadId};
use landfall_database::{DatabaseError, Insert, Row, Statement};
use landfall_grants::JobId;
use landfall_s3::client::Place;

use super::home::now;
use crate::{Record, Standing, Way};

/// The columns that [`read`] needs.
pub(super) const COLUMNS: &str = "id, description, job, subject, way, bucket, key, multipart, \
     standing, stored, active_at, check_at, looks, version";

const WAYS: [Way; 4] = [Way::Put, Way::Post, Way::Multipart, Way::SignedMultipart];
const STANDINGS: [Standing; 5] = [
    Standing::Opening,
    Standing::Open,
    Standing::Finishing,
    Standing::Finished,
    Standing::Gone,
];

pub(super) const fn place_of(standing: Standing) -> i64 {
    standing as i64
}

/// Milliseconds since 1970.
pub(super) fn millis(at: SystemTime) -> i64 {
    span(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn span(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// PostgreSQL takes no text that holds U+0000, and the queue has the subject in these words, too.
pub(super) fn clean(subject: &str) -> String {
    subject.replace('\0', "\u{fffd}")
}

/// As it is kept beside the columns: as stores do that keep it in a file.
fn description(record: &Record) -> String {
    let json = UploadInfo::new(landfall::upload::Upload::clone(&record.upload)).encode();
    // JSON is UTF-8.
    String::from_utf8_lossy(&json).into_owned()
}

/// Nothing of what is complete is left to be looked at.
fn check_at(record: &Record) -> Option<i64> {
    let at = record
        .check_at
        .filter(|_| record.standing != Standing::Finished);
    at.map(millis)
}

/// How a row is inserted, unless there is one with its id.
macro_rules! insert {
    ($database:ident) => {
        Insert {
            // The columns are those of `COLUMNS`; by the ninth, it has ended or not.
            head: concat!(
                "INSERT INTO direct_uploads (id, description, job, subject, way, bucket, key, \
                 multipart, standing, stored, active_at, check_at, looks, version, ended, \
                 lease_expires_at) SELECT v.*, CASE WHEN v.column9 IN (3, 4) THEN ",
                now!($database),
                " END, 0 FROM"
            ),
            types: &[
                "TEXT", "TEXT", "BIGINT", "TEXT", "BIGINT", "TEXT", "TEXT", "TEXT", "BIGINT",
                "BIGINT", "BIGINT", "BIGINT", "BIGINT", "BIGINT",
            ],
            // SQLite would take the ON for that of a join without a WHERE.
            tail: "WHERE true ON CONFLICT (id) DO NOTHING",
        }
    };
}
static INSERT_SQLITE: Insert = insert!(sqlite);
static INSERT_POSTGRES: Insert = insert!(postgres);

/// Inserts a record, unless there is one with its id.
pub(super) fn insert(record: &Record, is_postgres: bool) -> Statement {
    let insert = match is_postgres {
        true => &INSERT_POSTGRES,
        false => &INSERT_SQLITE,
    };
    let row = vec![
        record.id().as_str().into(),
        description(record).into(),
        record.job.0.into(),
        clean(&record.subject).into(),
        (record.way as i64).into(),
        record.place.bucket.as_str().into(),
        record.place.key.as_str().into(),
        record.multipart.clone().into(),
        place_of(record.standing).into(),
        signed(record.stored).into(),
        millis(record.active_at).into(),
        check_at(record).into(),
        i64::from(record.looks).into(),
        signed(record.version).into(),
    ];
    Statement::insert(insert, row)
}

/// Writes all that may change, if nobody has written since the record was read.
pub(super) fn update(record: &Record, now: &str) -> Statement {
    let ended = ended(record.standing, now);
    let statement = format!(
        "UPDATE direct_uploads SET description = $1, multipart = $2, standing = $3, stored = $4, \
         active_at = $5, check_at = $6, looks = $7, version = version + 1, \
         ended = COALESCE(ended, {ended}) WHERE id = $8 AND version = $9"
    );
    Statement::new(statement)
        .with(description(record))
        .with(record.multipart.clone())
        .with(place_of(record.standing))
        .with(signed(record.stored))
        .with(millis(record.active_at))
        .with(check_at(record))
        .with(i64::from(record.looks))
        .with(record.id().as_str())
        .with(signed(record.version))
}

/// Writes what the sweeper found of many uploads, except those that somebody has written since or has
/// the lease of. The version stays: nothing is written here that a request depends on.
pub(super) fn reschedule(records: &[Record], now: &str) -> Statement {
    let mut statement =
        Statement::new("WITH found (id, version, stored, active_at, check_at, looks) AS (VALUES ");
    let rows = records.iter().map(|record| {
        [
            record.id().as_str().into(),
            signed(record.version).into(),
            signed(record.stored).into(),
            millis(record.active_at).into(),
            check_at(record).into(),
            i64::from(record.looks).into(),
        ]
    });
    statement.push_rows(
        rows,
        ["TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "BIGINT"],
    );
    statement.push(&format!(
        ") UPDATE direct_uploads SET stored = found.stored, active_at = found.active_at, \
         check_at = found.check_at, looks = found.looks FROM found \
         WHERE direct_uploads.id = found.id AND direct_uploads.version = found.version \
         AND lease_expires_at <= {now}"
    ));
    statement
}

/// Writes that the client of an open upload is active, and when to check it if that is sooner. Whoever
/// has the lease has just found out more.
pub(super) fn touch(
    id: &UploadId,
    active_at: SystemTime,
    check_at: SystemTime,
    now: &str,
) -> Statement {
    Statement::new(format!(
        "UPDATE direct_uploads SET active_at = $1, looks = 0, version = version + 1, \
         check_at = CASE WHEN check_at < $2 THEN check_at ELSE $2 END \
         WHERE id = $3 AND standing = $4 AND lease_expires_at <= {now}"
    ))
    .with(millis(active_at))
    .with(millis(check_at))
    .with(id.as_str())
    .with(place_of(Standing::Open))
}

/// When it ended, if it has: SQL.
fn ended(standing: Standing, now: &str) -> &str {
    match standing {
        Standing::Finished | Standing::Gone => now,
        Standing::Opening | Standing::Open | Standing::Finishing => "CAST(NULL AS BIGINT)",
    }
}

pub(super) fn read(row: &Row) -> Result<Record, DatabaseError> {
    let id = row.text("id")?;
    let nonsense = |what: String| DatabaseError::Row(format!("the direct upload {id}: {what}"));
    let upload_id = UploadId::new(&id).map_err(|error| nonsense(error.to_string()))?;
    let info = UploadInfo::decode(&upload_id, row.text("description")?.as_bytes());
    let info = info.map_err(|error| nonsense(error.to_string()))?;
    let (way, standing) = (row.number("way")?, row.number("standing")?);
    Ok(Record {
        upload: Arc::new(info.upload),
        job: JobId(row.number("job")?),
        subject: row.text("subject")?,
        way: one_of(&WAYS, way).ok_or_else(|| nonsense(format!("the way {way}")))?,
        place: Place::new(row.text("bucket")?, row.text("key")?),
        multipart: row.maybe_text("multipart")?,
        standing: one_of(&STANDINGS, standing)
            .ok_or_else(|| nonsense(format!("the standing {standing}")))?,
        stored: row.number("stored")?.unsigned_abs(),
        active_at: time(row.number("active_at")?),
        check_at: row.maybe_number("check_at")?.map(time),
        looks: u32::try_from(row.number("looks")?).unwrap_or(u32::MAX),
        version: row.number("version")?.unsigned_abs(),
    })
}

fn one_of<T: Copy>(all: &[T], number: i64) -> Option<T> {
    all.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_number() {
        for way in WAYS {
            assert_eq!(one_of(&WAYS, way as i64), Some(way));
        }
        for standing in STANDINGS {
            assert_eq!(one_of(&STANDINGS, place_of(standing)), Some(standing));
        }
        assert_eq!(one_of(&WAYS, 4), None);
        assert_eq!(one_of(&WAYS, -1), None);
        // As the SQL has them.
        let ended = [Standing::Finished, Standing::Gone].map(place_of);
        assert_eq!(ended, [3, 4]);
        assert!(INSERT_SQLITE.head.contains(COLUMNS));
    }
}
