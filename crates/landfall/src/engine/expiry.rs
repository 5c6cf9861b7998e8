//! When an upload expires, and whether it has: one judgement for requests and sweeps.
//!
//! A clock that has stepped forward expires nothing before two clocks agree, see [`RemovalClock`]. So no client is told
//! 410 for an upload that a sweep would keep.

use std::time::{Duration, SystemTime};

use landfall_protocol::ProblemKind;
use tokio::sync::OnceCell;

use super::{Engine, Error, MOVED_LIFETIME};
use crate::{
    removal::{AgreedTime, ClockMemory, RemovalClock},
    store::{Enumerate, StoreError},
    upload::{Completion, Snapshot, Upload},
};

/// Of an upload whose URL nobody can know. An operator may find it, and tell it to its client.
const UNANNOUNCED_LIFETIME: Duration = Duration::from_secs(3600);

/// A clock that continues that of earlier processes with the same store.
#[derive(Debug, Default)]
pub(super) struct ExpiryClock {
    clock: RemovalClock,
    /// The memory of the store was read.
    recalled: OnceCell<()>,
}

impl From<RemovalClock> for ExpiryClock {
    fn from(clock: RemovalClock) -> Self {
        let recalled = OnceCell::new();
        Self { clock, recalled }
    }
}

impl ExpiryClock {
    /// Reads what the store remembers of earlier processes, once.
    pub(super) async fn recall(&self, enumerator: &dyn Enumerate) -> Result<(), StoreError> {
        let recall = async || {
            let memory = enumerator.load_clock().await?;
            memory.inspect(|memory| self.clock.recall(*memory));
            Ok(())
        };
        self.recalled.get_or_try_init(recall).await.map(drop)
    }

    /// As far as it was [recalled](Self::recall).
    pub(super) fn now(&self) -> AgreedTime {
        self.clock.now()
    }

    pub(super) fn memory(&self) -> ClockMemory {
        self.clock.memory()
    }

    pub(super) fn doubted_step(&self) -> Option<Duration> {
        self.clock.doubted_step()
    }

    /// Returns the time after which `at` has come, at the earliest.
    pub(super) fn time_until(&self, at: SystemTime) -> Duration {
        match at.duration_since(SystemTime::now()) {
            // Without the lock, since nearly all come later.
            Ok(left) if !left.is_zero() => left,
            _ => self.clock.time_until(at),
        }
    }
}

impl Engine {
    pub(crate) fn expiry(
        &self,
        upload: &Upload,
        offset: u64,
        modified: SystemTime,
    ) -> Option<SystemTime> {
        let is_finished = upload.is_finished_at(offset);
        let at = if upload.moved_to.is_some() {
            let lifetime = self.config.lifetimes.unfinished;
            modified.checked_add(lifetime.unwrap_or(MOVED_LIFETIME))
        } else if is_finished {
            modified.checked_add(self.config.lifetimes.finished?)
        } else if upload.expires.is_some() {
            upload.expires
        } else if upload.created_by_tusd {
            None
        } else {
            let lifetime = self.config.lifetimes.unfinished?;
            modified.checked_add(match upload.unannounced {
                true => lifetime.min(UNANNOUNCED_LIFETIME),
                false => lifetime,
            })
        };
        at.and_then(whole_second)
    }

    pub(crate) fn expiry_of(&self, snapshot: &Snapshot) -> Option<SystemTime> {
        self.expiry(&snapshot.upload, snapshot.offset, snapshot.modified)
    }

    pub(super) async fn has_expired(&self, snapshot: &Snapshot) -> Result<bool, StoreError> {
        let expires = self.expiry_of(snapshot);
        self.is_past(expires).await
    }

    /// Returns when it expires. A client that asks for a denied upload gets the response of the hook that denied it.
    pub(super) async fn check_usable(
        &self,
        snapshot: &Snapshot,
    ) -> Result<Option<SystemTime>, Error> {
        let expires = self.expiry_of(snapshot);
        if self.is_past(expires).await? {
            return Err(ProblemKind::Gone.into());
        }
        match &snapshot.upload.completion {
            Completion::Denied(response) => {
                let response = Box::new((**response).clone());
                Err(Error::Rejected(ProblemKind::Rejected, response))
            }
            _ => Ok(expires),
        }
    }

