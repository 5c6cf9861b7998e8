//! The HTTP API, as its clients use it.

mod clouds;
mod companion;
mod cors;
mod docs;
mod grants;
mod harness;
mod hooks;
mod notifications;
mod presign;
mod secrets;
mod sign_s3;
mod unavailable;
