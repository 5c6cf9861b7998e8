//! Resumable upload protocols without I/O.
//!
//! Parses the heads of requests of tus 1.0.0 and of the IETF draft ([`rufh`]) with pure functions and
//! plain types: no sockets, bodies, clock or stores. A server passes method and headers, and gets an [`Operation`] or a [`Problem`];
//! clients can use the same types.
//!
//! `T-…` are requirements of the protocol, `E-…` interpretations where the specification is
//! ambiguous; both lists are in `crates/landfall/tests/protocol.md`.
//!
//! The feature `checksums` (on by default) adds the algorithms of `Upload-Checksum` other than SHA-1.

mod checksum;
mod concat;
pub mod cors;
mod fields;
pub mod headers;
mod metadata;
mod operation;
mod problem;
mod response_status;
pub mod rufh;
pub mod units;

pub use self::{
    checksum::{Algorithm, Checksum, Hasher, InvalidChecksum},
    concat::{Concat, InvalidConcat},
    fields::{
        FieldNames, Fields, InvalidField, date_value, number_value, parse_size, single_value,
        text_value, with_date,
    },
    metadata::{InvalidMetadata, Metadata, Syntax},
    operation::{
        Append, ChecksumPlacement, Create, DeclaredEnd, DeclaredLength, Extensions, Operation,
        Target, effective_method, has_offset_octet_stream, require_version,
    },
    problem::{Problem, ProblemKind},
};

/// The supported version of tus.
pub const TUS_VERSION: &str = "1.0.0";
