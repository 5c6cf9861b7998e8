//! The upload queue: jobs, their tokens, quotas, keys and events, in SQLite or PostgreSQL.
//!
//! A job goes from received over started and progress to completed, cancelled, failed or expired. What
//! many requests want at a time is written in one transaction by one task; transactions of several
//! processes come one after another. So what is checked in one holds when it is kept: an upload is
//! bound once, nobody gets more than its quota, no end is followed by another, and events can be read
//! by whoever remembers the last number.

mod advance;
mod book;
mod expiry;
mod feed;
mod grant;
mod home;
mod keys;
mod load;
mod message;
mod numbers;
#[cfg(feature = "postgres")]
mod peers;
#[cfg(test)]
mod plans;
mod read;
mod record;
mod reports;
mod save;
mod search;
mod settings;
mod start;
mod tidy;
mod time;
mod types;
mod watch;
mod work;
mod writer;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use landfall::upload::{Upload, UploadId};
use landfall_database::{Connections, Durability, Migration, Statement};
pub use landfall_database::{Database, DatabaseError};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch as channel},
    time::timeout,
};

use self::{
    advance::{Finish, SetEnding},
    home::{Home, Shared},
    record::Record,
    start::{Bind, Follow},
    writer::Command,
};
pub use self::{
    expiry::ExpiredGrants,
    feed::{EventReader, SharedEvent},
    home::QueueStats,
    settings::{QueueError, QueueSettings},
    types::{
        ApiKey, Bounds, Completion, End, GrantStarted, Granted, NewJob, NewKey, Page, Query,
        Refusal, Report, Scope, StaleFilter, StaleJob, Start, Started, Throughput, Totals,
    },
};
use crate::{Job, JobId, TokenHash, job::JobEvent};

/// The name of the tables among others in the database.
const TABLES: &str = "queue";
const MIGRATIONS: &[Migration] = &[Migration::expand(
    include_str!("../../migrations/0001-queue.sqlite.sql"),
    include_str!("../../migrations/0001-queue.postgres.sql"),
)];
/// What may wait for the writer; a request that wants more waits.
const COMMANDS: usize = 2048;
/// How long the end waits for the writer.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Brings the tables of the queue to the version of this program.
///
/// # Errors
/// See [`Connections::migrate`].
///
/// # Cancel safety
/// Dropped, it has done all or nothing.
pub async fn migrate(database: &Connections) -> Result<(), DatabaseError> {
    database.migrate(TABLES, MIGRATIONS).await
}

/// The queue. Cheap to clone; all clones are one. Several processes may share its database.
///
/// It may be used from any runtime; its connections belong to the one that opened it, which has to run
/// as long as the queue is used.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Home>);

