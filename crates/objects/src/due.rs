//! When the objects of the last sweep are due, so that the next one need not read them again. It
//! decides nothing about removals.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

const MAX_OBJECTS: usize = 1 << 21;

/// When objects are due, by their key and version.
#[derive(Debug, Default)]
pub struct DueTimes(Mutex<Times>);

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
    /// Starts a sweep.
    pub fn start_sweep(&self) {
        let mut times = self.0.lock();
        times.sweep = times.sweep.wrapping_add(1);
    }

    /// Ends a sweep that listed all objects: forgets those that it did not ask for.
    pub fn finish_sweep(&self) {
        let mut times = self.0.lock();
        let sweep = times.sweep;
        times.objects.retain(|_, due| due.sweep == sweep);
    }

    /// Returns when an object is due, if that is known and in the future.
    pub fn get(&self, key: &str, version: &str) -> Option<SystemTime> {
        let mut times = self.0.lock();
        let sweep = times.sweep;
        let hash = times.hash(key, version);
        let due = times.objects.get_mut(&hash)?;
        due.sweep = sweep;
        let at = UNIX_EPOCH + Duration::from_secs(due.at.into());
        (at > SystemTime::now()).then_some(at)
    }

    /// Records when an object is due; `None`: never.
    pub fn set(&self, key: &str, version: &str, at: Option<SystemTime>) {
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
