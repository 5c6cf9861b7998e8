//! Writes the changes of a unit of work: jobs, tokens, parts, totals, events and their deliveries.
//!
//! Takes the numbers of events last: until the commit, readers wait for the events of all nodes. Progress is not stored
//! as an event. Totals are added to, not overwritten, since several nodes change them.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use landfall_hooks::{JobData, Message, MessageId};
use sha2::{Digest as _, Sha256};

use super::{
    Job, JobEventKind, MINUTE, QueueError,
    numbers::{self, Sequence},
    record::{self, number, text},
    unit_of_work::{LoadedJob, NewEvent, Part, UnitOfWork, Usage},
};
use crate::sql::{DatabaseError, Statement, Transaction, from_unix_millis, signed};

const MAX_TOKENS: i64 = 5;

impl UnitOfWork<'_> {
    pub(super) async fn save(&mut self, transaction: &mut Transaction) -> Result<(), QueueError> {
        let (mut new, mut bound, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for loaded in self.jobs.values() {
            match loaded {
                LoadedJob {
                    loaded_as: None, ..
                } => new.push(&loaded.record),
                LoadedJob { is_bound: true, .. } => bound.push(&loaded.record),
                LoadedJob {
                    is_changed: true, ..
                } => others.push(&loaded.record),
                _ => {}
            }
        }
        transaction.execute_parts(&new, record::insert).await?;
        transaction
            .execute_parts(&bound, record::update_bound)
            .await?;
        transaction.execute_parts(&others, record::update).await?;
        self.save_tokens(transaction).await?;
        self.save_parts(transaction).await?;
        self.save_figures(transaction).await?;
        self.save_key_uses(transaction).await?;
        self.save_links(transaction).await?;
        for statement in Statement::merge(&self.extra_statements) {
            transaction.execute(statement).await?;
        }
        // Take the numbers last: readers wait until this transaction ends.
        let reserved = self.events.iter().filter(|event| has_last_progress(event));
        let count = self.events.len() + reserved.count();
        let numbers = numbers::take(transaction, Sequence::Events, count).await?;
        let mut numbers = numbers.into_iter();
        for event in &mut self.events {
            if has_last_progress(event) {
                numbers.next();
            }
            event.number = numbers.next().unwrap_or_default();
        }
        self.save_events(transaction).await?;
        for statement in self.deliveries()? {
            transaction.execute(statement).await?;
        }
        Ok(())
    }

    async fn save_tokens(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        let insert = |part: &[(String, i64)]| {
            let head = "INSERT INTO queue_tokens (hash, job_number) SELECT * FROM";
            let rows = part
                .iter()
                .map(|(hash, job)| [hash.as_str().into(), (*job).into()]);
            Statement::from_rows(head, rows, ["TEXT", "BIGINT"], "")
        };
        transaction.execute_parts(&self.tokens, insert).await?;
        for job in &self.jobs_to_prune {
            let statement = Statement::new(
                "DELETE FROM queue_tokens WHERE job_number = $1 AND number <= (SELECT number \
                 FROM queue_tokens WHERE job_number = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)",
            );
            let statement = statement.with(*job).with(MAX_TOKENS);
            transaction.execute(statement).await?;
        }
        Ok(())
    }

    async fn save_parts(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        for (job, upload) in &self.deleted_parts {
            let statement =
                Statement::new("DELETE FROM queue_parts WHERE job_number = $1 AND upload_id = $2");
            let statement = statement.with(*job).with(upload.as_str());
            transaction.execute(statement).await?;
        }
        let changed: Vec<(i64, &String, &Part)> = self
            .parts
            .iter()
            .flat_map(|(job, of_job)| of_job.iter().map(|(upload, part)| (*job, upload, part)))
            .filter(|(_, _, part)| part.is_changed)
            .collect();
        let upsert = |parts: &[(i64, &String, &Part)]| {
            let rows = parts.iter().map(|(job, upload, part)| {
                [
                    (*job).into(),
                    upload.as_str().into(),
                    number(part.length),
                    signed(part.offset).into(),
                    part.created_at.into(),
                ]
            });
            // SQLite needs `WHERE true` to parse ON CONFLICT after a SELECT.
            Statement::from_rows(
                "INSERT INTO queue_parts (job_number, upload_id, length, upload_offset, created_at) \
                 SELECT * FROM",
                rows,
                ["BIGINT", "TEXT", "BIGINT", "BIGINT", "BIGINT"],
                "WHERE true ON CONFLICT (job_number, upload_id) DO UPDATE \
                 SET length = excluded.length, upload_offset = excluded.upload_offset",
            )
        };
        transaction.execute_parts(&changed, upsert).await?;
        Ok(())
    }

    async fn save_figures(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        let slot = free_slot(transaction);
        let changes: Vec<_> = self.usage_changes.iter().collect();
        let add = |part: &[(&(String, i64), &Usage)]| {
            let rows = part.iter().map(|((subject, period), change)| {
                [
                    subject.as_str().into(),
                    (*period).into(),
                    change.reserved.into(),
                    change.used.into(),
                ]
            });
            let head = format!(
                "INSERT INTO queue_usage (subject, quota_period, reserved_bytes, used_bytes, slot) \
                 SELECT v.*, {slot} FROM"
            );
            Statement::from_rows(
                &head,
                rows,
                ["TEXT", "BIGINT", "BIGINT", "BIGINT"],
                "WHERE true ON CONFLICT (subject, quota_period, slot) DO UPDATE \
                 SET reserved_bytes = queue_usage.reserved_bytes + excluded.reserved_bytes, \
                 used_bytes = queue_usage.used_bytes + excluded.used_bytes",
            )
        };
        transaction.execute_parts(&changes, add).await?;
        count(transaction, self.counts()).await?;
        if self.throughput != super::unit_of_work::ThroughputDelta::default() {
            let statement = Statement::new(
                "INSERT INTO queue_throughput (minute, node, bytes, started, completed, failed) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (minute, node) DO UPDATE \
                 SET bytes = queue_throughput.bytes + excluded.bytes, \
                 started = queue_throughput.started + excluded.started, \
                 completed = queue_throughput.completed + excluded.completed, \
                 failed = queue_throughput.failed + excluded.failed",
            )
            .with(self.now / MINUTE)
            .with(text(Some(&self.shared.settings.node)))
            .with(signed(self.throughput.bytes))
            .with(self.throughput.started)
            .with(self.throughput.completed)
            .with(self.throughput.failed);
            transaction.execute(statement).await?;
        }
        Ok(())
    }

    async fn save_key_uses(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        let uses: Vec<_> = self.key_uses.iter().collect();
        // Another node stores a use of the same minute, or deletes the key: waiting for it is of no use.
        let lock = match transaction.is_postgres() {
            true => "FOR UPDATE SKIP LOCKED",
            false => "",
        };
        let condition = format!(
            "WHERE api_keys.number = \
             (SELECT k.number FROM api_keys AS k WHERE k.number = v.column1 {lock})"
        );
        let update = |part: &[(&i64, &i64)]| {
            let rows = part.iter().map(|(key, at)| [(**key).into(), (**at).into()]);
            Statement::from_rows(
                "UPDATE api_keys SET used_at = v.column2 FROM",
                rows,
                ["BIGINT", "BIGINT"],
                &condition,
            )
        };
        transaction.execute_parts(&uses, update).await?;
        Ok(())
    }

    async fn save_links(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        for (number, link) in &self.links {
            let granted = link.map_or(0, |link| link.granted);
            if granted > 0 {
                let statement = Statement::new(
                    "UPDATE queue_links SET files = files + $2, used_at = $3 WHERE number = $1",
                );
                let statement = statement.with(*number).with(granted).with(self.now);
                transaction.execute(statement).await?;
            }
        }
        Ok(())
    }

    fn deliveries(&self) -> Result<Vec<Statement>, QueueError> {
        let Some(outbox) = &self.shared.settings.outbox else {
            return Ok(Vec::new());
        };
        let wanted = outbox.names();
        let messages: Vec<_> = self
            .events
            .iter()
            .filter(|event| wanted.contains(event.kind.hook()))
            .map(|event| message(event, self.now))
            .collect();
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        Ok(outbox.insert_statements(&messages)?)
    }

    async fn save_events(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        // Progress is not stored as an event, only in the row of the job.
        let stored = self.events.iter();
        let stored: Vec<_> = stored
            .filter(|event| event.kind != JobEventKind::UploadProgress)
            .collect();
        let insert = |part: &[&NewEvent]| {
            let rows = part.iter().map(|event| {
                [
                    event.number.into(),
                    event.job.id.0.into(),
                    text(event.job.subject.as_deref()),
                    (event.kind as i64).into(),
                    self.now.into(),
                    record::json(&event.job).into(),
                ]
            });
            Statement::from_rows(
                "INSERT INTO queue_events (number, job_number, subject, kind, created_at, job_json) \
                 SELECT * FROM",
                rows,
                ["BIGINT", "BIGINT", "TEXT", "BIGINT", "BIGINT", "TEXT"],
                "",
            )
        };
        transaction.execute_parts(&stored, insert).await?;
        Ok(())
    }
}

