//! Grants and the upload queue: an application asks for an upload, gets a token for it, and follows it
//! to its end.
//!
//! A [`Job`] is a row of the [`Queue`]: an upload that somebody asked for. Its *grant* is the leave to
//! make it, carried by a [`Token`] of which only the hash is kept.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod caller;
pub mod gate;
pub mod job;
pub mod policy;
pub mod queue;
mod token;

pub use landfall_database::Clock;

pub use self::{
    caller::{Caller, Limits},
    job::{Job, JobId, JobState},
    queue::{Queue, QueueSettings},
    token::{Token, TokenHash},
};
