//! The requirements of tus 1.0.0 that bind servers (`T-…`), and the interpretations (`E-…`), over
//! real sockets, on every store. `docs/protocol.md` lists them.

mod appending;
mod checksum;
mod completing;
mod concatenation;
mod connection;
mod creation;
mod deferred;
mod discovery;
mod expiration;
mod inspecting;
mod listed;
mod takeover;
mod termination;

use crate::harness::{DATA, Site, everywhere, with_defaults};
