//! Uploads straight to S3: a client asks, Landfall checks and signs, the bytes go from the client to the
//! bucket, and Landfall makes sure of what arrived.
//!
//! Such an upload is a [`Job`](landfall_grants::Job) of the queue like any other, under the same
//! callers, policies, grants and quotas; the hooks of the [`Handler`](landfall::Handler) are asked and
//! its sinks told. What the queue doesn't know of it is a [`Record`] in the [`Books`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod books;
mod error;
mod record;
mod settings;
mod stats;
mod uploads;

pub use self::{
    books::{Books, migrate},
    error::DirectError,
    record::{Record, Standing, Way},
    settings::{DirectSettings, OWN, Small, StsSettings},
    stats::DirectStats,
    uploads::{Act, Asked, Complete, Direct, Form, OwnCredentials, SignedPut, Swept, Who},
};
