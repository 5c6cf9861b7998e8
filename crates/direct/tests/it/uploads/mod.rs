//! What is done with direct uploads, on Garage and moto.

mod ends;
mod nodes;
mod opening;
mod own;
mod sending;
pub(crate) mod site;
