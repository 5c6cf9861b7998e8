//! Subscriptions of listeners, for the task in `sql::listener` that receives notifications. Nothing here connects.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

/// The connection that the listeners share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notifications(pub(crate) Arc<Mutex<Option<mpsc::Sender<Subscription>>>>);

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: String,
    pub(crate) payloads: mpsc::Sender<String>,
    pub(crate) has_started: oneshot::Sender<()>,
}
