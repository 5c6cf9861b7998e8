//! Removal of the uploads that the checks have made.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::capabilities::Capabilities;
use crate::client::{Client, INTEROP_VERSION, Request};
use crate::requirement::{Capability, Protocol};

const MAX_DURATION: Duration = Duration::from_secs(60);
const MAX_CONCURRENCY: usize = 4;

/// Results for the uploads that the checks have made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupResult {
    /// Uploads that do not exist any more.
    pub removed: usize,
    /// Uploads that still exist, or may.
    pub remaining: usize,
}

/// Removes all uploads by DELETE, where the server supports it.
pub(crate) async fn remove_created(client: &Client, server: &Capabilities) -> CleanupResult {
    let uploads = client.created().drain();
    let total = uploads.len();
    let removals = stream::iter(uploads).map(|(url, creator)| async move {
        let requests = match creator.protocol {
            Protocol::Tus if server.has(Capability::Termination) => {
                vec![Request::new("DELETE", &url).field("Tus-Resumable", "1.0.0")]
            }
            Protocol::Tus => Vec::new(),
            Protocol::Draft => {
                let plain = Request::new("DELETE", &url);
                // A server of both protocols may need a field to distinguish them.
                let version = creator.interop_version.unwrap_or_else(|| "10".to_owned());
                vec![plain.clone().field(INTEROP_VERSION, version), plain]
            }
        };
        for request in &requests {
            let response = client.send(request).await;
            if response.is_ok_and(|one| matches!(one.status, 200..=299 | 404 | 410)) {
                return true;
            }
        }
        false
    });
    let mut removals = removals.buffer_unordered(MAX_CONCURRENCY);
    let mut removed = 0;
    let count = async {
        while let Some(is_removed) = removals.next().await {
            removed += usize::from(is_removed);
        }
    };
    // The rest is reported as remaining.
    let _ = timeout(MAX_DURATION, count).await;
    CleanupResult {
        removed,
        remaining: total - removed,
    }
}
