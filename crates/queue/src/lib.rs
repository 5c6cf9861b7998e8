//! The upload queue of Landfall: who may upload what, and the state of each upload.
//!
//! A [`Job`] is a row of the [`Queue`]: one granted or tracked upload and its state. A *grant* is
//! permission for one upload, carried by a single-use upload [`Token`], whose hash alone is
//! stored. Policies ([`policy`]) restrict the [`GrantLimits`] of a [`Principal`] before a grant.
//!
//! The queue does not serve HTTP: the APIs are `landfall-grants` and `landfall-direct`. It is tables
//! and one writer per process, which batches commands into transactions: rows are read, changed in
//! memory by rules that know no SQL, and written. All that a transition changes is written with it:
//! quota, counts, the event and its deliveries in the outbox. On PostgreSQL, transactions of several
//! nodes lock rows in one order, so a final state stays and no quota is exceeded.
//!
//! Invariants: one upload is bound to a job; a job ends once; only the store proves a completion;
//! the numbers of events become visible in order, so a reader that resumes misses none.
//!
//! Progress is in memory and written every few seconds; readers of the node see it at once, other
//! nodes once a second. [`tracking`] connects uploads with their jobs: its sink writes the end of a
//! job before the application receives the event, and reconciliation compares running jobs with the
//! store after a crash.
//!
//! Start reading at `job.rs`, `queue/unit_of_work.rs` and `queue/transition.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod job;
mod limits;
pub mod policy;
mod principal;
mod queue;
mod token;
pub mod tracking;

pub use landfall_hooks::contains_secret;

pub use self::{
    job::{Job, JobEvent, JobEventKind, JobId, JobState},
    limits::{GrantLimits, InvalidRate, RateLimit, is_type_pattern},
    principal::{Principal, is_subject},
    queue::*,
    token::{Token, TokenHash, is_secret},
};
