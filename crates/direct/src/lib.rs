//! Direct uploads to a bucket: Landfall authenticates and authorizes a client and signs its requests, the
//! bytes go from the client to the bucket, and Landfall verifies the object.
//!
//! A [`DirectBucket`] is a bucket of S3, Google Cloud Storage or Azure. All have a signed PUT; the others also have
//! resumable uploads, and S3 has forms, multipart uploads and temporary credentials, as in Companion.
//!
//! A direct upload is a [`Job`](landfall_state::queue::Job) of the upload queue, under the same
//! authentication, policies, grants and quotas. The hooks of the [`Handler`](landfall::Handler) are
//! called, and its sinks receive the events. A [`Record`] in the [`Repository`] stores the state
//! that only direct uploads have; it is inserted in the transaction that starts the job.
//!
//! Requests of clients, bucket notifications and the sweeper only trigger a check, in three steps:
//! `uploads/observe.rs` reads what the bucket has, `uploads/decide.rs` decides what to do, a pure function,
//! and `uploads/apply.rs` does it under a row lease. A completion is recorded before it starts, so
//! the next check continues after a crash. A change applies only to the version of the record from
//! which it was made. Signing a part makes no call of database or bucket while the record is cached.
//!
//! Start reading at `uploads/open.rs` and `uploads/decide.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod bucket;
mod error;
mod record;
mod repository;
mod settings;
mod uploads;

pub use self::{
    bucket::{Bucket, BucketRules, DirectBucket, S3Bucket, SignedUpload, UploadTerms},
    error::DirectError,
    record::{Record, Status, TransferMode},
    repository::{Repository, migrate},
    settings::{CLIENT_KEY_PREFIX, DirectSettings, DirectStats, SmallFiles, StsSettings},
    uploads::{
        CompletedUpload, Direct, OpenRequest, PrefixCredentials, Requester, SentHeaders,
        SignedOperation, SweepReport,
    },
};
