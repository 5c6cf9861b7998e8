//! Wraps a transport: counts, times, logs and traces its deliveries, and allows a reload to replace it.
//!
//! Results are passed on unchanged, and nothing is retried. A replacement affects later calls only, and keeps name,
//! headers and counters. The lock of the transport is not held during a call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use landfall_hooks::{
    DeliveryError, EventHeaders, HookName, HookResponse, Message, Transport, error_chain,
};
use parking_lot::{Mutex, RwLock};

use crate::app::cached_probe::PROBE_TIMEOUT;
#[cfg(feature = "full")]
use crate::trace;

pub(in crate::app) const BOUNDS_MS: [u64; 13] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000, 60_000,
];

#[derive(Debug, Default)]
pub(in crate::app) struct HookCounters {
    pub(in crate::app) started: AtomicU64,
    pub(in crate::app) failed: AtomicU64,
    pub(in crate::app) micros: AtomicU64,
    /// Finished deliveries by duration: one bucket per bound of [`BOUNDS_MS`], and one above.
    pub(in crate::app) durations: [AtomicU64; BOUNDS_MS.len() + 1],
}

impl HookCounters {
    fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
        let bucket = BOUNDS_MS.partition_point(|bound| bound * 1_000 < micros);
        self.durations[bucket].fetch_add(1, Relaxed);
    }
}

#[derive(Debug)]
pub(in crate::app) struct InstrumentedTransport {
    name: String,
    headers: EventHeaders,
    transport: RwLock<Arc<dyn Transport>>,
    counters: [HookCounters; HookName::ALL.len()],
    in_flight: AtomicU64,
    last_delivery: Mutex<Option<Result<(), String>>>,
    /// The ignored part of the last response that had one, until it is taken.
    ignored: Mutex<Option<String>>,
    /// Why the last [check](Transport::check) failed.
    check_error: Mutex<Option<String>>,
}

impl InstrumentedTransport {
    /// These headers are sent with events, see [`Transport::event_headers`].
    pub(super) fn new(transport: impl Transport, headers: EventHeaders) -> Self {
        Self {
            name: transport.name().to_owned(),
            headers,
            transport: RwLock::new(Arc::new(transport)),
            counters: Default::default(),
            in_flight: AtomicU64::new(0),
            last_delivery: Mutex::default(),
            ignored: Mutex::default(),
            check_error: Mutex::default(),
        }
    }

    /// Delivers with the transport of `other` from now on.
    pub(super) fn replace(&self, other: &Self) {
        *self.transport.write() = other.transport.read().clone();
    }

    /// Returns why the last call or check failed.
    pub(in crate::app) fn last_error(&self) -> Option<String> {
        let check = || self.check_error.lock().clone();
        let last = self.last_delivery.lock().clone();
        last.and_then(Result::err).or_else(check)
    }

    /// Returns the ignored part of a response, once.
    pub(in crate::app) fn take_ignored(&self) -> Option<String> {
        self.ignored.lock().take()
    }

    pub(in crate::app) fn was_called(&self) -> bool {
        self.last_delivery.lock().is_some()
    }

    pub(in crate::app) fn counters(&self, name: HookName) -> &HookCounters {
        &self.counters[name as usize]
    }

    pub(in crate::app) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }
}

/// Counts until dropped, even if the delivery's future was cancelled.
struct InFlightGuard<'a>(&'a AtomicU64);

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[async_trait]
impl Transport for InstrumentedTransport {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        #[cfg(feature = "full")]
        if let Some((span, message)) = trace::delivery(&self.name, message) {
            return trace::run(&span, self.deliver_counted(&message)).await;
        }
        self.deliver_counted(message).await
    }

    fn event_headers(&self) -> EventHeaders {
        self.headers.clone()
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        let current = self.transport.read().clone();
        // Here, so that the end of the wait is recorded, too.
        let checked = tokio::time::timeout(PROBE_TIMEOUT, current.check()).await;
        let checked = checked.unwrap_or_else(|_| {
            let text = format!("no response within {PROBE_TIMEOUT:?}");
            Err(DeliveryError::new(text))
        });
        *self.check_error.lock() = checked.as_ref().err().map(|error| error_chain(error));
        checked
    }
}

