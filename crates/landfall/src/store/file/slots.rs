//! What this process knows about uploads it lately had to do with: one [`Slot`] each.
//!
//! A slot holds the gate through which every change of the upload goes (fences are checked there),
//! the parsed `.info`, and how much is known to be synced. The number of slots is bounded: those not
//! in use are dropped when there are too many, those untouched for longest first, roughly. So are
//! those whose descriptions take too much memory together: clients choose how large they are.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{record::Record, sys::Stamp};
use crate::{
    lease::Fence,
    store::{Result, StoreError},
    upload::UploadId,
};

/// Number of independently locked parts; a power of two.
const SHARDS: usize = 16;
/// The most slots kept in a shard while none of them is in use.
const PER_SHARD: usize = 1024;
/// The most memory that the parsed descriptions of a shard take, in bytes; 64 MiB in all.
const PER_SHARD_BYTES: usize = 64 * 1024 * 1024 / SHARDS;

/// All slots of a store.
#[derive(Debug)]
pub(super) struct Slots {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    slots: HashMap<UploadId, Arc<Slot>>,
    /// The memory that the descriptions of its slots take, at most.
    bytes: usize,
}

/// What is known about one upload.
#[derive(Debug, Default)]
pub(super) struct Slot {
    gate: Mutex<Gate>,
    known: Mutex<Known>,
    /// What its description counts for in its shard, whose lock is held to change it.
    bytes: AtomicUsize,
    touched: AtomicBool,
}

/// Every change of an upload is made while holding this.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The greatest fence seen.
    highest: u64,
    /// Grows with every opening for appending; a writer with an older one must not write.
    epoch: u64,
    /// Grows when a writer finds its way again after a call it dropped; steps of that call which
    /// haven't begun must not run any more.
    turn: u64,
}

/// What can be known without asking the disk, each with what proves that it still holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// The parsed `.info`, and what the file looked like.
    pub(super) record: Option<(Stamp, Arc<Record>)>,
    /// What is known to be on the disk.
    pub(super) synced: Synced,
}

/// What is known to survive a power cut.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Synced {
    /// The data file this is about.
    pub(super) data: u64,
    /// The bytes of it that are on the disk.
    pub(super) bytes: u64,
    /// The `.info` that is on the disk, together with the names of both files.
    pub(super) info: Option<Stamp>,
}

impl Synced {
    /// How many bytes of the data file with this inode are on the disk.
    pub(super) fn bytes_of(&self, data: u64) -> u64 {
        if self.data == data { self.bytes } else { 0 }
    }

    /// Takes note that so many bytes of a data file are on the disk.
    pub(super) fn add(&mut self, data: u64, bytes: u64) {
        self.bytes = bytes.max(self.bytes_of(data));
        self.data = data;
    }
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn shard(&self, id: &UploadId) -> MutexGuard<'_, Shard> {
        // The upper bits: the map inside uses another hasher, but nothing is lost by being careful.
        let shard = (self.hasher.hash_one(id) >> 32) as usize % SHARDS;
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of an upload, if there is one. Asking for what doesn't exist makes none.
    pub(super) fn find(&self, id: &UploadId) -> Option<Arc<Slot>> {
        let slot = Arc::clone(self.shard(id).slots.get(id)?);
        slot.touched.store(true, Ordering::Relaxed);
        Some(slot)
    }

    /// The slot of an upload, made if need be.
    pub(super) fn get(&self, id: &UploadId) -> Arc<Slot> {
        self.shard(id).get(id)
    }

    /// Keeps a parsed description, unless the others leave no memory for it.
    pub(super) fn remember(&self, id: &UploadId, stamp: Stamp, record: &Arc<Record>) {
        let mut shard = self.shard(id);
        let slot = shard.get(id);
        let bytes = record.upload.memory_size();
        if !shard.has_room(&slot, bytes) {
            shard.make_room(bytes);
        }
        let fits = shard.has_room(&slot, bytes);
        let bytes = if fits { bytes } else { 0 };
        shard.bytes = shard.bytes - slot.bytes.swap(bytes, Ordering::Relaxed) + bytes;
        slot.known().record = fits.then(|| (stamp, Arc::clone(record)));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().unwrap().slots.len()).sum()
    }
}

