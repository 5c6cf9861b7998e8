//! Leases in PostgreSQL, for several Landfall nodes that write to one store.
//!
//! [`PostgresLocker`] implements [`landfall::lease::Locker`]. A node can take any upload over from any
//! other, with two statements for each request. The type says what a lease costs, and what happens
//! when PostgreSQL is not available.

mod keeper;
mod locker;
mod settings;

pub use self::{
    locker::PostgresLocker,
    settings::{PostgresSettings, SettingsError},
};
pub use landfall::lease::remote::LeaseStats;
pub use landfall_database::DatabaseError;
