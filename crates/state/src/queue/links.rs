//! Upload links: secrets that let anyone upload files within limits, as file requests of other services do.
//!
//! A link is no API key: its holder may request grants and nothing else, and a node that does not know links rejects
//! it. Its jobs have a subject that cannot be guessed. The grant checks the link in its transaction
//! (`UnitOfWork`), so a revoked link grants nothing, and concurrent grants do not exceed the number of files.
//!
//! Never sees the secret, only its hash.

use std::time::SystemTime;

use super::{GrantLimits, Queue, QueueError, TokenHash, record::json};
use crate::sql::{Row, Statement, from_unix_millis, replace_nul, unix_millis, unsigned};

/// The failed, cancelled and expired jobs do not count.
const SELECT: &str = "SELECT l.number, l.name, l.subject, l.limits, l.max_files, l.created_at, l.expires_at, l.used_at, \
     l.files - (SELECT COUNT(*) FROM queue_jobs AS j WHERE j.subject = l.subject AND j.state IN (4, 5, 6)) AS files \
     FROM queue_links AS l";

/// An upload link.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UploadLink {
    /// Its number, for `landfall link revoke`.
    pub id: i64,
    /// Its name, which people see.
    pub name: String,
    /// The subject of its jobs.
    pub subject: String,
    /// The limits of each upload.
    pub limits: GrantLimits,
    /// Maximum number of files.
    pub max_files: Option<u64>,
    /// The number of files: granted, running and completed uploads.
    pub files: u64,
    /// Time of creation.
    pub created_at: SystemTime,
    /// Time of expiry, if any.
    pub expires_at: Option<SystemTime>,
    /// Time of the last grant.
    pub used_at: Option<SystemTime>,
}

/// A new upload link.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "see `UploadLink`")]
pub struct NewLink {
    pub hash: TokenHash,
    pub name: String,
    pub limits: GrantLimits,
    pub max_files: Option<u64>,
    pub expires_at: Option<SystemTime>,
}

impl UploadLink {
    /// Maximum length of the name in bytes: the subject has the name and part of the hash in 255 bytes.
    pub const MAX_NAME_LEN: usize = 200;
}

impl Queue {
    /// Stores an upload link.
    ///
    /// # Errors
    /// The database failed, a link with this hash exists, or the name is longer than 200 bytes.
    ///
    /// # Cancel safety
    /// If it is dropped, the link may be stored.
    pub async fn add_link(&self, link: NewLink) -> Result<UploadLink, QueueError> {
        if link.name.len() > UploadLink::MAX_NAME_LEN {
            return Err(QueueError::TooLong("the name of the link"));
        }
        let name = replace_nul(&link.name);
        let (part, _) = link.hash.as_str().split_at(16);
        let insert = Statement::new(
            "INSERT INTO queue_links (hash, name, subject, limits, max_files, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .with(link.hash.as_str())
        .with(name.as_str())
        .with(format!("{name} (link {part})"))
        .with(json(&link.limits))
        .with(link.max_files.map(crate::sql::signed))
        .with(unix_millis(self.now()))
        .with(link.expires_at.map(unix_millis));
        self.read(|shared| async move { Ok(shared.database.execute(insert).await?) })
            .await?;
        let added = self.link(&link.hash).await?;
        added.ok_or_else(|| QueueError::InvalidRow("inserted link not returned".into()))
    }

    /// Returns all upload links, oldest first.
    pub async fn links(&self) -> Result<Vec<UploadLink>, QueueError> {
        let statement = format!("{SELECT} ORDER BY l.number");
        let rows = self.rows(Statement::new(statement)).await?;
        rows.iter().map(read).collect()
    }

    /// Returns the upload link with this hash, also if it has expired.
    pub async fn link(&self, hash: &TokenHash) -> Result<Option<UploadLink>, QueueError> {
        let statement = Statement::new(format!("{SELECT} WHERE l.hash = $1")).with(hash.as_str());
        let rows = self.rows(statement).await?;
        rows.first().map(read).transpose()
    }

    /// Revokes the upload link with this number. Returns whether there was one.
    ///
    /// Uploads that were granted before continue.
    pub async fn revoke_link(&self, id: i64) -> Result<bool, QueueError> {
        let statement = Statement::new("DELETE FROM queue_links WHERE number = $1").with(id);
        self.read(|shared| async move { Ok(shared.database.execute(statement).await? > 0) })
            .await
    }
}

fn read(row: &Row) -> Result<UploadLink, QueueError> {
    let id = row.number("number")?;
    let limits = serde_json::from_str(&row.text("limits")?)
        .map_err(|error| QueueError::InvalidRow(format!("link {id}: {error}")))?;
    Ok(UploadLink {
        id,
        name: row.text("name")?,
        subject: row.text("subject")?,
        limits,
        max_files: row.opt_number("max_files")?.map(unsigned),
        files: unsigned(row.number("files")?),
        created_at: from_unix_millis(row.number("created_at")?),
        expires_at: row.opt_number("expires_at")?.map(from_unix_millis),
        used_at: row.opt_number("used_at")?.map(from_unix_millis),
    })
}

/// The state of a link that a grant checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadedLink {
    pub(super) max_files: Option<i64>,
    /// Without those granted in this transaction.
    pub(super) files: i64,
    pub(super) expires_at: Option<i64>,
    /// Grants of this transaction.
    pub(super) granted: i64,
}

/// Selects the links of grants. On PostgreSQL they are locked, in one order against deadlocks.
pub(super) fn by_numbers(numbers: &[i64], is_postgres: bool) -> Statement {
    let mut statement =
        Statement::new(format!("{SELECT} WHERE l.number IN ")).list(numbers.iter().copied());
    statement.push(" ORDER BY l.number");
    if is_postgres {
        statement.push(" FOR UPDATE OF l");
    }
    statement
}

impl LoadedLink {
    pub(super) fn read(row: &Row) -> Result<Self, QueueError> {
        Ok(Self {
            max_files: row.opt_number("max_files")?,
            files: row.number("files")?,
            expires_at: row.opt_number("expires_at")?,
            granted: 0,
        })
    }
}
