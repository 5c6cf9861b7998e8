//! The store of uploads in object storage, for all clouds.
//!
//! [`ObjectStore`] stores uploads in tusd's layout; `store/mod.rs`, the place to start reading, has the order of
//! calls that allows the process to die between any two. A cloud is a client with the calls of [`Cloud`], and its
//! [`Rules`].
//!
//! - [`PartBuffer`] collects the bytes of a part from request bodies, in memory of a [`MemoryBudget`] that all
//!   uploads share; there are no temporary files. It is sent as a [`Payload`].
//! - [`PartPlan`] fixes which part has which bytes before they are sent, so that a part that is sent twice, or
//!   late, is harmless. [`CountedRanges`] are the bytes that count in an object made of more parts.
//! - [`UploadSessions`] keep the state of an upload from one request to the next. A lease that does not
//!   follow the last one finds nothing there.
//! - [`Caller`] makes the calls of a client, a [`Service`]: attempts, deadlines, delays, counters; [`CredentialCache`]
//!   keeps its credentials. [`read_object`] reads an object whose download continues after an interruption.
//!
//! This crate knows no cloud: no address, no signature, no code of an error.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod call;
mod cloud;
mod counted_ranges;
mod lease;
mod memory;
mod object;
mod options;
mod part_buffer;
mod part_plan;
mod payload;
mod reader;
mod session;
mod store;

pub use self::{
    call::{
        BodyStalled, CallLimits, CallRequest, CallSettings, CallSettingsError, Caller,
        CredentialCache, CredentialsOf, DURATION_BOUNDS_MS, Endpoint, Error, ErrorKind, Failure,
        HttpSend, LoadCredentials, OpenObject, OperationStats, Response, ResponseBody, Result,
        Retry, Service, Stats, UnreadableFile, body_range, clock_skew, content_length, exchange,
        header_text, if_exists, is_address, kind_of_status, one_line, path, read_file, retry_after,
        run_program, segment, service_time, variable_or_file,
    },
    cloud::{Cloud, OWNER, PART_WRITER, PartCondition, Rules},
    counted_ranges::{CountedRanges, RANGES},
    lease::{ObjectLeases, put_record},
    memory::{MemoryBudget, MemoryPermit, RECLAIM_INTERVAL},
    object::{
        Condition, ListedObject, MultipartUpload, MultipartUploadsPage, Object, ObjectBody,
        ObjectHead, ObjectHeaders, ObjectRef, ObjectsPage, Part,
    },
    options::{InvalidOptions, MAX_OBJECT, MIN_MEMORY, StoreOptions, UploadIds},
    part_buffer::{BlockPool, PartBuffer},
    part_plan::{CountedParts, MissingPart, PartPlan, PartSizeLimits, Segment, StoredPart},
    payload::{Barrier, BarrierKey, NeverOpened, Payload, PayloadBody},
    reader::read_object,
    session::{CachedState, SessionStatus, UploadSession, UploadSessions, WriteGuard},
    store::{Layout, ObjectStore, StoreStats, user_metadata},
};
