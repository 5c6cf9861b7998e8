//! Tests of the server on real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

mod addresses;
mod basics;
mod both_lengths;
mod child;
mod differential;
mod heads;
mod http1;
mod http2;
mod http2_exchange;
mod http2_frames;
mod http2_limits;
mod http3;
mod http3_limits;
mod http3_packets;
mod interim;
mod large_heads;
mod linger;
mod listen;
mod load;
mod memory;
mod proxy_protocol;
mod shutdown;
mod slow;
mod stalled;
mod timers;
mod tls;
mod tls_handshakes;
mod unread;
