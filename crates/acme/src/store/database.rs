//! Account, certificate and challenges of one ACME directory in a database row, for nodes that share them.
//!
//! The lease is in the same row, and each write requires its owner: a node whose lease another node has acquired stores
//! nothing. Reads need no lease. Acquiring the lease migrates the table, since the database may be down at the start.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use landfall_state::sql::{Connections, DatabaseError, Migration, RowLease, RowLeases, Statement};
use tokio::sync::OnceCell;

use super::{CertificateStore, OrderLease, StoreError, Stored, Value};

const TABLES: &str = "acme";
const MIGRATIONS: &[Migration] = &[Migration::expand(
    include_str!("../../migrations/0001-acme.sql"),
    include_str!("../../migrations/0001-acme.sql"),
)];
const LEASE_TTL: Duration = Duration::from_secs(60);

/// Migrates the tables of certificates.
///
/// # Errors
/// See [`Connections::migrate`].
///
/// # Cancel safety
/// Dropped, either all or no migrations were applied.
pub async fn migrate(database: &Connections) -> Result<(), DatabaseError> {
    database.migrate(TABLES, MIGRATIONS).await
}

/// A database that several nodes share: one orders, all use the certificate and answer challenges.
#[derive(Clone, Debug)]
pub struct DatabaseStore {
    connections: Connections,
    leases: RowLeases,
    id: String,
    has_row: Arc<OnceCell<()>>,
}

impl DatabaseStore {
    /// Creates a store for one ACME directory.
    #[must_use]
    pub fn new(connections: Connections, directory: &str) -> Self {
        Self {
            leases: RowLeases::new(connections.clone(), "acme_certificates", LEASE_TTL),
            connections,
            id: directory.to_owned(),
            has_row: Arc::default(),
        }
    }

    async fn create_row(&self) -> Result<(), StoreError> {
        migrate(&self.connections).await?;
        let insert = "INSERT INTO acme_certificates (id, challenges, lease_expires_at) \
                      VALUES ($1, '[]', 0) ON CONFLICT (id) DO NOTHING";
        let insert = Statement::new(insert).with(&*self.id);
        self.execute(insert).await.map(drop)
    }

    async fn execute(&self, statement: Statement) -> Result<u64, StoreError> {
        let connections = self.connections.clone();
        let execute = async move { connections.execute(statement).await };
        Ok(self.connections.run_in_time(execute).await?)
    }
}

#[async_trait]
impl CertificateStore for DatabaseStore {
    async fn acquire(&self) -> Result<Option<Box<dyn OrderLease>>, StoreError> {
        // The database may have been unavailable at the start.
        self.has_row.get_or_try_init(|| self.create_row()).await?;
        let lease = self.leases.acquire(&self.id).await?;
        let store = self.clone();
        let lease = lease.map(|lease| DatabaseLease { store, lease });
        Ok(lease.map(|lease| Box::new(lease) as Box<dyn OrderLease>))
    }

    async fn get(&self) -> Result<Stored, StoreError> {
        let statement =
            "SELECT account, certificate, challenges FROM acme_certificates WHERE id = $1";
        let statement = Statement::new(statement).with(&*self.id);
        let connections = self.connections.clone();
        let read = async move { connections.read(statement).await };
        let rows = self.connections.run_in_time(read).await?;
        let Some(row) = rows.first() else {
            return Ok(Stored::default());
        };
        let challenges = serde_json::from_str(&row.text("challenges")?);
        let challenges =
            challenges.map_err(|error| DatabaseError::InvalidRow(error.to_string()))?;
        Ok(Stored {
            account: row.opt_text("account")?,
            certificate: row.opt_text("certificate")?,
            challenges,
        })
    }
}

#[derive(Debug)]
struct DatabaseLease {
    store: DatabaseStore,
    lease: RowLease,
}

#[async_trait]
impl OrderLease for DatabaseLease {
    fn is_held(&self) -> bool {
        self.lease.is_held()
    }

    async fn store(&self, value: Value<'_>) -> Result<(), StoreError> {
        let (column, text) = match value {
            Value::Account(text) => ("account", text.to_owned()),
            Value::Certificate(text) => ("certificate", text.to_owned()),
            Value::Challenges(challenges) => {
                let text = serde_json::to_string(challenges);
                let text = text.map_err(|error| DatabaseError::InvalidRow(error.to_string()))?;
                ("challenges", text)
            }
        };
        let statement = format!(
            "UPDATE acme_certificates SET {column} = $1 WHERE id = $2 AND lease_owner = $3"
        );
        let statement = Statement::new(statement)
            .with(text)
            .with(&*self.store.id)
            .with(self.lease.owner());
        match self.store.execute(statement).await? {
            0 => Err(StoreError::LeaseLost),
            _ => Ok(()),
        }
    }
}
