//! The store of an account, its certificate and challenges, which several processes may share.

mod database;
mod folder;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use self::database::{DatabaseStore, migrate};
pub use self::folder::FolderStore;
use crate::challenge::Challenge;
pub(crate) use crate::error::StoreError;

/// The stored values.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The account's URL and key, as JSON.
    pub(crate) account: Option<String>,
    /// Chain and key in PEM.
    pub(crate) certificate: Option<String>,
    /// Challenges that are answered now.
    pub(crate) challenges: Vec<Challenge>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").finish_non_exhaustive()
    }
}

/// A value that replaces the earlier one.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Account(&'a str),
    Certificate(&'a str),
    /// They replace all others.
    Challenges(&'a [Challenge]),
}

/// The exclusive right to order certificates; it ends when dropped.
#[async_trait]
pub(crate) trait OrderLease: fmt::Debug + Send + Sync {
    /// Returns whether no other process can have acquired it.
    fn is_held(&self) -> bool;

    /// Stores a value, unless another process has acquired the lease since.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or the storage fails.
    async fn store(&self, value: Value<'_>) -> Result<(), StoreError>;
}

/// A store of an account, its certificate and challenges.
///
/// # Errors
/// All methods fail if the storage fails.
#[async_trait]
pub(crate) trait CertificateStore: fmt::Debug + Send + Sync {
    /// Acquires the lease; `None` if another process has it.
    async fn acquire(&self) -> Result<Option<Box<dyn OrderLease>>, StoreError>;

    /// Returns the stored values.
    async fn get(&self) -> Result<Stored, StoreError>;

    /// Returns whether processes of other machines answer challenges.
    fn is_shared(&self) -> bool {
        true
    }
}

/// The interval at which processes read what the one with the lease has stored.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(2);
