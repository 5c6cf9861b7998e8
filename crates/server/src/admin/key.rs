//! The hash of the admin key together with the sessions that it signed.
//!
//! The key itself is not stored. Both are replaced at once, and only by a different key: a reload with the same key
//! keeps sessions and logouts.

use std::fmt;
use std::sync::Arc;

use landfall_state::queue::TokenHash;
use parking_lot::RwLock;

use super::session::Sessions;

/// The admin key, which can change while the server runs. Clones share it.
#[derive(Clone)]
pub(crate) struct AdminKey(Arc<RwLock<Arc<KeyInUse>>>);

pub(super) struct KeyInUse {
    pub(super) hash: TokenHash,
    pub(super) sessions: Sessions,
}

impl AdminKey {
    pub(crate) fn new(key: &str) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(KeyInUse::new(key)))))
    }

    /// Another key ends all sessions.
    pub(crate) fn set(&self, key: &str) {
        let new = KeyInUse::new(key);
        let mut current = self.0.write();
        if current.hash != new.hash {
            *current = Arc::new(new);
        }
    }

    pub(super) fn current(&self) -> Arc<KeyInUse> {
        self.0.read().clone()
    }
}

impl KeyInUse {
    fn new(key: &str) -> Self {
        Self {
            hash: TokenHash::from_secret(key),
            sessions: Sessions::new(key),
        }
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(***)")
    }
}
