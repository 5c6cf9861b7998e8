//! The upload queue: each upload has a job, as with a dashboard, and jobs that a crash left behind are reconciled.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use landfall::{
    Config, Handler,
    hook::{CreateDecision, IdempotencyError, IdempotencyKey},
    upload::{Upload, UploadId},
};
use landfall_state::{
    queue::{
        JobState, Queue, QueueError, QueueSettings, StaleFilter,
        tracking::{JobTracker, labels, reconcile},
    },
    sql::{Clock, Connections, Database},
};
use tokio::time::sleep;

/// As in the server.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(10);
const STALE_AFTER: Duration = Duration::from_secs(15);

/// Opens the queue in a database.
pub(crate) async fn open(database: Connections, clock: Clock) -> Result<Queue, QueueError> {
    let mut settings = QueueSettings::new(Database::Sqlite("unused".into()));
    settings.connections = Some(database);
    settings.clock = clock;
    Queue::open(settings).await
}

/// Gives each upload of a handler a job.
pub(crate) fn track(config: Config, queue: &Queue) -> Config {
    let own = queue.clone();
    let hook = move |_, _| {
        let mut creation = CreateDecision::allow();
        creation.idempotency = Some(Arc::new(Tracked(own.clone())));
        async { Ok(creation) }
    };
    config
        .before_create(hook)
        .sink(JobTracker::new(queue.clone()))
}

#[derive(Debug)]
struct Tracked(Queue);

#[async_trait]
impl IdempotencyKey for Tracked {
    fn key(&self) -> Option<&UploadId> {
        None
    }

    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError> {
        Ok(None)
    }

    async fn store_id(&self, upload: &mut Upload) -> Result<Option<UploadId>, IdempotencyError> {
        let job = self.0.track(upload, None).await;
        let job = job.map_err(|error| IdempotencyError::Failed(error.into()))?;
        upload.labels.insert(labels::JOB.into(), job.to_string());
        Ok(None)
    }
}

/// Compares stale jobs with the store, again and again.
pub(crate) async fn reconcile_all(queue: Queue, handler: Handler) {
    loop {
        sleep(RECONCILE_INTERVAL).await;
        let before = queue.now().checked_sub(STALE_AFTER).unwrap_or(UNIX_EPOCH);
        let filter = StaleFilter {
            before,
            since: UNIX_EPOCH,
        };
        // The next one finds what this one could not check.
        let _ = reconcile(&queue, &handler, filter).await;
    }
}

/// Returns the problem of the job of an upload that is complete.
pub(crate) async fn problem(queue: &Queue, id: &UploadId, length: u64) -> Option<String> {
    match queue.by_upload(id).await {
        Ok(Some(job)) if job.state == JobState::Completed && job.offset == length => None,
        Ok(Some(job)) => Some(format!("{:?} at {}", job.state, job.offset)),
        Ok(None) => Some("missing".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
