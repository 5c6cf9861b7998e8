//! Values per tokio runtime, for clients that are used from several runtimes.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::runtime;

const MAX_RUNTIMES: usize = 256;

/// One value for each tokio runtime, created on first use. Keeps at most 256 values and drops the
/// oldest first.
///
/// For connection pools: a connection is driven by the runtime that opened it, and closes with it.
/// Used from another runtime, each response would wait for the threads of the first one.
#[derive(Debug)]
pub struct PerRuntime<T>(Mutex<VecDeque<(runtime::Id, T)>>);

impl<T> Default for PerRuntime<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> PerRuntime<T> {
    /// Returns the value of the current runtime, creating it if missing.
    ///
    /// # Panics
    /// If there is no runtime.
    pub fn get(&self, make: impl FnOnce() -> T) -> T {
        let id = runtime::Handle::current().id();
        let mut all = self.0.lock();
        if let Some((_, found)) = all.iter().find(|(one, _)| *one == id) {
            return found.clone();
        }
        let new = make();
        if all.len() >= MAX_RUNTIMES {
            all.pop_front();
        }
        all.push_back((id, new.clone()));
        new
    }
}
