//! Writing what a transaction changed.

use std::collections::BTreeMap;

use landfall_database::{DatabaseError, Statement, Transaction, Value};

use super::{
    QueueError,
    book::{Book, NewEvent, Part},
    load::parts,
    message,
    numbers::{self, Sequence},
    record::{self, number, signed, text},
    time::MINUTE,
};
use crate::job::JobEventKind;

/// Tokens of one job.
const MOST_TOKENS: i64 = 5;

impl Book<'_> {
    /// Writes all of it.
    pub(super) async fn save(&mut self, transaction: &mut Transaction) -> Result<(), QueueError> {
        let (new, old): (Vec<_>, Vec<_>) = self
            .jobs
            .values()
            .filter(|held| held.was.is_none() || held.is_changed)
            .partition(|held| held.was.is_none());
        let new: Vec<_> = new.iter().map(|held| &held.record).collect();
        let old: Vec<_> = old.iter().map(|held| &held.record).collect();
        for part in parts(&new) {
            transaction.execute(record::insert(part)).await?;
        }
        for part in parts(&old) {
            transaction.execute(record::update(part)).await?;
        }
        self.save_tokens(transaction).await?;
        self.save_parts(transaction).await?;
        self.save_figures(transaction).await?;
        for statement in Statement::merge(&self.along) {
            transaction.execute(statement).await?;
        }
        // Last of all, since other nodes with events wait until this transaction ends.
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
        for part in parts(&self.tokens) {
            let mut statement =
                Statement::new("INSERT INTO queue_tokens (hash, job) SELECT * FROM (VALUES ");
            let rows = part
                .iter()
                .map(|(hash, job)| [hash.as_str().into(), (*job).into()]);
            statement.push_rows(rows, ["TEXT", "BIGINT"]);
            statement.push(") AS v");
            transaction.execute(statement).await?;
        }
        for job in &self.with_more_tokens {
            let statement = Statement::new(
                "DELETE FROM queue_tokens WHERE job = $1 AND number <= (SELECT number \
                 FROM queue_tokens WHERE job = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)",
            );
            let statement = statement.with(*job).with(MOST_TOKENS);
            transaction.execute(statement).await?;
        }
        Ok(())
    }

    async fn save_parts(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        for (job, upload) in &self.forgotten {
            let statement =
                Statement::new("DELETE FROM queue_parts WHERE job = $1 AND upload = $2");
            let statement = statement.with(*job).with(upload.as_str());
            transaction.execute(statement).await?;
        }
        let changed: Vec<(i64, &String, &Part)> = self
            .parts
            .iter()
            .flat_map(|(job, of_job)| of_job.iter().map(|(upload, part)| (*job, upload, part)))
            .filter(|(_, _, part)| part.is_changed)
            .collect();
        for some in parts(&changed) {
            let mut statement = Statement::new(
                "INSERT INTO queue_parts (job, upload, length, stored, noted) \
                 SELECT * FROM (VALUES ",
            );
            let rows = some.iter().map(|(job, upload, part)| {
                [
                    (*job).into(),
                    upload.as_str().into(),
                    number(part.length),
                    signed(part.stored).into(),
                    part.noted.into(),
                ]
            });
            statement.push_rows(rows, ["BIGINT", "TEXT", "BIGINT", "BIGINT", "BIGINT"]);
            // `WHERE true` parts the two meanings of ON for SQLite.
            statement.push(
                ") AS v WHERE true ON CONFLICT (job, upload) DO UPDATE \
                 SET length = excluded.length, stored = excluded.stored",
            );
            transaction.execute(statement).await?;
        }
        Ok(())
    }

    /// Quotas, counts and throughput.
    async fn save_figures(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        let used: Vec<_> = self.used.iter().collect();
        for part in parts(&used) {
            let mut statement = Statement::new(
                "INSERT INTO queue_usage (subject, period, slot, reserved, used) \
                 SELECT * FROM (VALUES ",
            );
            let rows = part.iter().map(|((subject, period), more)| -> [Value; 5] {
                [
                    subject.as_str().into(),
                    (*period).into(),
                    self.slot.into(),
                    more.reserved.into(),
                    more.used.into(),
                ]
            });
            statement.push_rows(rows, ["TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT"]);
            statement.push(
                ") AS v WHERE true ON CONFLICT (subject, period, slot) DO UPDATE \
                 SET reserved = queue_usage.reserved + excluded.reserved, \
                 used = queue_usage.used + excluded.used",
            );
            transaction.execute(statement).await?;
        }
        count(transaction, self.slot, self.counts()).await?;
        if self.flow != super::book::Flow::default() {
            let statement = Statement::new(
                "INSERT INTO queue_throughput (minute, node, bytes, started, completed, failed) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (minute, node) DO UPDATE \
                 SET bytes = queue_throughput.bytes + excluded.bytes, \
                 started = queue_throughput.started + excluded.started, \
                 completed = queue_throughput.completed + excluded.completed, \
                 failed = queue_throughput.failed + excluded.failed",
            )
            .with(self.now / MINUTE)
            .with(text(Some(&self.settings.node)))
            .with(signed(self.flow.bytes))
            .with(self.flow.started)
            .with(self.flow.completed)
            .with(self.flow.failed);
            transaction.execute(statement).await?;
        }
        Ok(())
    }

    /// The deliveries of the events, for the outbox in the same database.
    fn deliveries(&self) -> Result<Vec<Statement>, QueueError> {
        let Some(outbox) = &self.settings.outbox else {
            return Ok(Vec::new());
        };
        let wanted = outbox.names();
        let messages: Vec<_> = self
            .events
            .iter()
            .filter(|event| wanted.contains(message::name(event.kind)))
            .map(|event| message::message(event, self.now))
            .collect();
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        Ok(outbox.insert_statements(&messages)?)
    }

    async fn save_events(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        // Progress is only delivered: the row of the job has it.
        let kept = self.events.iter();
        let kept: Vec<_> = kept
            .filter(|event| event.kind != JobEventKind::UploadProgress)
            .collect();
        for part in parts(&kept) {
            let mut statement = Statement::new(
                "INSERT INTO queue_events (number, job, subject, kind, at, body) \
                 SELECT * FROM (VALUES ",
            );
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
            statement.push_rows(
                rows,
                ["BIGINT", "BIGINT", "TEXT", "BIGINT", "BIGINT", "TEXT"],
            );
            statement.push(") AS v");
            transaction.execute(statement).await?;
        }
        Ok(())
    }
}

/// Whether the number before that of an event is of its last progress, which readers receive first.
fn has_last_progress(event: &NewEvent) -> bool {
    event.kind == JobEventKind::UploadCompleted && event.job.offset > 0
}

/// Changes the counts of states: of each, jobs and bytes.
pub(super) async fn count(
    transaction: &mut Transaction,
    slot: i64,
    changes: BTreeMap<i64, (i64, i64)>,
) -> Result<(), DatabaseError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut statement = Statement::new(
        "INSERT INTO queue_counts (state, slot, jobs, bytes) SELECT * FROM (VALUES ",
    );
    let rows = changes
        .into_iter()
        .map(|(state, (jobs, bytes))| [state.into(), slot.into(), jobs.into(), bytes.into()]);
    statement.push_rows(rows, ["BIGINT"; 4]);
    statement.push(
        ") AS v WHERE true ON CONFLICT (state, slot) DO UPDATE \
         SET jobs = queue_counts.jobs + excluded.jobs, \
         bytes = queue_counts.bytes + excluded.bytes",
    );
    transaction.execute(statement).await?;
    Ok(())
}
