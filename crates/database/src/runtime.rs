//! Execution in the runtime that owns the connections.

use tokio::{runtime::Handle, task::JoinSet};

/// Runs a future in a runtime, in place if it is the current one; `None` if it was shut down.
///
/// # Cancel safety
/// Dropping the future drops the work.
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
