//! Properties of all parsers, for arbitrary input.
//!
//! Each public function is a fuzz target: it passes the input to a parser, and panics if a property is
//! violated. Besides not panicking, parsers must round-trip accepted input, and reject other input with a
//! 4xx and one clean sentence.
//!
//! `tests/seeds.rs` runs the functions on the seeds, with any compiler.

mod authentication;
mod connection;
mod direct;
mod draft;
mod head;
mod hook_response;
mod s3_response;
mod serve;
mod settings;
mod stored;
#[path = "../../crates/http/tests/it/http1/streams.rs"]
mod streams;
mod transport;
mod upload;
mod values;

pub use self::{
    authentication::authentication,
    connection::{chunks, connection, differential, request_head},
    direct::{direct_request, s3_event},
    draft::draft_request,
    head::{append, create, request, trailers},
    hook_response::hook_response,
    s3_response::s3_response,
    serve::{http2, pipeline},
    settings::{arguments, config_file},
    stored::stored_rows,
    transport::hook_transport,
    upload::{info, location, part_url, range, upload_id},
    values::{checksum, concat, fields, metadata},
};
