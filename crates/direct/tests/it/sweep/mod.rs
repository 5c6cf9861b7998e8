//! The sweeper, on real services.

mod ends;
mod finds;
mod kills;
pub(crate) mod site;
