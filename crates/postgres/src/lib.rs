//! Leases in PostgreSQL, for several Landfall nodes that write to one store.
//!
//! [`PostgresLocker`] implements [`landfall::lease::Locker`]: a node acquires the lease of an upload
//! before it writes, by one statement, and releases it by another. A node can take over an upload
//! from any other. See the type for costs, fencing tokens, and an unavailable PostgreSQL.
//!
//! A lease is a row of the table `leases` (`leases.rs`), and the database's clock decides whether it
//! has expired. One thread per locker renews all leases of the node in one
//! statement, sends releases, and receives the notifications of other nodes (`renewer.rs`).
//!
//! Limits: `LISTEN` needs a session, so PgBouncer works in session mode only. A failover to a
//! standby that lags behind may lose leases; the store then rejects the older fence.
//!
//! ```no_run
//! use landfall::{Composer, store::file::FileStore};
//! use landfall_postgres::{PostgresLocker, PostgresSettings};
//!
//! # fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://landfall@127.0.0.1/landfall";
//! let locker = PostgresLocker::new(url, PostgresSettings::default())?;
//! let composer = Composer::join(FileStore::new("/srv/uploads")?).with_locker(locker);
//! # Ok(()) }
//! ```

mod leases;
mod locker;
mod renewer;
mod settings;

pub use self::{
    locker::PostgresLocker,
    settings::{PostgresSettings, SettingsError},
};
pub use landfall::lease::remote::LeaseStats;
pub use landfall_state::sql::DatabaseError;