/// Returns SQL for the slot of sums to add to: on PostgreSQL one that no other transaction has added to, so that none
/// waits for the end of another.
fn free_slot(transaction: &Transaction) -> &'static str {
    match transaction.is_postgres() {
        true => {
            "COALESCE((SELECT n FROM generate_series(0, 255) AS n \
             WHERE pg_try_advisory_xact_lock(700246135, n) LIMIT 1), 0)"
        }
        false => "0",
    }
}

/// The number before an event is reserved for the last progress of its job.
fn has_last_progress(event: &NewEvent) -> bool {
    event.kind == JobEventKind::UploadCompleted && event.job.offset > 0
}

pub(super) async fn count(
    transaction: &mut Transaction,
    changes: BTreeMap<i64, (i64, i64)>,
) -> Result<(), DatabaseError> {
    if changes.is_empty() {
        return Ok(());
    }
    let rows = changes
        .into_iter()
        .map(|(state, (jobs, bytes))| [state.into(), jobs.into(), bytes.into()]);
    let slot = free_slot(transaction);
    let head = format!(
        "INSERT INTO queue_state_totals (state, jobs, bytes, slot) SELECT v.*, {slot} FROM"
    );
    let statement = Statement::from_rows(
        &head,
        rows,
        ["BIGINT"; 3],
        "WHERE true ON CONFLICT (state, slot) DO UPDATE \
         SET jobs = queue_state_totals.jobs + excluded.jobs, \
         bytes = queue_state_totals.bytes + excluded.bytes",
    );
    transaction.execute(statement).await?;
    Ok(())
}

