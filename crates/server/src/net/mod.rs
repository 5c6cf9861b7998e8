//! The HTTP edge: sockets in, [`tower_service::Service`] calls out.
//!
//! [`serve`] accepts connections on any number of [`Listener`]s and speaks HTTP/1.1, HTTP/1.0 and,
//! when [`Limits::http2`] is on, HTTP/2 with prior knowledge on the same port. It knows nothing of
//! uploads. What it adds to hyper:
//!
//! * **Timers** for heads, idle connections, bodies and writes, and a minimum rate. One sweeping
//!   task looks at all connections once a tick, so that a request costs no clock read, no timer and
//!   no lock (`watch`).
//! * **Limits of each client address** (`addresses`), so that one client leaves room for others.
//! * **A guard** that reads each HTTP/1 head before hyper does and refuses what two parsers could
//!   read in two ways (`guard`), because hyper keeps no trace of some of these shapes.
//! * **A lingering close**, so that an answer given before the end of a request body reaches the
//!   client instead of being destroyed by a TCP reset.
//! * **A shutdown in steps**: no new connections, a grace time, then every body still being read
//!   ends with [`BodyError::ShuttingDown`] so that the service can keep what it has.
//!
//! How a request passes: `Wire` (socket, timers, guard) → hyper → `Edge` (checks of the head) →
//! the service, with a [`Body`] and a [`ConnectionInfo`] in the request's extensions.

mod addresses;
mod body;
mod driver;
mod edge;
mod guard;
mod handover;
mod info;
mod limits;
mod listener;
mod refusal;
mod serve;
mod shutdown;
mod stats;
mod stream;
mod turns;
mod watch;
mod wire;
mod workers;

pub use addresses::{AddressLimits, ClientAddress};
pub use body::{Body, BodyError};
pub use guard::{Guard, Passed};
pub use info::{ConnectionInfo, Endpoint};
pub use limits::Limits;
pub use listener::Listener;
pub use refusal::Refusal;
pub use serve::serve;
pub use shutdown::{Shutdown, Step};
pub use stats::NetStats;
