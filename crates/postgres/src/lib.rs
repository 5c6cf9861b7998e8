//! A lease backend on PostgreSQL, for several Landfall nodes that write to one store.
//!
//! [`PostgresLocker`] implements [`landfall::lease::Locker`]. A node can take over an upload from
//! any other, with two statements per request. See the type for costs and for what happens when
//! PostgreSQL is unavailable.

mod locker;
mod renewer;
mod settings;

pub use self::{
    locker::PostgresLocker,
    settings::{PostgresSettings, SettingsError},
};
pub use landfall::lease::remote::LeaseStats;
pub use landfall_database::DatabaseError;