fn message(event: &NewEvent, now: i64) -> Message {
    let facts = facts(&event.job);
    let upload = facts.upload(event.job.upload_id.as_deref());
    let number = MessageId {
        id: message_id(event),
        sequence: u64::try_from(event.number).unwrap_or_default(),
    };
    Message::about_job(
        event.kind.hook(),
        from_unix_millis(now),
        facts,
        upload,
        number,
    )
}

/// Unique across databases, in hexadecimal.
fn message_id(event: &NewEvent) -> String {
    let created = event.job.created_at.duration_since(UNIX_EPOCH);
    let mut hash = Sha256::new();
    hash.update(created.unwrap_or_default().as_nanos().to_be_bytes());
    hash.update(event.job.id.0.to_be_bytes());
    hash.update(event.number.to_be_bytes());
    hex::encode(&hash.finalize()[..16])
}

fn facts(job: &Job) -> JobData {
    let job = job.clone();
    JobData {
        id: job.id.to_string(),
        subject: job.subject,
        request_id: job.request_id,
        state: job.state.to_string(),
        reason: job.reason,
        filename: job.filename,
        filetype: job.filetype,
        size: job.size,
        offset: job.offset,
        etag: job.etag,
        metadata: job.metadata.into_iter().collect(),
        created: Some(job.created_at),
        expires: Some(job.expires_at),
        started: job.started_at,
        updated: Some(job.updated_at),
        ended: job.ended_at,
    }
}
