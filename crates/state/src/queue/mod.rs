//! The upload queue of Landfall: who may upload what, and the state of each upload.
//!
//! A [`Job`] is a row of the [`Queue`]: one granted or tracked upload and its state. A *grant* is
//! permission for one upload, carried by a single-use upload [`Token`], whose hash alone is
//! stored. Policies ([`policy`]) restrict the [`GrantLimits`] of a [`Principal`] before a grant.
//!
//! The queue does not serve HTTP: the APIs are `landfall-access` and `landfall-direct`. It is tables
//! and one writer (`src/writer`) per process: in a transaction, rows are read, changed in
//! memory by rules that know no SQL, and written. All that a transition changes is written with it:
//! quota, counts, the event and its deliveries in the outbox. On PostgreSQL, transactions of several
//! nodes lock rows in one order, so a final state stays and no quota is exceeded.
//!
//! Invariants: one upload is bound to a job; a job ends once; only the store proves a completion;
//! events are read in the order of their numbers and none appears behind a reader, although nodes commit them in any
//! order (`numbers.rs`).
//!
//! Progress is in memory and written every few seconds; readers of the node see it at once, other
//! nodes once a second. [`tracking`] connects uploads with their jobs: its sink writes the end of a
//! job before the application receives the event, and reconciliation compares running jobs with the
//! store after a crash.
//!
//! Start reading at `job.rs`, `unit_of_work.rs` and `transition.rs`.

mod commands;
mod event_channels;
mod feed;
mod grant;
mod job;
mod keys;
mod limits;
mod links;
mod list;
mod load;
mod numbers;
#[cfg(feature = "postgres")]
mod peers;
pub mod policy;
mod principal;
mod purge;
mod read;
mod record;
mod reports;
mod save;
mod settings;
mod shared;
mod start;
#[cfg(test)]
mod tests;
mod token;
pub mod tracking;
mod transition;
mod types;
mod unit_of_work;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::{
    removal::{AgreedTime, ClockMemory},
    upload::{Upload, UploadId},
};
use tokio::{sync::watch as channel, time::timeout};

pub use landfall_hooks::contains_secret;

use self::{
    commands::{Command, Writer},
    record::Record,
    shared::Shared,
    unit_of_work::RequiredRows,
};
pub use self::{
    event_channels::SharedEvent,
    feed::EventReader,
    job::{Job, JobEvent, JobEventKind, JobId, JobState},
    limits::{GrantLimits, InvalidRate, RateLimit, is_type_pattern},
    links::{NewLink, UploadLink},
    principal::{Principal, is_subject},
    purge::ExpiredGrants,
    settings::{QueueError, QueueSettings},
    shared::QueueStats,
    token::{Token, TokenHash, is_secret},
    types::{
        ApiKey, Completion, GrantOutcome, JobEnd, LimitExceeded, NewJob, NewKey, Page, Query,
        Report, Scope, StaleFilter, StaleJob, StartOutcome, StartRequest, Throughput,
        ThroughputQuery, Totals,
    },
};
use crate::{
    sql::{Connections, DatabaseError, Durability, Migration, Row, Statement, expand},
    writer::{self, Commands},
};

const TABLES: &str = "queue";
const MIGRATIONS: &[Migration] = &[
    expand!("0001-queue"),
    Migration::expand(
        // One process uses it.
        "",
        include_str!("../../migrations/0002-tasks.postgres.sql"),
    ),
    expand!("0003-links"),
    expand!("0004-client"),
];
/// Milliseconds.
const MINUTE: i64 = 60_000;
const TIMEOUT: Duration = Duration::from_secs(10);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Migrates the tables of the queue to this version.
///
/// # Errors
/// See [`Connections::migrate`].
///
/// # Cancel safety
/// If it is dropped, all or no migrations are applied.
pub async fn migrate(database: &Connections) -> Result<(), DatabaseError> {
    database.migrate(TABLES, MIGRATIONS).await
}

/// The upload queue. Cheap to clone; several processes may share its database.
///
/// It may be used from any runtime. Its connections belong to the runtime that opened it, which
/// must run as long as the queue is used.
///
/// # Errors
/// All methods fail if the database fails, or does not respond within ten seconds.
///
/// # Cancel safety
/// Methods that only read may be dropped. A write that failed or was dropped may have taken effect:
/// the same call, repeated, finds it.
#[derive(Debug, Clone)]
pub struct Queue(Arc<QueueRuntime>);

#[derive(Debug)]
struct QueueRuntime {
    shared: Arc<Shared>,
    commands: Commands<Command>,
    closing: channel::Sender<bool>,
}

impl Drop for QueueRuntime {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}

