//! Conformance checks for upload servers: tus 1.0.0 and the IETF draft "Resumable Uploads for HTTP".
//!
//! Each [`Check`] verifies one requirement of a specification over HTTP, and knows nothing else of the server. [`run`]
//! runs the checks that [`Options`] select, and removes the uploads that they made. [`cli`] is the command line.
//!
//! - `check`: the types of the table. `checks`: the table, a file for each chapter of a specification.
//! - `dialect`: the interop version of the draft, detected once per run.
//! - `profile`: documented choices of servers.
//! - `client`: a client of HTTP/1.1, 2 and 3 that can violate the protocol and end connections at any byte.
//! - `context`: the requests that checks share.
//! - `report`: text, JSON, JUnit and badge.
//! - [`proxy`]: what proxies in front of a server change, with advice.

mod capabilities;
mod check;
mod checks;
mod cleanup;
pub mod cli;
mod client;
mod context;
mod dialect;
mod options;
mod profile;
pub mod proxy;
pub mod report;
mod requirement;
mod runner;

pub use self::capabilities::Capabilities;
pub use self::check::{Check, Group};
pub use self::checks::groups;
pub use self::cleanup::CleanupResult;
pub use self::client::ClientError;
pub use self::context::Context;
pub use self::options::{HttpVersion, InteropVersion, Options};
pub use self::profile::{PROFILES, Profile};
pub use self::requirement::{Capability, CheckResult, Finding, Level, Protocol};
pub use self::runner::{CheckOutcome, Report, run};
