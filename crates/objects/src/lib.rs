//! The parts of a store of uploads in object storage that depend on no cloud.
//!
//! - [`PartBuffer`] collects the bytes of a part from request bodies, in memory of a [`MemoryBudget`] that all
//!   uploads share; there are no temporary files. It is sent as a [`Payload`].
//! - [`PartPlan`] fixes which part has which bytes before they are sent, so that a part that is sent twice, or
//!   late, is harmless. [`CountedRanges`] are the bytes that count in an object made of more parts.
//! - [`UploadSessions`] keep the state of an upload from one request to the next. A lease that does not
//!   follow the last one finds nothing there.
//! - [`DueTimes`] spare a sweep the objects that the last one has read.
//!
//! A cloud brings its calls, its layout and the order of its calls. `landfall-s3` is the first; the types leave
//! room for others: a part is a number, a size and a tag (the entity tag of a part, the generation of an object,
//! the id of a block), and the plan does not ask how parts become an object.
//!
//! This crate makes no calls and knows no client.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod counted_ranges;
mod due;
mod memory;
mod part_buffer;
mod part_plan;
mod payload;
mod session;

pub use self::{
    counted_ranges::{CountedRanges, RANGES},
    due::DueTimes,
    memory::{MemoryBudget, MemoryPermit, RECLAIM_INTERVAL},
    part_buffer::{BlockPool, PartBuffer},
    part_plan::{CountedParts, MissingPart, PartPlan, PartSizeLimits, Segment, StoredPart},
    payload::{Payload, PayloadBody},
    session::{CachedState, SessionStatus, UploadSession, UploadSessions, WriteGuard},
};
