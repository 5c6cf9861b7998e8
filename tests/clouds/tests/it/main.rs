//! The store of uploads in Google Cloud Storage and Azure.
#![allow(clippy::unwrap_used)]

mod conformance;
mod crashes;
mod layout;
mod stale;
mod tails;
mod uploads;
