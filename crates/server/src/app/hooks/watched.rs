//! A way to the application that is counted, timed and logged.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall_hooks::{DeliveryError, HookName, HookResponse, Message, Transport};

/// The bounds of the durations that are counted, in milliseconds.
pub(in crate::app) const BOUNDS_MS: [u64; 13] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000, 60_000,
];

/// What was done with messages of one name.
#[derive(Debug, Default)]
pub(in crate::app) struct Counts {
    /// Messages that were begun to be delivered.
    pub(in crate::app) begun: AtomicU64,
    /// Those that failed.
    pub(in crate::app) failed: AtomicU64,
    /// How long those that ended took in all, in microseconds.
    pub(in crate::app) micros: AtomicU64,
    /// How many of them took no longer than each of [`BOUNDS_MS`], and how many longer than all; each
    /// is counted once.
    pub(in crate::app) durations: [AtomicU64; BOUNDS_MS.len() + 1],
}

impl Counts {
    fn end(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
        let bucket = BOUNDS_MS.partition_point(|bound| bound * 1_000 < micros);
        self.durations[bucket].fetch_add(1, Relaxed);
    }
}

/// A transport, and what was done with it.
#[derive(Debug)]
pub(in crate::app) struct Watched {
    transport: Arc<dyn Transport>,
    counts: [Counts; HookName::ALL.len()],
    in_flight: AtomicU64,
    last: Mutex<Last>,
}

/// How the last delivery ended.
#[derive(Debug, Default)]
enum Last {
    #[default]
    None,
    Arrived,
    Failed(String),
}

impl Watched {
    pub(super) fn new(transport: impl Transport) -> Self {
        Self {
            transport: Arc::new(transport),
            counts: Default::default(),
            in_flight: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }

    /// Why the last delivery failed, if it did.
    #[cfg_attr(not(feature = "grants"), allow(dead_code))]
    pub(in crate::app) fn last_failure(&self) -> Option<String> {
        match &*self.last() {
            Last::Failed(why) => Some(why.clone()),
            Last::None | Last::Arrived => None,
        }
    }

    /// Whether a delivery ended so far.
    #[cfg_attr(not(feature = "grants"), allow(dead_code))]
    pub(in crate::app) fn was_called(&self) -> bool {
        !matches!(*self.last(), Last::None)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done with messages of this name.
    pub(in crate::app) fn counts(&self, name: HookName) -> &Counts {
        &self.counts[name as usize]
    }

    /// How many messages are being delivered.
    pub(in crate::app) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }
}

/// One delivery: it is over when this goes, also if nobody waits for it any more.
struct Delivery<'a>(&'a AtomicU64);

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[async_trait]
impl Transport for Watched {
    fn name(&self) -> &str {
        self.transport.name()
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let (transport, hook) = (self.name(), message.hook.as_str());
        let (id, event) = (message.upload.id.as_str(), message.id.as_str());
        let counts = self.counts(message.hook);
        counts.begun.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        let _delivery = Delivery(&self.in_flight);
        let begun = Instant::now();
        tracing::debug!(
            "type" = hook,
            id,
            transport,
            event_id = event,
            "HookInvocationStart"
        );
        let result = self.transport.deliver(message).await;
        counts.end(begun.elapsed());
        match &result {
            Ok(reaction) => {
                tracing::debug!(
                    "type" = hook,
                    id,
                    transport,
                    event_id = event,
                    "HookInvocationFinish"
                );
                *self.last() = Last::Arrived;
                if reaction.stop_upload && message.hook == HookName::PostReceive {
                    tracing::info!(id, transport, event_id = event, "HookStopUpload");
                }
            }
            Err(failure) => {
                counts.failed.fetch_add(1, Relaxed);
                let error = failure.error_chain();
                tracing::error!(
                    "type" = hook,
                    id,
                    error,
                    transport,
                    event_id = event,
                    "HookInvocationError"
                );
                *self.last() = Last::Failed(error);
            }
        }
        result
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        self.transport.check().await
    }
}

#[cfg(test)]
mod tests {
    use landfall_hooks::format::samples;

    use super::*;

    /// Fails every other time.
    #[derive(Debug, Default)]
    struct Flapping(AtomicU64);

    #[async_trait]
    impl Transport for Flapping {
        fn name(&self) -> &str {
            "flapping"
        }

        async fn deliver(&self, _message: &Message) -> Result<HookResponse, DeliveryError> {
            if self.0.fetch_add(1, Relaxed).is_multiple_of(2) {
                return Err(DeliveryError::with_source(
                    "no",
                    std::io::Error::other("really"),
                ));
            }
            Ok(HookResponse::default())
        }
    }

    #[tokio::test]
    async fn every_delivery_is_counted() {
        let watched = Watched::new(Flapping::default());
        let message = samples().swap_remove(0);
        for _ in 0..5 {
            let _ = watched.deliver(&message).await;
        }
        let counts = watched.counts(message.hook);
        assert_eq!(counts.begun.load(Relaxed), 5);
        assert_eq!(counts.failed.load(Relaxed), 3);
        let ended: u64 = counts
            .durations
            .iter()
            .map(|count| count.load(Relaxed))
            .sum();
        assert_eq!((ended, watched.in_flight()), (5, 0));
        // Dropped before its end, it isn't in flight any more.
        drop(watched.deliver(&message));
        assert_eq!(watched.in_flight(), 0);
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let counts = Counts::default();
        for (took, bucket) in [
            (0, 0),
            (1_000, 0),
            (1_001, 1),
            (60_000_000, 12),
            (60_000_001, 13),
        ] {
            let before = counts.durations[bucket].load(Relaxed);
            counts.end(Duration::from_micros(took));
            assert_eq!(counts.durations[bucket].load(Relaxed), before + 1, "{took}");
        }
    }
}
