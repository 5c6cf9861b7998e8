//! HTTP/2 (RFC 9113), by h2.
//!
//! This module adds to h2: requests at once, also those that their
//! client has reset (`connection`), and the number of interim responses that wait for the client (`halves`). h2
//! itself limits heads and their CONTINUATION frames, resets, and small or empty frames, and answers PING and
//! SETTINGS only while the client reads.

mod connection;
mod halves;

pub(super) use self::connection::serve_connection;
