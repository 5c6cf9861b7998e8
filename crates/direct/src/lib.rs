//! Direct uploads to S3: Landfall authenticates and authorizes a client and signs its requests, the
//! bytes go from the client to the bucket, and Landfall verifies the object.
//!
//! A direct upload is a [`Job`](landfall_queue::Job) of the upload queue, under the same
//! authentication, policies, grants and quotas. The hooks of the [`Handler`](landfall::Handler) are
//! called, and its sinks receive the events. A [`Record`] in the [`Repository`] stores the state
//! that only direct uploads have.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod cache;
mod error;
mod record;
mod repository;
mod settings;
mod stats;
mod uploads;

pub use self::{
    error::DirectError,
    record::{Record, Status, TransferMode},
    repository::{Repository, migrate},
    settings::{CLIENT_KEY_PREFIX, DirectSettings, SmallFiles, StsSettings},
    stats::DirectStats,
    uploads::{
        CompletedUpload, Direct, OpenRequest, PrefixCredentials, Requester, SignedOperation,
        SignedPost, SignedPut, SweepReport,
    },
};
