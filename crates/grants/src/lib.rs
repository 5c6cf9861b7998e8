//! Grants and the upload queue.
//!
//! An application requests a *grant* for an upload, gets a single-use upload [`Token`], and tracks
//! the upload in the queue. A [`Job`] is a row of the [`Queue`]: one granted or tracked upload and
//! its state. Only the hash of a token is stored.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod auth;
pub mod enforce;
pub mod job;
pub mod policy;
mod problem;
pub mod queue;
mod token;

pub use landfall_database::Clock;

pub use self::{
    auth::{GrantLimits, Principal},
    job::{Job, JobId, JobState},
    problem::Problem,
    queue::{Queue, QueueSettings},
    token::{Token, TokenHash},
};
