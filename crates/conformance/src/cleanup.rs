//! Removal of the uploads that the checks have made.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::timeout;
use url::Url;

use crate::capabilities::Capabilities;
use crate::check::{Capability, Protocol};
use crate::client::{Client, Request};

const MAX_DURATION: Duration = Duration::from_secs(60);
const INTEROP_VERSION: &str = "Upload-Draft-Interop-Version";
const MAX_CONCURRENCY: usize = 4;

/// The uploads made so far.
#[derive(Debug, Default)]
pub(crate) struct Cleanup(Mutex<HashMap<Url, Owner>>);

/// The protocol of the request that made an upload.
#[derive(Clone, Debug)]
struct Owner {
    protocol: Protocol,
    interop_version: Option<String>,
}

/// What became of the uploads that the checks have made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupResult {
    /// Uploads that do not exist any more.
    pub removed: usize,
    /// Uploads that still exist, or may.
    pub remaining: usize,
}

impl Cleanup {
    pub(crate) fn record(&self, url: Url, request: &Request) {
        let owner = Owner {
            protocol: match request.has("Tus-Resumable") {
                true => Protocol::Tus,
                false => Protocol::Draft,
            },
            interop_version: request.value(INTEROP_VERSION).map(str::to_owned),
        };
        // A later request may name no version.
        self.0.lock().entry(url).or_insert(owner);
    }

    /// Removes all uploads by DELETE, where the server supports it.
    pub(crate) async fn run(&self, client: &Client, server: &Capabilities) -> CleanupResult {
        let uploads: Vec<_> = self.0.lock().drain().collect();
        let total = uploads.len();
        let removals = stream::iter(uploads).map(|(url, owner)| async move {
            let requests = match owner.protocol {
                Protocol::Tus if server.has(Capability::Termination) => {
                    vec![Request::new("DELETE", &url).field("Tus-Resumable", "1.0.0")]
                }
                Protocol::Tus => Vec::new(),
                Protocol::Draft => {
                    let plain = Request::new("DELETE", &url);
                    // A server of both protocols may need a field to distinguish them.
                    let version = owner.interop_version.unwrap_or_else(|| "10".to_owned());
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
        // What is left is reported as remaining.
        let _ = timeout(MAX_DURATION, count).await;
        CleanupResult {
            removed,
            remaining: total - removed,
        }
    }
}
