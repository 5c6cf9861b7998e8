//! An answer that is asked for often and found out seldom.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(3);

/// How long finding out may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Whether something is well, asked at most once in a while however many want to know: those who
/// come while somebody asks wait for his answer.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    known: Mutex<Option<(Instant, bool)>>,
}

impl Fresh {
    /// The answer, by `find_out` if the last one is too old. None in time counts as no.
    pub(super) async fn ask(&self, find_out: impl AsyncFnOnce() -> bool) -> bool {
        let mut known = self.known.lock().await;
        if let Some((when, well)) = *known
            && when.elapsed() < GOOD_FOR
        {
            return well;
        }
        let well = tokio::time::timeout(PATIENCE, find_out())
            .await
            .unwrap_or(false);
        *known = Some((Instant::now(), well));
        well
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn many_who_ask_are_one_question() {
        let fresh = Fresh::default();
        let asked = AtomicU32::new(0);
        let ask = || {
            fresh.ask(async || {
                asked.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
                true
            })
        };
        let (one, two) = tokio::join!(ask(), ask());
        assert!(one && two && ask().await);
        assert_eq!(asked.load(Relaxed), 1);
    }
}