impl Queue {
    /// Opens the database, makes or changes its tables. Its connections and the task that writes
    /// belong to the runtime in which this is called.
    ///
    /// # Errors
    /// The database can't be opened, or its tables are newer than this program.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn open(mut settings: QueueSettings) -> Result<Self, QueueError> {
        let durability = if settings.survives_power_loss {
            Durability::PowerLoss
        } else {
            Durability::ProcessCrash
        };
        let database = match &settings.connections {
            Some(open) => open.clone(),
            None => settings.database.open(durability).await?,
        };
        migrate(&database).await?;
        if !settings.clock.is_custom() {
            settings.clock = database.clock().clone();
        }
        let shared = Arc::new(Shared::new(settings, database));
        shared.saw(watch::newest(&shared).await?);
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (closing, is_closing) = channel::channel(false);
        tokio::spawn(writer::run(shared.clone(), receiver));
        tokio::spawn(writer::run_progress(shared.clone(), is_closing.clone()));
        #[cfg(feature = "postgres")]
        if shared.database.is_postgres() {
            tokio::spawn(peers::run(shared.clone(), is_closing.clone()));
        }
        tokio::spawn(feed::run(shared.clone(), is_closing.clone()));
        tokio::spawn(watch::run(shared.clone(), is_closing));
        Ok(Self(Arc::new(Home {
            shared,
            commands,
            runtime: Handle::current(),
            closing,
        })))
    }

    /// Writes what was reported and closes the database. Whoever asks for something later is told
    /// that the queue is closed.
    ///
    /// # Cancel safety
    /// May be dropped; what was reported and isn't written is found out by a look at the store.
    pub async fn close(&self) {
        self.0.closing.send_replace(true);
        let (done, closed) = oneshot::channel();
        let end = async {
            if self.0.commands.send(Command::Close(done)).await.is_ok() {
                let _ = closed.await;
            }
            self.0.shared.database.close().await;
        };
        if timeout(LAST_WAIT, end).await.is_err() {
            tracing::error!("the database didn't take the last reports in time");
        }
    }

    /// What time it is by the queue's clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.0.shared.settings.clock.now()
    }

    /// What this process has done.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        let tally = &self.0.shared.tally;
        QueueStats {
            batches: tally.batches.load(Ordering::Relaxed),
            orders: tally.orders.load(Ordering::Relaxed),
            failures: tally.failures.load(Ordering::Relaxed),
            dropped_reports: tally.dropped_reports.load(Ordering::Relaxed),
            unreadable_jobs: tally.unreadable_jobs.count(),
            unreadable_events: tally.unreadable_events.count(),
        }
    }

    /// Checks that jobs, tokens and events can be written, for readiness.
    ///
    /// # Errors
    /// The database cannot be reached or written, or the rights are missing.
    ///
    /// # Cancel safety
    /// May be dropped, as all that only reads.
    pub async fn check(&self) -> Result<(), QueueError> {
        let shared = self.shared();
        self.read(async move { Ok(shared.database.check(tidy::probes()).await?) })
            .await
    }

    /// A job by its number.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn get(&self, id: JobId) -> Result<Option<Job>, QueueError> {
        self.one(read::by_number(id.0)).await
    }

    /// The job that a token was given out for, whatever state it is in.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn by_token(&self, hash: &TokenHash) -> Result<Option<Job>, QueueError> {
        self.one(read::by_token(hash.as_str())).await
    }

    /// A job by what its caller calls it.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn by_request(&self, subject: &str, id: &str) -> Result<Option<Job>, QueueError> {
        self.one(read::by_request(subject, id)).await
    }

    /// The newest job of an upload (not of a part of one).
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn by_upload(&self, id: &UploadId) -> Result<Option<Job>, QueueError> {
        self.one(read::by_upload(id.as_str())).await
    }

    /// Some jobs, by number; a thousand at most.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn list(&self, query: &Query) -> Result<Page, QueueError> {
        let (shared, query) = (self.shared(), query.clone());
        self.read(async move { read::list(&shared, &query).await })
            .await
    }

    /// Binds an upload that is about to be created to a job, or a part of one. Of several uploads, one
    /// is bound.
    ///
    /// # Errors
    /// The database failed or is slow; try again.
    ///
    /// # Cancel safety
    /// Dropped, it may have bound the upload: the same start again succeeds.
    pub async fn start(&self, job: JobId, start: Start) -> Result<Started, QueueError> {
        self.write(Bind { job, start }, Command::Do).await
    }

    /// The upload that is bound to a job, and the digest of what its creation asked for.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn bound(&self, id: JobId) -> Result<Option<(UploadId, String)>, QueueError> {
        let record = self.record(read::by_number(id.0)).await?;
        Ok(record.and_then(|record| {
            let upload = UploadId::new(record.job.upload_id.as_deref()?).ok()?;
            Some((upload, record.digest.unwrap_or_default()))
        }))
    }

    /// A job for an upload that came without a grant, so that it can be followed. The same upload
    /// has the same job.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// Dropped, it may have made the job; the same upload finds it.
    pub async fn follow(&self, upload: &Upload) -> Result<JobId, QueueError> {
        self.write(Follow::new(upload), Command::Do).await
    }

    /// Reports how far an upload is; never waits. The first report of a job is written at once, later
    /// ones every ten seconds (every second where the application receives progress), and all of them
    /// before its end. Callers of this process see them at once. Reports that a crash loses are found
    /// in the store.
    pub fn report(&self, report: Report) {
        self.0.shared.reports.add(report);
    }

    /// Stores how a job ends if its upload is found to be gone: before an upload is removed, so that a
    /// crash does not hide the reason. Bytes that are stored afterwards clear it; for a completion it
    /// does nothing, since only stored bytes prove one.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// Dropped, it may have been stored.
    pub async fn set_ending(&self, job: JobId, end: End) -> Result<(), QueueError> {
        let order = |order| Command::AfterReports(job, false, order);
        self.write(SetEnding { job, end }, order).await
    }

    /// Returns the newest job of an upload, and its [stored end](Self::set_ending), unless it has ended.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn running(&self, id: &UploadId) -> Result<Option<(Job, Option<End>)>, QueueError> {
        let record = self.record(read::by_upload(id.as_str())).await?;
        let running = record.filter(|record| !record.job.state.is_terminal());
        Ok(running.map(|record| (record.job, record.ending)))
    }

    /// Ends a job unless it has ended; says whether this did it. What was reported of it is written
    /// before.
    ///
    /// # Errors
    /// The database failed or is slow; try again.
    ///
    /// # Cancel safety
    /// Dropped, it may have ended the job.
    pub async fn end(&self, job: JobId, end: End) -> Result<bool, QueueError> {
        let order = |order| Command::AfterReports(job, true, order);
        self.write(Finish { job, end }, order).await
    }

    /// All uploads bound to a job: its parts and its upload.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn uploads_of(&self, id: JobId) -> Result<Vec<UploadId>, QueueError> {
        let shared = self.shared();
        self.read(async move { read::uploads_of(&shared, id.0).await })
            .await
    }

    /// Returns running jobs by the minute of their last update, a page at a time: those behind `after`; a
    /// thousand at most.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn stale_jobs(
        &self,
        filter: StaleFilter,
        after: Option<&Job>,
        limit: usize,
    ) -> Result<Vec<StaleJob>, QueueError> {
        let shared = self.shared();
        let after = after.map(|job| (time::millis(job.updated_at) / time::MINUTE, job.id.0));
        self.read(async move { read::stale_jobs(&shared, filter, after, limit).await })
            .await
    }

    /// Expires grants that weren't used in time, removes what is older than it is kept; says how many
    /// jobs of each. Several processes may do this at a time.
    ///
    /// # Errors
    /// The database failed or is slow; the next time does the rest.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn tidy(&self) -> Result<(u64, u64), QueueError> {
        let expired = self.expire_grants().await?.count;
        let shared = self.shared();
        let removed = self.at_home(async move { tidy::remove(&shared).await });
        Ok((expired, removed.await?))
    }

    /// Events after a number, oldest first; a thousand at most. Progress is not among them.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn events(
        &self,
        scope: &Scope,
        after: i64,
        limit: usize,
    ) -> Result<Vec<JobEvent>, QueueError> {
        let (shared, scope) = (self.shared(), scope.clone());
        self.read(async move { read::events(&shared, &scope, after, limit).await })
            .await
    }

    /// Reads the events of a scope after a number, then those that come, with the progress of the uploads
    /// of this node.
    #[must_use]
    pub fn read_events(&self, scope: Scope, after: i64) -> EventReader {
        EventReader::new(self.clone(), scope, after)
    }

    /// The number of the newest event, changing when there are more: those of this process at once,
    /// those of others within half a second.
    #[must_use]
    pub fn newest(&self) -> channel::Receiver<i64> {
        let receiver = self.0.shared.newest.subscribe();
        self.0.shared.watched.notify_one();
        receiver
    }

    /// The number of the newest event of all processes at this moment; 0 if there was none yet.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn newest_now(&self) -> Result<i64, QueueError> {
        let shared = self.shared();
        self.read(async move { watch::newest(&shared).await }).await
    }

    /// The last number that an event may have: progress has numbers, too.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn last_number(&self) -> Result<i64, QueueError> {
        let shared = self.shared();
        self.read(async move { numbers::last_event(&shared.database).await })
            .await
    }

    /// Keeps a key.
    ///
    /// # Errors
    /// The database failed; there is a key with this hash.
    ///
    /// # Cancel safety
    /// Dropped, it may have kept the key.
    pub async fn add_key(&self, key: NewKey) -> Result<ApiKey, QueueError> {
        let shared = self.shared();
        self.read(async move { keys::add(&shared, &key).await })
            .await
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, QueueError> {
        let shared = self.shared();
        self.read(async move { keys::list(&shared).await }).await
    }

    /// Revokes the keys with this number or name; says how many.
    ///
    /// # Errors
    /// The database failed or is slow.
    ///
    /// # Cancel safety
    /// Dropped, it may have revoked them.
    pub async fn revoke_key(&self, which: &str) -> Result<u64, QueueError> {
        let (shared, which) = (self.shared(), which.to_owned());
        self.read(async move { keys::revoke(&shared, &which).await })
            .await
    }

    /// The key with this hash, unless its time is over. Its use is stored once a minute, later than
    /// this returns.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn key(&self, hash: &TokenHash) -> Result<Option<ApiKey>, QueueError> {
        let (shared, hash) = (self.shared(), hash.clone());
        self.read(async move { keys::find(&shared, &hash).await })
            .await
    }

    /// Jobs by state, and bytes.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn totals(&self) -> Result<Totals, QueueError> {
        let shared = self.shared();
        self.read(async move { read::totals(&shared).await }).await
    }

    /// What came in since a time, in the minutes in which something did, for a week at most.
    ///
    /// # Errors
    /// The database failed or is slow.
    pub async fn throughput(&self, since: SystemTime) -> Result<Vec<Throughput>, QueueError> {
        let shared = self.shared();
        self.read(async move { read::throughput(&shared, since).await })
            .await
    }

    async fn one(&self, statement: Statement) -> Result<Option<Job>, QueueError> {
        Ok(self.record(statement).await?.map(|record| record.job))
    }

    async fn record(&self, statement: Statement) -> Result<Option<Record>, QueueError> {
        let shared = self.shared();
        self.read(async move { read::record(&shared, statement).await })
            .await
    }
}