impl Shard {
    fn get(&mut self, id: &UploadId) -> Arc<Slot> {
        if let Some(slot) = self.slots.get(id) {
            slot.touched.store(true, Ordering::Relaxed);
            return Arc::clone(slot);
        }
        if self.slots.len() >= PER_SHARD && self.slots.len().is_multiple_of(PER_SHARD / 8) {
            self.make_room(0);
        }
        let slot = Arc::new(Slot::default());
        self.slots.insert(id.clone(), Arc::clone(&slot));
        slot
    }

    /// Whether the description of a slot may count for so many bytes.
    fn has_room(&self, slot: &Slot, bytes: usize) -> bool {
        self.bytes - slot.bytes.load(Ordering::Relaxed) + bytes <= PER_SHARD_BYTES
    }

    /// Drops an eighth at least, and so much that there is room for `wanted` bytes, unless they are
    /// in use: first what wasn't touched since the last time.
    fn make_room(&mut self, wanted: usize) {
        const SLOTS: usize = PER_SHARD - PER_SHARD / 8;
        let max_bytes = PER_SHARD_BYTES.saturating_sub(wanted.max(PER_SHARD_BYTES / 8));
        let bytes = &mut self.bytes;
        self.slots.retain(|_, slot| {
            let touched = slot.touched.swap(false, Ordering::Relaxed);
            let drop = !touched && Arc::strong_count(slot) == 1;
            if drop {
                *bytes -= slot.bytes.load(Ordering::Relaxed);
            }
            !drop
        });
        let mut too_many = self.bytes > max_bytes || self.slots.len() > SLOTS;
        let (bytes, mut len) = (&mut self.bytes, self.slots.len());
        self.slots.retain(|_, slot| {
            let drop = too_many && Arc::strong_count(slot) == 1;
            if drop {
                *bytes -= slot.bytes.load(Ordering::Relaxed);
                len -= 1;
                too_many = *bytes > max_bytes || len > SLOTS;
            }
            !drop
        });
    }
}