impl InstrumentedTransport {
    async fn deliver_counted(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let (transport, hook) = (self.name(), message.hook.as_str());
        let (id, event_id) = (message.upload.id.as_str(), message.id.as_str());
        let counters = self.counters(message.hook);
        counters.started.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        let _guard = InFlightGuard(&self.in_flight);
        let started = Instant::now();
        tracing::debug!(
            "type" = hook,
            id,
            transport,
            event_id,
            "HookInvocationStart"
        );
        let current = self.transport.read().clone();
        let result = current.deliver(message).await;
        counters.record(started.elapsed());
        match &result {
            Ok(reaction) => {
                tracing::debug!(
                    "type" = hook,
                    id,
                    transport,
                    event_id,
                    "HookInvocationFinish"
                );
                *self.last_delivery.lock() = Some(Ok(()));
                *self.check_error.lock() = None;
                if let Some(ignored) = reaction.ignored_in(message.hook) {
                    *self.ignored.lock() = Some(ignored);
                }
            }
            Err(failure) => {
                counters.failed.fetch_add(1, Relaxed);
                let error = error_chain(&failure);
                // A failed notification is logged by its sender, with the time of the next attempt.
                if message.hook.is_blocking() {
                    tracing::error!(
                        "type" = hook,
                        id,
                        error,
                        transport,
                        event_id,
                        "HookInvocationError"
                    );
                }
                *self.last_delivery.lock() = Some(Err(error));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use landfall_hooks::{
        RequestData, UploadData,
        http::{Http, HttpSettings},
    };

    use super::*;

    /// A transport that fails every other time.
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
        let transport = InstrumentedTransport::new(Flapping::default(), EventHeaders::default());
        let message = Message {
            id: "m".to_owned(),
            sequence: 1,
            at: std::time::UNIX_EPOCH,
            hook: HookName::PostFinish,
            intent: None,
            upload: UploadData::default(),
            request: RequestData::default(),
            job: None,
            trace: None,
        };
        for _ in 0..5 {
            let _ = transport.deliver(&message).await;
        }
        let counters = transport.counters(message.hook);
        assert_eq!(counters.started.load(Relaxed), 5);
        assert_eq!(counters.failed.load(Relaxed), 3);
        let ended: u64 = counters
            .durations
            .iter()
            .map(|count| count.load(Relaxed))
            .sum();
        assert_eq!((ended, transport.in_flight()), (5, 0));
        // A cancelled delivery is not in flight.
        drop(transport.deliver(&message));
        assert_eq!(transport.in_flight(), 0);
    }

    /// The dashboard would show it as healthy otherwise.
    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_accepts_and_never_answers_fails_its_check() {
        let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", receiver.local_addr().unwrap());
        let http = Http::new(HttpSettings::new(&url)).unwrap();
        let transport = InstrumentedTransport::new(http, EventHeaders::default());
        let wait = PROBE_TIMEOUT + Duration::from_millis(1);
        let _ = tokio::time::timeout(wait, transport.check()).await;
        assert_eq!(
            transport.last_error().as_deref(),
            Some("no response within 4s")
        );
        assert!(!transport.was_called());
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let counters = HookCounters::default();
        for (took, bucket) in [
            (0, 0),
            (1_000, 0),
            (1_001, 1),
            (60_000_000, 12),
            (60_000_001, 13),
        ] {
            let before = counters.durations[bucket].load(Relaxed);
            counters.record(Duration::from_micros(took));
            assert_eq!(
                counters.durations[bucket].load(Relaxed),
                before + 1,
                "{took}"
            );
        }
    }
}
