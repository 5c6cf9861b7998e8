//! Certificates in Redis, where leases are.

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use landfall::BoxError;
use landfall_acme::{Document, MAX_DOCUMENT_BYTES, SharedDocument, SharedStore};
use landfall_redis::{RedisLocker, RedisSettings};

use super::LEASE_TTL;

const VALUE: &str = "certificate";

/// Opens the store of an ACME directory.
///
/// It has its own leases, so no request for an upload can name its lease.
pub(super) fn open(url: &str, directory: &str) -> anyhow::Result<SharedStore> {
    let locker = locker(url, directory)?;
    Ok(SharedStore::document(locker.clone(), RedisDocument(locker)))
}

pub(super) fn locker(url: &str, directory: &str) -> anyhow::Result<RedisLocker> {
    let mut options = RedisSettings::default();
    options.prefix = format!("{}acme:{directory}:", options.prefix);
    options.ttl = LEASE_TTL;
    RedisLocker::new(url, options).context("--lease")
}

/// A value that a script replaces.
#[derive(Clone, Debug)]
pub(super) struct RedisDocument(pub(super) RedisLocker);

#[async_trait]
impl SharedDocument for RedisDocument {
    async fn get(&self) -> Result<Option<Document>, BoxError> {
        let bytes = self.0.get_value(VALUE, MAX_DOCUMENT_BYTES + 1).await?;
        Ok(bytes.map(|bytes| Document {
            bytes: bytes.into(),
            version: String::new(),
        }))
    }

    async fn replace(&self, old: Option<&Document>, new: Bytes) -> Result<bool, BoxError> {
        let old = old.map(|old| &*old.bytes);
        Ok(self.0.replace_value(VALUE, old, &new).await?)
    }
}
