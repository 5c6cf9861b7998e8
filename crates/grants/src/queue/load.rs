//! Reading what a transaction needs.

use landfall_database::{Row, Statement, Transaction};
pub(super) use landfall_database::{parts, push_list};

use super::{
    QueueError,
    book::{Book, Last, Needs, Part, Usage},
    record::{COLUMNS, Record, unsigned},
};

impl Book<'_> {
    /// Reads all of it.
    pub(super) async fn load(
        &mut self,
        transaction: &mut Transaction,
        needs: &Needs,
    ) -> Result<(), QueueError> {
        let last = Statement::new("SELECT jobs, events, tokens FROM queue_last");
        let rows = transaction.fetch(last).await?;
        let row = rows
            .first()
            .ok_or_else(|| QueueError::Row("queue_last is empty".into()))?;
        self.last = Last {
            jobs: row.number("jobs")?,
            events: row.number("events")?,
            tokens: row.number("tokens")?,
        };
        self.was_last = self.last;
        self.load_jobs(transaction, needs).await?;
        self.load_parts(transaction, needs).await?;
        self.load_subjects(transaction, needs).await
    }

    async fn load_jobs(
        &mut self,
        transaction: &mut Transaction,
        needs: &Needs,
    ) -> Result<(), QueueError> {
        let numbers: Vec<_> = needs.jobs.iter().copied().collect();
        for part in parts(&numbers) {
            let mut statement =
                Statement::new(format!("SELECT {COLUMNS} FROM queue_jobs WHERE number IN "));
            push_list(&mut statement, part.iter().copied());
            self.hold_all(&transaction.fetch(statement).await?);
        }
        let asked: Vec<_> = needs.asked.iter().collect();
        for part in parts(&asked) {
            let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM (VALUES "));
            let rows = part
                .iter()
                .map(|(subject, request)| [subject.as_str().into(), request.as_str().into()]);
            statement.push_rows(rows, ["TEXT", "TEXT"]);
            statement.push(
                ") AS v CROSS JOIN queue_jobs \
                 WHERE subject = v.column1 AND request_id = v.column2",
            );
            self.hold_all(&transaction.fetch(statement).await?);
        }
        let uploads: Vec<_> = needs.uploads.iter().collect();
        for part in parts(&uploads) {
            let mut statement =
                Statement::new(format!("SELECT {COLUMNS} FROM queue_jobs WHERE upload IN "));
            push_list(&mut statement, part.iter().map(|upload| upload.as_str()));
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
                    length: row.maybe_number("length")?.map(unsigned),
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
                "SELECT subject, reserved, used FROM queue_usage WHERE period = $1 AND subject IN ",
            )
            .with(period);
            push_list(&mut statement, part.iter().map(|subject| subject.as_str()));
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
