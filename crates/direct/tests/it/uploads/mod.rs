//! What is done with direct uploads, on Garage and moto.

mod ends;
mod faults;
mod finishing;
mod nodes;
mod opening;
mod own;
mod script;
mod sending;
pub(crate) mod site;
