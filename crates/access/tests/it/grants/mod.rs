//! The grant API and the enforcement of grants, on real databases.

mod api;
mod enforce;
