//! HTTP/3 (RFC 9114), by h3 on quinn.
//!
//! A listener has one UDP socket: the packets of a client whose address has changed arrive there,
//! too, and its connection continues. A connection is served on one thread, as those of TCP are. There is no
//! 0-RTT: a replayed request would repeat its effect (RFC 8470).
//!
//! h3 is young, so nothing outside of this module depends on it, and what it does not limit is limited here:
//! the length of frames (`frames`), requests at once and the time of their heads (`connection`).

pub(super) mod connection;
pub(super) mod content;
mod exchange;
mod frames;
mod interim;
pub(super) mod listener;
mod quic;
mod window;
