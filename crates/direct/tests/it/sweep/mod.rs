//! The sweeper, on real services.

mod costs;
mod ends;
mod finds;
mod kills;
pub(crate) mod site;
