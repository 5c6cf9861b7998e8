//! The sweeper, on real services.

mod completion;
mod costs;
mod crashes;
mod finds;
pub(crate) mod harness;