impl Queue {
    /// Opens the database and migrates its tables.
    ///
    /// The connections and the writer task belong to the current runtime.
    ///
    /// # Errors
    /// The database cannot be opened, or its schema is newer than this version.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub async fn open(mut settings: QueueSettings) -> Result<Self, QueueError> {
        let database = match &settings.connections {
            Some(open) => open.clone(),
            None => settings.database.open(Durability::PowerLoss).await?,
        };
        migrate(&database).await?;
        if !settings.clock.is_custom() {
            settings.clock = database.clock().clone();
        }
        let shared = Arc::new(Shared::new(settings, database));
        shared.observe(feed::newest_number(&shared).await?);
        if let Some(at) = purge::newest_time(&shared).await? {
            shared.removal_clock.recall(ClockMemory::last_used(at));
        }
        let (commands, requests) = Commands::channel();
        let (closing, is_closing) = channel::channel(false);
        let gathers = shared.database.is_postgres();
        let writer = || Writer(shared.clone());
        tokio::spawn(writer::run(writer(), gathers, requests));
        tokio::spawn(writer().run_progress(is_closing.clone()));
        #[cfg(feature = "postgres")]
        if shared.database.is_postgres() {
            tokio::spawn(peers::run(shared.clone(), is_closing.clone()));
        }
        tokio::spawn(feed::run(shared.clone(), is_closing));
        Ok(Self(Arc::new(QueueRuntime {
            shared,
            commands,
            closing,
        })))
    }

    /// Writes pending progress and closes the database. Later calls fail with
    /// [`QueueError::Closed`].
    ///
    /// # Cancel safety
    /// Safe to drop; reconciliation finds progress that is not written.
    pub async fn close(&self) {
        self.0.closing.send_replace(true);
        let end = async {
            self.0.commands.close().await;
            self.0.shared.database.close().await;
        };
        if timeout(SHUTDOWN_TIMEOUT, end).await.is_err() {
            tracing::error!("failed to write the last progress reports before shutdown");
        }
    }

    /// Returns the time up to which rows and uploads may be removed because they are old.
    pub fn agreed_time(&self) -> AgreedTime {
        self.0.shared.removal_clock.now()
    }

    /// Returns the time of the queue's clock.
    pub fn now(&self) -> SystemTime {
        self.0.shared.settings.clock.now()
    }

    /// Returns how long grants are valid.
    pub fn valid_for(&self) -> Duration {
        self.0.shared.settings.valid_for
    }

    /// Returns the counters of this process.
    pub fn stats(&self) -> QueueStats {
        let shared = &self.0.shared;
        QueueStats {
            unreadable_jobs: shared.unreadable_jobs.count(),
            unreadable_events: shared.unreadable_events.count(),
            ..*shared.counters.lock()
        }
    }

    /// Checks that jobs, tokens and events can be written, for readiness.
    ///
    /// # Errors
    /// The database cannot be reached or written, or privileges are missing.
    pub async fn check(&self) -> Result<(), QueueError> {
        self.read(|shared| async move { Ok(shared.database.check(purge::probes()).await?) })
            .await
    }

    /// Returns the job with this number.
    pub async fn get(&self, id: JobId) -> Result<Option<Job>, QueueError> {
        self.fetch_job(read::by_number(id.0)).await
    }

    /// Returns the job that a token was issued for, in any state.
    pub async fn by_token(&self, hash: &TokenHash) -> Result<Option<Job>, QueueError> {
        self.fetch_job(read::by_token(hash.as_str())).await
    }

    /// Returns the job with this request id of the subject.
    pub async fn by_request(&self, subject: &str, id: &str) -> Result<Option<Job>, QueueError> {
        self.fetch_job(read::by_request(subject, id)).await
    }

    /// Returns the newest job of an upload. Partial uploads are not considered.
    pub async fn by_upload(&self, id: &UploadId) -> Result<Option<Job>, QueueError> {
        self.fetch_job(read::by_upload(id.as_str())).await
    }

    /// Returns a page of jobs by number; at most 1000.
    pub async fn list(&self, query: &Query) -> Result<Page, QueueError> {
        let query = query.clone();
        self.read(|shared| async move { list::list(&shared, &query).await })
            .await
    }

    /// Binds an upload, or a partial upload, to a job before it is created. At most one upload is
    /// bound.
    pub async fn start(&self, job: JobId, start: StartRequest) -> Result<StartOutcome, QueueError> {
        let needs = match start.is_part {
            true => RequiredRows::JobWithParts(job),
            false => RequiredRows::Job(job),
        };
        self.write(None, needs, move |work| work.start(job.0, &start))
            .await
    }

    /// Returns the upload that is bound to a job and the fingerprint of its creation.
    pub async fn bound_upload(&self, id: JobId) -> Result<Option<(UploadId, String)>, QueueError> {
        let record = self.fetch_record(read::by_number(id.0)).await?;
        Ok(record.and_then(|record| {
            let upload = UploadId::new(record.job.upload_id.as_deref()?).ok()?;
            Some((upload, record.upload_fingerprint.unwrap_or_default()))
        }))
    }

    /// Creates a job that tracks an upload without a grant, of the client with this address. The same upload has the
    /// same job.
    pub async fn track(
        &self,
        upload: &Upload,
        client: Option<IpAddr>,
    ) -> Result<JobId, QueueError> {
        let needs = RequiredRows::Upload(upload.id.to_string());
        let (mut job, created) = (start::job_of(upload, self.now()), upload.created);
        job.client = client;
        self.write(None, needs, move |work| work.track(&job, created))
            .await
    }

    /// Reports the progress of an upload without waiting.
    ///
    /// The first report of a job is written at once, later ones every ten seconds (every second if
    /// the application receives progress), and all of them before its end. Reads in this process
    /// include unwritten reports. Reconciliation restores reports that are lost in a crash.
    pub fn report(&self, report: Report) {
        self.0.shared.reports.add(report);
    }

    /// Prepares the end of a job, before its upload is removed.
    ///
    /// If the process crashes and the upload is gone, the job ends so. A later increase of
    /// the offset clears the prepared end. Completions are not prepared, since only stored bytes
    /// prove one.
    pub async fn prepare_end(&self, job: JobId, end: JobEnd) -> Result<(), QueueError> {
        let (after, needs) = (Some((job, false)), RequiredRows::Job(job));
        self.write(after, needs, move |work| work.prepare_end(job.0, &end))
            .await
    }

    /// Returns the newest job of an upload and its [prepared end](Self::prepare_end), if it is running or completed.
    pub async fn stored_job(
        &self,
        id: &UploadId,
    ) -> Result<Option<(Job, Option<JobEnd>)>, QueueError> {
        let record = self.fetch_record(read::by_upload(id.as_str())).await?;
        let stored = record.filter(|record| {
            !record.job.state.is_terminal() || record.job.state == JobState::Completed
        });
        Ok(stored.map(|record| (record.job, record.prepared_end)))
    }

    /// Ends a job after writing its reported progress. Returns whether this call ended it.
    pub async fn finish(&self, job: JobId, end: JobEnd) -> Result<bool, QueueError> {
        let (after, needs) = (Some((job, true)), RequiredRows::Job(job));
        self.write(after, needs, move |work| work.finish(job.0, &end))
            .await
    }

    /// Returns the events after a number, oldest first; at most 1000. Progress is not among them.
    ///
    /// An event is returned once no event with a lower number can appear.
    pub async fn events(
        &self,
        scope: &Scope,
        after: i64,
        limit: usize,
    ) -> Result<Vec<JobEvent>, QueueError> {
        let scope = scope.clone();
        self.read(|shared| async move {
            let until = numbers::horizon(&shared).await?;
            read::events(&shared, &scope, after, until, limit).await
        })
        .await
    }

    /// Reads the stored events after a number, then new ones and the progress of uploads.
    pub fn read_events(&self, scope: Scope, after: i64) -> EventReader {
        EventReader::new(self.clone(), scope, after)
    }

    /// Returns the number of the latest [event](Self::events) of all processes; 0 without events.
    pub async fn latest_event(&self) -> Result<i64, QueueError> {
        self.read(|shared| async move { feed::newest_number(&shared).await })
            .await
    }

    /// Returns the last event number that was assigned, perhaps to an event that cannot be read yet.
    pub async fn last_event_number(&self) -> Result<i64, QueueError> {
        self.read(|shared| async move { numbers::last_event(&shared.database).await })
            .await
    }

    /// Returns the totals over all jobs.
    pub async fn totals(&self) -> Result<Totals, QueueError> {
        self.read(|shared| async move { read::totals(&shared).await })
            .await
    }

    async fn fetch_job(&self, statement: Statement) -> Result<Option<Job>, QueueError> {
        Ok(self.fetch_record(statement).await?.map(|record| record.job))
    }

    async fn fetch_record(&self, statement: Statement) -> Result<Option<Record>, QueueError> {
        self.check_open()?;
        read::record(&self.0.shared, statement).await
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<Row>, QueueError> {
        self.read(|shared| async move { Ok(shared.database.read(statement).await?) })
            .await
    }

    async fn read<T: Send + 'static, F>(
        &self,
        read: impl FnOnce(Arc<Shared>) -> F,
    ) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>> + Send + 'static,
    {
        self.check_open()?;
        let shared = &self.0.shared;
        shared.database.run_in_time(read(shared.clone())).await
    }

    fn check_open(&self) -> Result<(), QueueError> {
        match *self.0.closing.borrow() {
            true => Err(QueueError::Closed),
            false => Ok(()),
        }
    }
}
