//! The client against a server in this process, over connections that break.

#![allow(clippy::unwrap_used)]

mod acknowledged;
mod basics;
mod cancelling;
mod direct;
mod downloads;
mod errors;
mod faults;
mod parallel;
mod proxy;
mod resuming;
mod server;
mod streams;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use landfall_client::{Client, ClientBuilder, Protocol, RetryPolicy};

/// Nothing in these tests takes longer, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns settings for tests: short delays.
fn builder() -> ClientBuilder {
    let policy =
        RetryPolicy::default().with_delays(Duration::from_millis(1), Duration::from_millis(20));
    Client::builder().retry(policy)
}

fn client() -> Client {
    builder().build().unwrap()
}

fn client_of(protocol: Protocol) -> Client {
    builder().protocol(protocol).build().unwrap()
}

/// Returns bytes of which no two blocks are the same.
fn content(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// Runs a future, and fails if it hangs.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future)
        .await
        .expect("the test hangs")
}
