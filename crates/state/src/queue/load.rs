//! Loads the rows that the commands of a batch need, and locks them where other nodes write.
//!
//! On PostgreSQL, all nodes take locks in one order, against deadlocks: those of subjects and uploads by key, then jobs
//! by number. A job that this version cannot read is skipped, so a command must expect to find none.

use std::collections::BTreeSet;

use super::{
    QueueError,
    links::{self, LoadedLink},
    numbers::{self, Sequence},
    read,
    record::Record,
    unit_of_work::{Part, UnitOfWork, Usage},
};
use crate::sql::{Statement, Transaction, millis, unsigned};

impl UnitOfWork<'_> {
    pub(super) async fn load(&mut self, transaction: &mut Transaction) -> Result<(), QueueError> {
        if transaction.is_postgres() {
            self.lock(transaction).await?;
        }
        self.numbers = numbers::take(transaction, Sequence::Jobs, self.new_jobs)
            .await?
            .into();
        self.load_jobs(transaction).await?;
        self.load_parts(transaction).await?;
        self.load_subjects(transaction).await?;
        self.load_links(transaction).await
    }

    /// After the jobs, as purging does.
    async fn load_links(&mut self, transaction: &mut Transaction) -> Result<(), QueueError> {
        let numbers: Vec<_> = self.links.keys().copied().collect();
        let is_postgres = transaction.is_postgres();
        let select = |part: &[i64]| links::by_numbers(part, is_postgres);
        for row in transaction.fetch_parts(&numbers, select).await? {
            self.links
                .insert(row.number("number")?, Some(LoadedLink::read(&row)?));
        }
        Ok(())
    }

    async fn load_jobs(&mut self, transaction: &mut Transaction) -> Result<(), QueueError> {
        let mut numbers = self.needed_jobs.clone();
        let requests: Vec<_> = self.requests.keys().collect();
        let by_request = |part: &[&(String, String)]| {
            let rows = part
                .iter()
                .map(|(subject, request)| [subject.as_str().into(), request.as_str().into()]);
            Statement::from_rows(
                "SELECT number FROM",
                rows,
                ["TEXT", "TEXT"],
                "CROSS JOIN queue_jobs WHERE subject = v.column1 AND request_id = v.column2",
            )
        };
        let uploads: Vec<_> = self.uploads.keys().collect();
        let by_upload = |part: &[&String]| {
            Statement::new("SELECT number FROM queue_jobs WHERE upload_id IN ")
                .list(part.iter().map(|upload| upload.as_str()))
        };
        let mut found = transaction.fetch_parts(&requests, by_request).await?;
        found.extend(transaction.fetch_parts(&uploads, by_upload).await?);
        for row in found {
            numbers.insert(row.number("number")?);
        }
        let lock = if transaction.is_postgres() {
            " FOR UPDATE"
        } else {
            ""
        };
        let numbers: Vec<_> = numbers.into_iter().collect();
        let locked = |part: &[i64]| {
            let mut statement = read::by_numbers(part);
            // One order prevents deadlocks.
            statement.push(&format!(" ORDER BY number{lock}"));
            statement
        };
        for row in &transaction.fetch_parts(&numbers, locked).await? {
            let unreadable = &self.shared.unreadable_jobs;
            if let Some(record) = unreadable.skip(row, Record::read(row)) {
                self.insert_loaded(record);
            }
        }
        Ok(())
    }

    async fn load_parts(&mut self, transaction: &mut Transaction) -> Result<(), QueueError> {
        let numbers: Vec<_> = self.parts.keys().copied().collect();
        let select = |part: &[i64]| {
            Statement::new(
                "SELECT job_number, upload_id, length, upload_offset, created_at FROM queue_parts \
                 WHERE job_number IN ",
            )
            .list(part.iter().copied())
        };
        for row in transaction.fetch_parts(&numbers, select).await? {
            let found = Part {
                length: row.opt_number("length")?.map(unsigned),
                offset: unsigned(row.number("upload_offset")?),
                created_at: row.number("created_at")?,
                is_changed: false,
            };
            let of_job = self.parts.entry(row.number("job_number")?).or_default();
            of_job.insert(row.text("upload_id")?, found);
        }
        Ok(())
    }

    async fn load_subjects(&mut self, transaction: &mut Transaction) -> Result<(), QueueError> {
        let period = self.quota_period();
        let subjects: Vec<_> = self
            .subjects
            .iter()
            .filter(|(_, subject)| subject.usage.is_some())
            .map(|(name, _)| name.as_str())
            .collect();
        let select = |part: &[&str]| {
            let mut statement = Statement::new(
                "SELECT subject, CAST(SUM(reserved_bytes) AS BIGINT) AS reserved_bytes, \
                 CAST(SUM(used_bytes) AS BIGINT) AS used_bytes \
                 FROM queue_usage WHERE quota_period = $1 AND subject IN ",
            )
            .with(period)
            .list(part.iter().copied());
            statement.push(" GROUP BY subject");
            statement
        };
        for row in transaction.fetch_parts(&subjects, select).await? {
            let usage = Usage {
                reserved: row.number("reserved_bytes")?,
                used: row.number("used_bytes")?,
            };
            let subject = self.subjects.entry(row.text("subject")?).or_default();
            subject.usage = Some(usage);
        }
        for (name, subject) in &mut self.subjects {
            if let Some(count) = &mut subject.active {
                let rows = transaction.fetch(active(name, self.now)).await?;
                *count = rows.first().map_or(Ok(0), |row| row.number("active"))?;
            }
            for (count, jobs) in &mut subject.recent {
                let statement = recent(name, *count, jobs.requests);
                for row in transaction.fetch(statement).await? {
                    jobs.times.push(row.number("created_at")?);
                }
            }
        }
        Ok(())
    }

    pub(super) fn quota_period(&self) -> i64 {
        let period = self.shared.settings.quota_period.map_or(0, millis);
        if period > 0 { self.now / period } else { 0 }
    }

    /// Other nodes may check limits of the same subjects, or create jobs for the same uploads.
    async fn lock(&self, transaction: &mut Transaction) -> Result<(), QueueError> {
        let subjects = self.subjects.keys();
        let subjects = subjects.map(|subject| numbers::lock_key("subject", subject));
        let uploads = self.uploads.keys();
        let uploads = uploads.map(|upload| numbers::lock_key("upload", upload));
        // One order prevents deadlocks.
        let keys: BTreeSet<_> = subjects.chain(uploads).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let lock = |part: &[i64]| {
            let rows = part.iter().map(|key| [(*key).into()]);
            let lock = "SELECT pg_advisory_xact_lock(v.column1) FROM";
            Statement::from_rows(lock, rows, ["BIGINT"], "")
        };
        transaction.execute_parts(&keys, lock).await?;
        Ok(())
    }
}

/// Running jobs and unexpired grants.
pub(super) fn active(subject: &str, now: i64) -> Statement {
    Statement::new(
        "SELECT (SELECT COUNT(*) FROM queue_jobs WHERE subject = $1 AND state IN (1, 2)) + \
         (SELECT COUNT(*) FROM queue_jobs WHERE subject = $1 AND state = 0 AND expires_at > $2) \
         AS active",
    )
    .with(subject)
    .with(now)
}

/// Selects the times that decide a rate limit of `count` for `requests` requests, the last for the first.
pub(super) fn recent(subject: &str, count: u32, requests: u32) -> Statement {
    let requests = requests.min(count);
    Statement::new(
        "SELECT created_at FROM queue_jobs WHERE subject = $1 ORDER BY number DESC LIMIT $2 OFFSET $3",
    )
    .with(subject)
    .with(i64::from(requests))
    .with(i64::from(count - requests))
}
