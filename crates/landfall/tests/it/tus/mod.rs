//! tus over real sockets, on every store, where clients cannot see it, where the specification leaves a choice
//! (docs/protocol.md), and where hooks, settings and time take part. What it requires is checked by `conformance`.

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
