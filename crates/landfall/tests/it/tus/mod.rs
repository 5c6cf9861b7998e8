//! tus over real sockets, on every store: effects that clients cannot see, choices that the specification leaves
//! (tests/protocol.md), and the parts of hooks, settings and time. `conformance` checks the requirements.

mod appending;
mod completing;
mod concatenation;
mod connection;
mod creation;
mod deferred;
mod discovery;
mod expiration;
mod inspecting;
mod takeover;
mod termination;

use crate::harness::{DATA, Site, everywhere, with_defaults};
