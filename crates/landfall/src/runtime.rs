//! Handlers may serve from many runtimes at once (a server with one per thread does): what is bound to
//! a runtime is kept once for each.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::runtime;

/// How many runtimes may have one at a time.
const RUNTIMES: usize = 256;

/// One of a kind for each runtime, made when it is first asked for; for 256 runtimes at most, then the
/// oldest makes room.
///
/// For pools of connections: a connection is driven by the runtime it was opened on, and dies with it.
/// Used from another one, each answer would wait for that one's threads, and fall with them.
#[derive(Debug)]
pub struct ByRuntime<T>(Mutex<VecDeque<(runtime::Id, T)>>);

impl<T> Default for ByRuntime<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> ByRuntime<T> {
    /// That of the current runtime.
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