    async fn is_past(&self, expires: Option<SystemTime>) -> Result<bool, StoreError> {
        // The wall clock is never behind the agreed time, and reading it costs little.
        let Some(at) = expires.filter(|at| *at <= SystemTime::now()) else {
            return Ok(false);
        };
        if let Some(enumerator) = self.composer.enumerator() {
            // Boxed because it is rare: the largest branch sets the size of every request's future.
            Box::pin(self.expiry_clock.recall(enumerator)).await?;
        }
        Ok(self.expiry_clock.now().has_reached(at))
    }

    /// Returns for how long an upload that expires at this time can be used at least.
    pub(crate) fn time_until_expiry(&self, at: SystemTime) -> Duration {
        self.expiry_clock.time_until(at)
    }

    /// Returns by how much the wall clock has stepped forward, while that is in doubt.
    pub(crate) fn doubted_clock_step(&self) -> Option<Duration> {
        self.expiry_clock.doubted_step()
    }
}

/// `Upload-Expires` has no fractions.
fn whole_second(at: SystemTime) -> Option<SystemTime> {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let fraction = u64::from(since.subsec_nanos() > 0);
    let seconds = Duration::from_secs(since.as_secs().checked_add(fraction)?);
    SystemTime::UNIX_EPOCH.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::{
        Composer, Config, Lifetimes,
        engine::RequestContext,
        removal::Reading,
        store::{MemoryStore, Store as _},
        upload::UploadId,
    };

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// An engine whose clock is that of this machine, less `behind`.
    async fn engine(reading: &Arc<Mutex<Reading>>) -> (Arc<Engine>, UploadId) {
        let store = MemoryStore::new();
        let mut config = Config::new(Composer::join(store.clone()));
        config.lifetimes = Lifetimes {
            unfinished: Some(7 * DAY),
            finished: Some(7 * DAY),
        };
        let mut engine = Engine::new(&config);
        let shared = reading.clone();
        let clock = RemovalClock::with_source(move || *shared.lock());
        engine.expiry_clock = Arc::new(clock.into());
        let mut upload = Upload::new(UploadId::random(), Some(5));
        // As if it got its last byte then.
        upload.expires = Some(reading.lock().wall + 7 * DAY);
        let id = upload.id.clone();
        store.create(upload).await.unwrap();
        (Arc::new(engine), id)
    }

    #[tokio::test]
    async fn a_step_of_the_clock_expires_nothing_for_requests_either() {
        let now = SystemTime::now();
        let reading = Arc::new(Mutex::new(Reading {
            wall: now - 8 * DAY,
            monotonic: DAY,
        }));
        let (engine, id) = engine(&reading).await;
        let usable = async || {
            let inspected = engine.inspect(RequestContext::NONE, &id).await;
            let found = engine.stored(&id).await.unwrap().unwrap();
            assert_eq!(
                engine.has_expired(&found).await.unwrap(),
                inspected.is_err()
            );
            inspected
        };
        // The last byte came four seconds ago.
        *reading.lock() = Reading {
            wall: now,
            monotonic: DAY + Duration::from_secs(4),
        };
        let (_, expires) = usable().await.unwrap();
        assert_eq!(engine.time_until_expiry(expires.unwrap()), DAY);
        assert_eq!(
            engine.doubted_clock_step().unwrap().as_secs(),
            8 * 86_400 - 4
        );
        // The step lasts.
        *reading.lock() = Reading {
            wall: now + DAY,
            monotonic: 2 * DAY + Duration::from_secs(4),
        };
        assert_eq!(
            usable().await.unwrap_err().problem().kind,
            ProblemKind::Gone
        );
        assert_eq!(engine.doubted_clock_step(), None);
        // It was wrong nevertheless.
        reading.lock().wall = now - 8 * DAY;
        usable().await.unwrap();
    }
}
