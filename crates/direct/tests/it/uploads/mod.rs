//! The operations of direct uploads, on Garage and moto.

mod client_keys;
mod completion;
mod create;
mod faults;
mod finishing;
pub(crate) mod harness;
mod nodes;
mod presign;
mod script;
