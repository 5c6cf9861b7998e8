//! State per upload: maps that hash no id again, in shards with a lock each.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use parking_lot::{Mutex, MutexGuard};

use super::UploadId;

/// A power of two.
pub(crate) const SHARDS: usize = 16;

/// A map whose hasher takes the hash that the id carries. Clients cannot choose ids that collide, because the
/// hash is keyed.
pub(crate) type UploadMap<V> = HashMap<UploadId, V, BuildHasherDefault<CarriedHash>>;

#[derive(Debug, Default)]
pub(crate) struct CarriedHash(u64);

impl Hasher for CarriedHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Ids do not call it.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Sharded<S>([Mutex<S>; SHARDS]);

impl<S: Default> Default for Sharded<S> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<S> Sharded<S> {
    pub(crate) fn shard(&self, id: &UploadId) -> MutexGuard<'_, S> {
        // Maps use the lower and the highest bits of the hash.
        self.0[(id.hash_value() >> 32) as usize % SHARDS].lock()
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, S>> {
        self.0.iter().map(Mutex::lock)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_found_by_an_equal_one() {
        let shards = Sharded::<UploadMap<usize>>::default();
        let ids: Vec<_> = (0..10_000).map(|_| UploadId::random()).collect();
        for (n, id) in ids.iter().enumerate() {
            shards.shard(id).insert(id.clone(), n);
        }
        for (n, id) in ids.iter().enumerate() {
            let parsed = UploadId::new(id.as_str()).unwrap();
            assert_eq!(shards.shard(&parsed).remove(&parsed), Some(n));
        }
        assert!(shards.shards().all(|shard| shard.is_empty()));
    }

    /// The shard of an id must be a secret of the process: ids that differ in one character, or in their lengths.
    #[test]
    fn similar_ids_are_spread() {
        let ids = (0..4096).map(|n| UploadId::new(&format!("upload-{n}")).unwrap());
        let ids: Vec<_> = ids.collect();
        let hashes: HashSet<_> = ids.iter().map(UploadId::hash_value).collect();
        assert_eq!(hashes.len(), ids.len());
        let shards = Sharded::<usize>::default();
        ids.iter().for_each(|id| *shards.shard(id) += 1);
        assert!(shards.shards().all(|ids| (128..512).contains(&*ids)));
        // The bits that maps use.
        for (shift, values) in [(0, 128), (57, 128)] {
            let used: HashSet<_> = hashes.iter().map(|hash| (hash >> shift) % values).collect();
            assert_eq!(used.len() as u64, values);
        }
    }
}