impl Slot {
    /// The gate; waits while somebody changes the upload.
    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gate, if nobody is changing the upload.
    pub(super) fn try_gate(&self) -> Option<MutexGuard<'_, Gate>> {
        match self.gate.try_lock() {
            Ok(gate) => Some(gate),
            Err(std::sync::TryLockError::Poisoned(gate)) => Some(gate.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// What is known; held only for copying, never during I/O.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Lets a lease holder pass, or refuses it because a newer one was here.
    pub(super) fn pass(&mut self, id: &UploadId, fence: Fence) -> Result<()> {
        if fence.0 < self.highest {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        self.highest = fence.0;
        Ok(())
    }

    /// Lets a lease holder begin to append; whoever began before can't go on.
    pub(super) fn begin(&mut self, id: &UploadId, fence: Fence) -> Result<Turn> {
        self.pass(id, fence)?;
        self.epoch += 1;
        Ok(Turn {
            epoch: self.epoch,
            turn: self.turn,
        })
    }

    /// Lets no writer go on that has begun so far.
    pub(super) fn shut(&mut self) {
        self.epoch += 1;
    }

    /// Lets a writer pass that has this turn, unless another began since.
    pub(super) fn go_on(&mut self, id: &UploadId, fence: Fence, turn: Turn) -> Result<()> {
        if turn
            != (Turn {
                epoch: self.epoch,
                turn: self.turn,
            })
        {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        self.pass(id, fence)
    }

    /// Lets a writer that dropped a call take its [`next`](Turn::next) turn, unless another writer
    /// began since, or it has taken a later turn already.
    pub(super) fn resume(&mut self, id: &UploadId, fence: Fence, turn: Turn) -> Result<()> {
        if turn.epoch != self.epoch || turn.turn <= self.turn {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        self.pass(id, fence)?;
        self.turn = turn.turn;
        Ok(())
    }
}

/// What a writer must show to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    epoch: u64,
    turn: u64,
}

impl Turn {
    /// The turn after this one.
    pub(super) fn next(self) -> Self {
        Self {
            turn: self.turn + 1,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> UploadId {
        UploadId::new(&format!("upload-{n}")).unwrap()
    }

    #[test]
    fn older_fences_and_older_writers_are_refused() {
        let mut gate = Gate::default();
        let id = id(1);
        let first = gate.begin(&id, Fence(5)).unwrap();
        gate.go_on(&id, Fence(5), first).unwrap();
        assert!(matches!(
            gate.begin(&id, Fence(4)),
            Err(StoreError::LeaseLost(_))
        ));
        let second = gate.begin(&id, Fence(5)).unwrap();
        assert!(matches!(
            gate.go_on(&id, Fence(5), first),
            Err(StoreError::LeaseLost(_))
        ));
        gate.go_on(&id, Fence(5), second).unwrap();
        assert!(
            gate.resume(&id, Fence(5), first.next()).is_err(),
            "another has begun"
        );
        let (third, fourth) = (second.next(), second.next().next());
        gate.resume(&id, Fence(5), fourth).unwrap();
        assert!(
            gate.go_on(&id, Fence(5), second).is_err(),
            "a step of a dropped call"
        );
        assert!(
            gate.resume(&id, Fence(5), third).is_err(),
            "a dropped call that resumes late"
        );
        gate.go_on(&id, Fence(5), fourth).unwrap();
        gate.pass(&id, Fence(6)).unwrap();
        assert!(matches!(
            gate.go_on(&id, Fence(5), second),
            Err(StoreError::LeaseLost(_))
        ));
    }

    #[test]
    fn slots_do_not_pile_up() {
        let slots = Slots::new();
        let used: Vec<_> = (0..100).map(|n| slots.get(&id(n))).collect();
        for n in 100..200_000 {
            slots.get(&id(n));
        }
        assert!(
            slots.len() <= SHARDS * PER_SHARD + used.len(),
            "{}",
            slots.len()
        );
        for (n, slot) in used.iter().enumerate() {
            assert!(
                Arc::ptr_eq(slot, &slots.find(&id(n)).unwrap()),
                "slot {n} was in use"
            );
        }
    }

    /// As many small pairs as a header takes.
    fn heavy(n: usize) -> Arc<Record> {
        let pairs: Vec<_> = (0..9300).map(|key| (format!("{key:x}"), "")).collect();
        let pairs = pairs.iter().map(|(key, value)| (key.as_str(), *value));
        let mut upload = crate::upload::Upload::new(id(n), Some(1));
        upload.metadata = crate::upload::Metadata::from_pairs(pairs);
        Arc::new(Record {
            upload: Arc::new(upload),
            unverified_from: None,
            damaged: None,
            joined_unsaid: false,
            place: format!("upload-{n}"),
        })
    }

    #[test]
    fn large_descriptions_do_not_pile_up() {
        let (slots, record) = (Slots::new(), heavy(0));
        let size = record.upload.memory_size();
        assert!(size > 900_000, "as measured, not {size}");
        for n in 0..2000 {
            slots.remember(&id(n), Stamp::default(), &record);
            let newest = slots.find(&id(n)).unwrap();
            assert!(newest.known().record.is_some(), "the newest is kept");
        }
        let kept = (0..2000)
            .filter_map(|n| slots.find(&id(n)))
            .filter(|slot| slot.known().record.is_some())
            .count();
        assert!(
            kept > 0 && kept * size <= 64 << 20,
            "{kept} of {size} bytes"
        );
        // Those in use aren't dropped, but take no memory beyond the bound either.
        let used: Vec<_> = (0..2000).map(|n| slots.get(&id(n))).collect();
        for n in 0..2000 {
            slots.remember(&id(n), Stamp::default(), &record);
        }
        let with_record = |slot: &&Arc<Slot>| slot.known().record.is_some();
        let kept = used.iter().filter(with_record).count();
        assert!(
            kept > 0 && kept * size <= 64 << 20,
            "{kept} of {size} bytes"
        );
    }

    #[test]
    fn what_is_touched_stays() {
        let slots = Slots::new();
        let kept = id(0);
        drop(slots.get(&kept));
        for n in 1..100_000 {
            drop(slots.get(&id(n)));
            assert!(slots.find(&kept).is_some(), "after {n}");
        }
    }

    #[test]
    fn asking_makes_no_slot() {
        let slots = Slots::new();
        assert!(slots.find(&id(1)).is_none());
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn what_is_synced_belongs_to_one_file() {
        let mut synced = Synced::default();
        synced.add(7, 100);
        synced.add(7, 50);
        assert_eq!((synced.bytes_of(7), synced.bytes_of(8)), (100, 0));
        synced.add(8, 10);
        assert_eq!((synced.bytes_of(7), synced.bytes_of(8)), (0, 10));
    }
}
