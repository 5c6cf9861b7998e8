//! Work in the runtime that the connections belong to.

use tokio::{runtime::Handle, task::JoinSet};

/// Runs work in a runtime: in place, if this is that one. Returns nothing if the runtime has ended.
///
/// # Cancel safety
/// Dropped, the work is dropped.
pub async fn run_in<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    if Handle::try_current().is_ok_and(|here| here.id() == runtime.id()) {
        return Some(work.await);
    }
    let mut task = JoinSet::new();
    task.spawn_on(work, runtime);
    task.join_next().await?.ok()
}
