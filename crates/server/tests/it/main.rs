//! Tests of the program and of its parts, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod settings;

mod net_kit;

mod net_basics;
mod net_differential;
mod net_heads;
mod net_http2;
mod net_linger;
mod net_listen;
mod net_load;
mod net_shutdown;
mod net_timers;
