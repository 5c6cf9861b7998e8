//! What must hold for every parser, whatever bytes it is given.
//!
//! Each public function is one fuzz target: it takes the fuzzer's bytes, feeds a parser, and panics
//! if a property is broken. "Does not panic" is only the least of them: what is accepted must print
//! back to what was sent, what is refused must be refused with a 4xx and one clean sentence.
//!
//! `tests/seeds.rs` feeds the seeds through the same functions on any compiler.

mod answer;
mod caller;
mod connection;
mod direct;
mod head;
mod hook;
mod serve;
mod settings;
mod stored;
mod transport;
mod upload;
mod values;

pub use self::{
    answer::s3_answer,
    caller::caller_answer,
    connection::connection,
    direct::{direct_request, s3_event},
    head::{append, create, request, trailers},
    hook::hook_answer,
    serve::{http2, pipeline},
    settings::{arguments, config_file},
    stored::stored_rows,
    transport::hook_transport,
    upload::{info, location, part_url, range, upload_id},
    values::{checksum, concat, fields, metadata},
};
