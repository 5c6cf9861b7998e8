//! Messages from Landfall to an application: blocking hook calls and events.
//!
//! A [`Message`] has tusd's fields, an id and a sequence number, however it travels. A
//! [`Transport`] brings it to the application and returns a [`HookResponse`]; it does nothing else.
//! The transports are in `landfall-hooks`; retries, ordering, counting and logging are outside of
//! them.
//!
//! [`BlockingHooks`] implements [`Hook`](landfall::hook::Hook): it calls a transport directly, and a
//! call that fails denies the request or allows it, by [`FailureMode`]. [`ProgressNotifier`] sends
//! progress, best effort: newer progress replaces progress that waits. All other events go through
//! the outbox of `landfall-state`, which stores them and delivers them at least once.
//!
//! Events are stored, retried for days and published to brokers. They carry a built-in list of request
//! headers, and to a transport those that it names ([`EventHeaders`]); blocking hooks carry all.
//!
//! Start reading at `message/mod.rs` and `transport.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blocking;
mod creations;
mod message;
mod progress_notifier;
mod response;
mod response_json;
mod transport;

pub use self::{
    blocking::{BlockingHooks, FailureMode},
    creations::Creations,
    message::{
        EventHeaders, HookName, HookNames, JobData, Message, MessageId, RedactedHeaders,
        RequestData, TraceContext, UnknownName, UploadData, contains_secret, rfc3339,
    },
    progress_notifier::{ProgressNotifier, ProgressStats, Route},
    response::{HookResponse, InvalidUploadId, UploadChanges},
    response_json::{UnknownResponse, media_type, require_identity, response_json, without_mark},
    transport::{DeliveryError, Transport, error_chain},
};
