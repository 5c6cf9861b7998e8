use std::{sync::Arc, time::Duration};

use landfall_database::Statement;
use tokio::{sync::watch, time::sleep};

use super::Shared;

/// For events of other processes, while there are watchers.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const RETRY_DELAY: Duration = Duration::from_secs(2);

pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let poll = async {
        loop {
            if shared.newest.receiver_count() == 0 {
                shared.watched.notified().await;
            }
            let delay = match newest(&shared).await {
                Ok(number) => {
                    shared.observe(number);
                    POLL_INTERVAL
                }
                Err(error) => {
                    tracing::debug!(%error, "failed to poll for new events");
                    RETRY_DELAY
                }
            };
            sleep(delay).await;
        }
    };
    tokio::select! {
                () = poll => {}
        _ = closing.wait_for(|is_closing| *is_closing) => {}
    }
}

pub(super) async fn newest(shared: &Shared) -> Result<i64, super::QueueError> {
    let rows = shared.database.read(newest_event()).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.number(0))?)
}

pub(super) fn newest_event() -> Statement {
    Statement::new("SELECT COALESCE(MAX(number), 0) FROM queue_events")
}
