use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use landfall_database::{Connections, DatabaseError, Migration, RowLease, RowLeases, Statement};

use tokio::sync::OnceCell;

use super::{CertificateStore, OrderLease, StoreError, Stored};
use crate::challenge::Challenge;

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
    /// Opens the store of an ACME directory.
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
        self.execute(insert).await
    }

    async fn update(&self, column: &str, value: &str) -> Result<(), StoreError> {
        let statement = format!("UPDATE acme_certificates SET {column} = $1 WHERE id = $2");
        let statement = Statement::new(statement).with(value).with(&*self.id);
        self.execute(statement).await
    }

    async fn execute(&self, statement: Statement) -> Result<(), StoreError> {
        let connections = self.connections.clone();
        let execute = async move { connections.execute(statement).await };
        self.connections.run_in_time(execute).await.map(drop)?;
        Ok(())
    }
}

#[async_trait]
impl CertificateStore for DatabaseStore {
    async fn acquire(&self) -> Result<Option<Box<dyn OrderLease>>, StoreError> {
        // The database may have been unavailable at the start.
        self.has_row.get_or_try_init(|| self.create_row()).await?;
        let lease = self.leases.acquire(&self.id).await?;
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

    async fn put_account(&self, account: &str) -> Result<(), StoreError> {
        self.update("account", account).await
    }

    async fn put_certificate(&self, certificate: &str) -> Result<(), StoreError> {
        self.update("certificate", certificate).await
    }

    async fn put_challenges(&self, challenges: &[Challenge]) -> Result<(), StoreError> {
        let text = serde_json::to_string(challenges);
        let text = text.map_err(|error| DatabaseError::InvalidRow(error.to_string()))?;
        self.update("challenges", &text).await
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl OrderLease for RowLease {
    fn is_held(&self) -> bool {
        Self::is_held(self)
    }
}
