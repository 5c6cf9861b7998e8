//! The number of the newest event, also of other processes' events.

use std::{sync::Arc, time::Duration};

use landfall_database::Statement;
use tokio::{sync::watch, time::sleep};

use super::Shared;

/// How often it is looked for other processes' events, while somebody watches.
const INTERVAL: Duration = Duration::from_millis(250);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks for events until the queue is closed.
pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let look = async {
        loop {
            if shared.newest.receiver_count() == 0 {
                shared.watched.notified().await;
            }
            let pause = match newest(&shared).await {
                Ok(number) => {
                    shared.saw(number);
                    INTERVAL
                }
                Err(error) => {
                    tracing::debug!(%error, "the queue's events can't be watched");
                    PAUSE
                }
            };
            sleep(pause).await;
        }
    };
    tokio::select! {
        () = look => {}
        _ = closing.wait_for(|is_closing| *is_closing) => {}
    }
}

/// Reads the number of the newest event.
pub(super) async fn newest(shared: &Shared) -> Result<i64, super::QueueError> {
    let statement = Statement::new("SELECT COALESCE(MAX(number), 0) FROM queue_events");
    let rows = shared.database.read(statement).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.number(0))?)
}
