//! Certificates of a server from an ACME authority (RFC 8555) such as Let's Encrypt.
//!
//! [`Acme::run`] orders a certificate for all names, renews it, and gives it to the server's [`Tls`]. A failure leaves
//! the certificate in force, and is tried again with an exponential backoff (`schedule`).
//!
//! The certificate is in a file of a [`FolderStore`], which the server reads like any other. Nodes that share a
//! [`DatabaseStore`] copy it from there, so that each can start without the database. One process has the
//! lease and orders; the others answer its [`Challenges`], because the authority may reach any of them.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod certificate;
mod challenge;
mod client;
mod error;
mod order;
mod renewal;
mod schedule;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use landfall_http::Tls;
use tokio::time::{Instant, sleep};

pub use self::challenge::{ChallengeMethod, Challenges};
use self::client::Client;
use self::renewal::Renewal;
use self::store::{CertificateStore, POLL_INTERVAL};
pub use self::store::{DatabaseStore, FolderStore, migrate};

/// The interval at which a process tries to acquire the lease: the one that has it may have stopped.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(10);

/// An unavailable store is logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(600);

/// The names of a certificate, and the authority that issues it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The host names, all in one certificate.
    pub names: Vec<String>,
    /// The URL of the authority's directory.
    pub directory: String,
    /// The challenge types to try, in this order.
    pub methods: Vec<ChallengeMethod>,
}

/// Times of orders, for metrics.
#[derive(Debug, Default)]
pub struct AcmeStats {
    /// When this process last obtained a certificate, in seconds since 1970; 0 if it has not.
    pub last_success: AtomicU64,
    /// When it last failed to.
    pub last_failure: AtomicU64,
}

impl AcmeStats {
    fn record(time: &AtomicU64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        time.store(now.unwrap_or_default().as_secs(), Ordering::Relaxed);
    }
}

/// Obtains and renews a certificate. Clones share their state.
#[derive(Clone, Debug)]
pub struct Acme {
    settings: Arc<AcmeSettings>,
    client: Client,
    folder: FolderStore,
    store: Arc<dyn CertificateStore>,
    challenges: Challenges,
    stats: Arc<AcmeStats>,
}

impl Acme {
    /// Creates a client that stores the certificate in `folder`, and everything in `shared` if nodes share it.
    ///
    /// # Errors
    /// The root certificates of the system cannot be read.
    pub fn new(
        settings: AcmeSettings,
        challenges: Challenges,
        folder: FolderStore,
        shared: Option<DatabaseStore>,
    ) -> Result<Self, String> {
        let store: Arc<dyn CertificateStore> = match shared {
            Some(shared) => Arc::new(shared),
            None => Arc::new(folder.clone()),
        };
        Ok(Self {
            client: Client::new()?,
            settings: Arc::new(settings),
            folder,
            store,
            challenges,
            stats: Arc::default(),
        })
    }

    /// Returns the challenges that the server answers.
    #[must_use]
    pub fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Returns the times of orders.
    #[must_use]
    pub fn stats(&self) -> &AcmeStats {
        &self.stats
    }

    /// Keeps the certificate valid until the future is dropped.
    ///
    /// # Cancel safety
    /// Dropped, the lease is released; an order that has started is lost.
    pub async fn run(self, tls: Tls) {
        let mut renewal = Renewal::new(&self, &tls);
        let (mut acquired, mut logged) = (None, None);
        let is_over = |time: Option<Instant>, span| time.is_none_or(|time| time.elapsed() >= span);
        loop {
            let mut lease = Ok(None);
            if is_over(acquired, ACQUIRE_INTERVAL) {
                acquired = Some(Instant::now());
                lease = self.store.acquire().await;
            }
            let outcome = match lease {
                Ok(Some(lease)) => renewal.lead(&*lease).await,
                Ok(None) => renewal.follow().await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome
                && is_over(logged, LOG_INTERVAL)
            {
                logged = Some(Instant::now());
                tracing::error!(%error, "certificates cannot be renewed; the earlier one stays in force");
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
