//! Reading what a transaction needs.

use std::collections::BTreeSet;

use landfall_database::{Row, Statement, Transaction};
pub(super) use landfall_database::{parts, push_list};
use sha2::{Digest as _, Sha256};

use super::{
    QueueError,
    book::{Book, Needs, Part, Usage},
    numbers::{self, Sequence},
    record::{COLUMNS, Record, unsigned},
};

impl Book<'_> {
    /// Reads all of it.
    pub(super) async fn load(
        &mut self,
        transaction: &mut Transaction,
        needs: &Needs,
    ) -> Result<(), QueueError> {
        if self.is_postgres {
            lock(transaction, needs).await?;
        }
        self.numbers = numbers::take(transaction, Sequence::Jobs, needs.new_jobs)
            .await?
            .into();
        self.load_jobs(transaction, needs).await?;
        self.load_parts(transaction, needs).await?;
        self.load_subjects(transaction, needs).await
    }

    async fn load_jobs(
        &mut self,
        transaction: &mut Transaction,
        needs: &Needs,
    ) -> Result<(), QueueError> {
        let mut numbers = needs.jobs.clone();
        let asked: Vec<_> = needs.asked.iter().collect();
        for part in parts(&asked) {
            let mut statement = Statement::new("SELECT number FROM (VALUES ");
            let rows = part
                .iter()
                .map(|(subject, request)| [subject.as_str().into(), request.as_str().into()]);
            statement.push_rows(rows, ["TEXT", "TEXT"]);
            statement.push(
                ") AS v CROSS JOIN queue_jobs \
                 WHERE subject = v.column1 AND request_id = v.column2",
            );
            for row in transaction.fetch(statement).await? {
                numbers.insert(row.number("number")?);
            }
        }
        let uploads: Vec<_> = needs.uploads.iter().collect();
        for part in parts(&uploads) {
            let mut statement = Statement::new("SELECT number FROM queue_jobs WHERE upload IN ");
            push_list(&mut statement, part.iter().map(|upload| upload.as_str()));
            for row in transaction.fetch(statement).await? {
                numbers.insert(row.number("number")?);
            }
        }
        let lock = if self.is_postgres { " FOR UPDATE" } else { "" };
        let numbers: Vec<_> = numbers.into_iter().collect();
        for part in parts(&numbers) {
            let mut statement =
                Statement::new(format!("SELECT {COLUMNS} FROM queue_jobs WHERE number IN "));
            push_list(&mut statement, part.iter().copied());
            // In one order, so that transactions do not deadlock.
            statement.push(&format!(" ORDER BY number{lock}"));
            self.hold_all(&transaction.fetch(statement).await?);
        }
        Ok(())
    }

    fn hold_all(&mut self, rows: &[Row]) {
        for row in rows {
            if let Some(record) = self.unreadable.skip(row, Record::read(row)) {
                self.hold(record);
            }
        }
    }

    async fn load_parts(
        &mut self,
        transaction: &mut Transaction,
        needs: &Needs,
    ) -> Result<(), QueueError> {
        let numbers: Vec<_> = needs.parts.iter().copied().collect();
        for part in parts(&numbers) {
            let mut statement = Statement::new(
                "SELECT job, upload, length, stored, noted FROM queue_parts WHERE job IN ",
            );
            push_list(&mut statement, part.iter().copied());
            for row in transaction.fetch(statement).await? {
                let found = Part {
                    length: row.opt_number("length")?.map(unsigned),
                    stored: unsigned(row.number("stored")?),
                    noted: row.number("noted")?,
                    is_changed: false,
                };
                let of_job = self.parts.entry(row.number("job")?).or_default();
                of_job.insert(row.text("upload")?, found);
            }
        }
        Ok(())
    }

    async fn load_subjects(
        &mut self,
        transaction: &mut Transaction,
        needs: &Needs,
    ) -> Result<(), QueueError> {
        let period = self.period();
        let subjects: Vec<_> = needs.usage.iter().collect();
        for part in parts(&subjects) {
            let mut statement = Statement::new(
                "SELECT subject, CAST(SUM(reserved) AS BIGINT) AS reserved, \
                 CAST(SUM(used) AS BIGINT) AS used \
                 FROM queue_usage WHERE period = $1 AND subject IN ",
            )
            .with(period);
            push_list(&mut statement, part.iter().map(|subject| subject.as_str()));
            statement.push(" GROUP BY subject");
            for row in transaction.fetch(statement).await? {
                let usage = Usage {
                    reserved: row.number("reserved")?,
                    used: row.number("used")?,
                };
                self.usage.insert((row.text("subject")?, period), usage);
            }
        }
        for subject in &needs.active {
            let statement = active(subject, self.now);
            let rows = transaction.fetch(statement).await?;
            let active = rows.first().map_or(Ok(0), |row| row.number(0))?;
            self.active.insert(subject.clone(), active);
        }
        for ((subject, count), askers) in &needs.recent {
            let statement = recent(subject, *count, *askers);
            let mut times = Vec::new();
            for row in transaction.fetch(statement).await? {
                times.push(row.number("created")?);
            }
            let key = (subject.clone(), *count);
            self.recent.insert(key, ((*askers).min(*count), times));
        }
        Ok(())
    }

    /// The period of quotas that it is now.
    pub(super) fn period(&self) -> i64 {
        let period = self.settings.quota_period.map_or(0, super::time::span);
        if period > 0 { self.now / period } else { 0 }
    }
}

