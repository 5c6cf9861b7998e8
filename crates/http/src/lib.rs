//! HTTP server: accepts connections and calls a [`HttpService`].
//!
//! [`serve`] accepts connections on any number of [`Listener`]s, with or without [`Tls`], and speaks
//! HTTP/1.1, HTTP/1.0 and HTTP/2: over TLS if the client chooses it (ALPN), and else, when
//! [`ConnectionLimits::http2`] is on, with prior knowledge on the same port. HTTP/3 has another listener
//! ([`Listener::http3`]).
//! [`serve_uploads`] does so with a [`Handler`](landfall::Handler) and [`Routes`]; nothing else here
//! depends on uploads. The crate is the program's, and compiled for speed; its interface is not stable.
//! * **HTTP/1.1** by a codec and a state machine (`http1`), which reject heads that two parsers could read
//!   differently. HTTP/2 (`http2`, by h2) and HTTP/3 (`http3`, by h3 and quinn) share `stream`.
//! * **Timeouts** for heads, idle connections, bodies and writes, and a minimum rate. One task checks
//!   all connections once a tick, so a request costs no clock read, no timer and no lock (`limits::timeouts`).
//! * **Limits per client address** (`limits::addresses`), so that one client cannot exhaust the server.
//! * **The PROXY protocol** (`proxy_protocol`), in which trusted TCP proxies name their clients.
//! * **Lingering close**: a response sent before the end of a request body reaches the client instead
//!   of being destroyed by a TCP reset.
//! * **Interim responses**: a service can send them with [`interim_sender`].
//! * **Graceful shutdown**: no new connections, a grace time, then every open request body ends with
//!   [`RequestBodyError::ShuttingDown`](landfall::service::RequestBodyError::ShuttingDown), so that the service can
//!   store the bytes that it has received.
//!
//! The path of a request: `serve` accepts its connection (`listener`, `workers`) and `driver` serves it, from the PROXY
//! header and the TLS handshake (`proxy_protocol`, `tls`) to the protocol (`http1`; `http2` and `http3` over `stream`),
//! which reads and writes over `io`. `service` checks limits (`limits`) and calls the service, with a [`Body`] and a
//! [`Peer`](landfall::service::Peer) in the request's extensions.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod body;
mod buffers;
mod connection;
mod driver;
mod function;
pub mod http1;
mod http2;
mod http3;
mod interim;
mod io;
mod limits;
mod listener;
mod log_throttle;
mod proxy_protocol;
mod rejection;
mod serve;
mod service;
mod shutdown;
mod stats;
mod stream;
mod tls;
mod uploads;
mod workers;

pub use body::{Body, ResponseBody};
pub use function::Function;
pub use limits::ConnectionLimits;
pub use limits::addresses::{AddressLimit, AddressLimits, ClientAddress};
pub use listener::Listener;
pub use log_throttle::LogThrottle;
pub use proxy_protocol::TrustedProxies;
pub use rejection::{HttpRejection, RejectionFields};
pub use serve::serve;
pub use service::{HttpService, interim_sender};
pub use shutdown::{Shutdown, ShutdownPhase};
pub use stats::NetStats;
pub use tls::{
    CertificateFiles, CertificateSummary, ChallengeCertificate, ChallengeCertificates, ClientAuth,
    ClientCertificate, Tls, TlsConfig, TlsError, TlsFiles, TlsMode, read_authorities,
};
pub use uploads::{OtherBody, OtherResponse, Routes, respond, serve_uploads};
