//! HTTP/1.1 and HTTP/1.0 (RFC 9112).
//!
//! `head`, `content` and `encode` are the codec: functions of bytes, without sockets or clocks. `connection` is
//! the task of a connection, one state after another: it waits for a head, lets the service respond, sends the response,
//! and closes. It shares a `channel` with the content that the service reads: the socket and its input. The
//! service pulls content from the socket itself, so a byte passes from the socket to the store through one buffer, and
//! a client that is not read fills none.

mod channel;
pub(crate) mod connection;
mod content;
mod encode;
mod head;
mod outgoing;
#[cfg(test)]
mod tests;

pub(crate) use self::channel::{Http1Content, Http1Io};
pub use self::content::{ContentDecoder, Decoded, Malformed};
pub use self::encode::{ResponseContext, ResponseFraming, response_head};
pub(crate) use self::head::same_host;
pub use self::head::{Framing, HeadRules, HeadSearch, RequestHead, empty_lines, parse};