/// Waits for transactions of other nodes that check limits of the same subjects or make jobs for the
/// same uploads.
async fn lock(transaction: &mut Transaction, needs: &Needs) -> Result<(), QueueError> {
    let recent = needs.recent.keys().map(|(subject, _)| subject);
    let subjects = needs.usage.iter().chain(&needs.active).chain(recent);
    let keys = subjects.map(|subject| lock_key("subject", subject)).chain(
        needs
            .uploads
            .iter()
            .map(|upload| lock_key("upload", upload)),
    );
    // In one order, so that transactions do not deadlock.
    let keys: Vec<_> = keys.collect::<BTreeSet<_>>().into_iter().collect();
    for part in parts(&keys) {
        let mut statement = Statement::new("SELECT pg_advisory_xact_lock(v.column1) FROM (VALUES ");
        statement.push_rows(part.iter().map(|key| [(*key).into()]), ["BIGINT"]);
        statement.push(") AS v");
        transaction.execute(statement).await?;
    }
    Ok(())
}

/// The number of an advisory lock. Two names with the same number only wait for each other.
pub(super) fn lock_key(kind: &str, name: &str) -> i64 {
    let mut hash = Sha256::new();
    for text in ["landfall queue", kind, name] {
        hash.update(text);
        hash.update([0]);
    }
    numbers::from_digest(&hash.finalize())
}

/// How many jobs of a subject are under way at `now`, or may still begin.
pub(super) fn active(subject: &str, now: i64) -> Statement {
    Statement::new(
        "SELECT (SELECT COUNT(*) FROM queue_jobs WHERE subject = $1 AND state IN (1, 2)) + \
         (SELECT COUNT(*) FROM queue_jobs WHERE subject = $1 AND state = 0 AND expires > $2)",
    )
    .with(subject)
    .with(now)
}

/// When the newest jobs of a subject but `count` were asked for, as far as `askers` need to know: the
/// last of them is the one that has to be old enough for the first asker, the one before for the
/// second.
pub(super) fn recent(subject: &str, count: u32, askers: u32) -> Statement {
    let askers = askers.min(count);
    Statement::new(
        "SELECT created FROM queue_jobs WHERE subject = $1 ORDER BY number DESC LIMIT $2 OFFSET $3",
    )
    .with(subject)
    .with(i64::from(askers))
    .with(i64::from(count - askers))
}
