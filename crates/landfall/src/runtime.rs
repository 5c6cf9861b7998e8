//! Values bound to a runtime. A handler may be used from many runtimes at once, for example in a server
//! with one per thread.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::runtime;

/// Maximum runtimes with a value.
const RUNTIMES: usize = 256;

/// One value per runtime, created on first use; for at most 256 runtimes, then the oldest is evicted.
///
/// For connection pools: a connection is driven by the runtime that opened it, and dies with it. Used
/// from another runtime, each response would wait for that runtime's threads.
#[derive(Debug)]
pub struct PerRuntime<T>(Mutex<VecDeque<(runtime::Id, T)>>);

impl<T> Default for PerRuntime<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> PerRuntime<T> {
    /// Returns the current runtime's value.
    ///
    /// # Panics
    /// If there is no runtime.
    pub fn get(&self, make: impl FnOnce() -> T) -> T {
        let id = runtime::Handle::current().id();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = all.iter().find(|(one, _)| *one == id) {
            return found.clone();
        }
        let fresh = make();
        if all.len() >= RUNTIMES {
            all.pop_front();
        }
        all.push_back((id, fresh.clone()));
        fresh
    }
}
