//! The store of an account, its certificate and challenges, which several processes may share.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod database;
mod document;
mod folder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use landfall::lease::Locker;
use landfall_database::Connections;
use serde::{Deserialize, Serialize};

pub use self::database::migrate;
pub use self::document::{Document, MAX_DOCUMENT_BYTES, SharedDocument};
pub use self::folder::FolderStore;
use self::{database::DatabaseStore, document::DocumentStore};
use crate::challenge::Challenge;
pub(crate) use crate::error::StoreError;

/// The stored values.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
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

/// A store that several nodes share: one orders, all use the certificate and answer challenges.
#[derive(Clone, Debug)]
pub struct SharedStore(pub(crate) Arc<dyn CertificateStore>);

impl SharedStore {
    /// Creates a store in a database, for one ACME directory.
    #[must_use]
    pub fn database(connections: Connections, directory: &str) -> Self {
        Self(Arc::new(DatabaseStore::new(connections, directory)))
    }

    /// Creates a store in a document, for one ACME directory.
    ///
    /// The locker must be for this document only: the id of its lease is always the same.
    #[must_use]
    pub fn document(locker: impl Locker, document: impl SharedDocument) -> Self {
        Self(Arc::new(DocumentStore::new(locker, document)))
    }
}

/// The interval at which processes read what the one with the lease has stored.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(2);
