//! Resumable-upload protocols without IO.
//!
//! The heads of requests and responses of tus 1.0.0 as pure functions and plain types: no sockets, no
//! bodies, no clock, no stores. A server feeds it a method and headers and gets an [`Operation`] or a
//! [`Problem`]; a client can use the same types.
//!
//! Requirements of the protocol are cited as `T-…`, decisions where its text is open as `E-…`; both
//! lists are in `docs/protocol.md`.

mod checksum;
mod concat;
pub mod cors;
mod fields;
pub mod headers;
mod metadata;
mod operation;
mod problem;

pub use self::{
    checksum::{Algorithm, Checksum, InvalidChecksum},
    concat::{Concat, InvalidConcat},
    fields::{InvalidField, parse_size, single_value},
    metadata::{InvalidMetadata, Metadata, MetadataSyntax},
    operation::{
        Append, ChecksumPlacement, Create, DeclaredLength, Extensions, Operation, Target,
        effective_method, has_offset_octet_stream, require_version,
    },
    problem::{Problem, ProblemKind},
};

/// The one version of tus spoken here.
pub const TUS_VERSION: &str = "1.0.0";
