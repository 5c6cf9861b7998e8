//! The connections to a database.

mod database;
mod leases;
