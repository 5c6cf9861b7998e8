//! HTTP/3 (RFC 9114), by h3 on quinn.
//!
//! A listener has one UDP socket: the packets of a client whose address has changed arrive there,
//! too, and its connection continues. A connection is served on one thread, as those of TCP are. There is no
//! 0-RTT: a replayed request would repeat its effect (RFC 8470).
//!
//! h3 is experimental, so nothing outside of this module depends on it. This module adds the limits that h3 lacks:
//! the length of frames (`frames`), requests at once and the time of their heads (`connection`).

pub(super) mod connection;
mod exchange;
mod frames;
pub(super) mod listener;
mod quic;
