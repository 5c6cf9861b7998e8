use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use landfall::store::{Result, StoreError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Inner, enumerate::listing_error, layout::RESERVED_PREFIX};
use crate::client::{Condition, ErrorKind, ObjectRef};

const MAX_OBJECTS: usize = 1 << 21;
const SWEEPER: &str = "sweeper.json";
const MAX_RECORD_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct DueTimes(Mutex<Times>);

#[derive(Debug, Default)]
struct Times {
    hasher: RandomState,
    objects: HashMap<u64, Due>,
    sweep: u32,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    at: u32,
    sweep: u32,
}

impl DueTimes {
    pub(super) fn start_sweep(&self) {
        let mut times = self.0.lock();
        times.sweep = times.sweep.wrapping_add(1);
    }

    pub(super) fn finish_sweep(&self) {
        let mut times = self.0.lock();
        let sweep = times.sweep;
        times.objects.retain(|_, due| due.sweep == sweep);
    }

    pub(super) fn get(&self, key: &str, version: &str) -> Option<SystemTime> {
        let mut times = self.0.lock();
        let sweep = times.sweep;
        let hash = times.hash(key, version);
        let due = times.objects.get_mut(&hash)?;
        due.sweep = sweep;
        let at = UNIX_EPOCH + Duration::from_secs(due.at.into());
        (at > SystemTime::now()).then_some(at)
    }

    pub(super) fn set(&self, key: &str, version: &str, at: Option<SystemTime>) {
        let seconds = at.map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let at = seconds.map_or(u32::MAX, |at| u32::try_from(at).unwrap_or(u32::MAX));
        let mut times = self.0.lock();
        let hash = times.hash(key, version);
        let sweep = times.sweep;
        if times.objects.len() < MAX_OBJECTS || times.objects.contains_key(&hash) {
            times.objects.insert(hash, Due { at, sweep });
        }
    }
}

impl Times {
    fn hash(&self, key: impl Hash, version: impl Hash) -> u64 {
        self.hasher.hash_one((key, version))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct SweeperRecord {
    process: String,
}

impl Inner {
    /// Claims the sweep for this process, unless another one has written the record within two
    /// intervals.
    ///
    /// Without conditional writes two processes may sweep once at the same time, which is harmless.
    pub(super) async fn claim_sweep(&self, interval: Duration) -> Result<bool> {
        if !self.options.shared {
            return Ok(true);
        }
        let key = format!("{}{RESERVED_PREFIX}{SWEEPER}", self.layout.prefix);
        let object_ref = ObjectRef::new(&self.layout.bucket, key);
        let own = format!("{:016x}", self.incarnation);
        let condition = match self.client.get_object(&object_ref, None).await {
            Ok(object) => {
                let (etag, modified) = (object.head.etag.clone(), object.head.modified);
                let text = object.bytes(MAX_RECORD_BYTES).await;
                let text = text.map_err(listing_error)?;
                let record: Option<SweeperRecord> = serde_json::from_slice(&text).ok();
                let is_own = record.is_some_and(|record| record.process == own);
                let age = modified.and_then(|at| at.elapsed().ok());
                if !is_own && age.unwrap_or_default() < interval * 2 {
                    return Ok(false);
                }
                Condition::IfMatch(etag)
            }
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Condition::IfAbsent,
            Err(error) => return Err(listing_error(error)),
        };
        let condition = match self.options.conditional_writes {
            true => condition,
            false => Condition::None,
        };
        let record = serde_json::to_vec(&SweeperRecord { process: own });
        let record =
            record.map_err(|error| StoreError::other("encoding the sweeper record", error))?;
        let headers = self.layout.internal_headers("application/json");
        let (client, payload) = (&self.client, self.payload(record));
        match client
            .put_object(&object_ref, payload, &headers, condition)
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(false),
            Err(error) => Err(listing_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_due_when_its_time_has_come_or_it_changed() {
        let times = DueTimes::default();
        let later = SystemTime::now() + Duration::from_secs(60);
        times.start_sweep();
        times.set("a.info", "1", Some(later));
        times.set("b.info", "1", Some(UNIX_EPOCH));
        times.set("c.info", "1", None);
        assert!(times.get("a.info", "1").is_some());
        assert!(times.get("a.info", "2").is_none());
        assert!(times.get("b.info", "1").is_none());
        assert!(times.get("c.info", "1").is_some());
    }

    #[test]
    fn complete_sweep_forgets_unlisted_objects() {
        let times = DueTimes::default();
        times.start_sweep();
        times.set("a", "1", None);
        times.set("b", "1", None);
        times.finish_sweep();
        // A failed sweep forgets nothing.
        times.start_sweep();
        times.start_sweep();
        assert!(times.get("a", "1").is_some());
        times.finish_sweep();
        assert!(times.get("a", "1").is_some());
        assert!(times.get("b", "1").is_none());
        assert_eq!(times.0.lock().objects.len(), 1);
    }
}
