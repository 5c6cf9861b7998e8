//! TLS of a listener, by rustls.
//!
//! There is no early data (0-RTT): a replayed request would repeat its effect (RFC 8470).

mod certificate;
mod challenge;
mod client_certificate;
mod config;
mod error;
mod stream;

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;

pub use certificate::{CertificateFiles, CertificateSummary, read_authorities};
pub use challenge::{ChallengeCertificate, ChallengeCertificates};
pub use client_certificate::ClientCertificate;
pub use config::{ClientAuth, TlsConfig, TlsFiles, TlsMode};
pub use error::TlsError;
pub(super) use stream::TlsStream;

/// TLS of one or more [`Listener`](super::Listener)s. Clones share their configuration.
#[derive(Clone, Debug)]
pub struct Tls(Arc<RwLock<TlsConfig>>);

impl Tls {
    /// TLS with this configuration.
    #[must_use]
    pub fn new(config: TlsConfig) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Sets the configuration of later connections. Sessions of earlier ones can still be resumed, unless
    /// clients need certificates.
    pub fn replace(&self, mut config: TlsConfig) {
        let mut current = self.0.write();
        config.continue_from(&current);
        *current = config;
    }

    /// Reads the files of the configuration again if one of them has changed, and returns whether. Blocks.
    ///
    /// # Errors
    /// See [`TlsConfig::load`]. The configuration stays as it was, and the same files are not read again.
    pub fn reload_changed_files(&self) -> Result<bool, TlsError> {
        let current = self.config();
        let versions = current.files.versions();
        if versions == current.read_files {
            return Ok(false);
        }
        let loaded = current.load_again();
        loaded
            .inspect_err(|_| self.0.write().read_files = versions)
            .map(|config| {
                self.replace(config);
                true
            })
    }

    /// Returns the current configuration.
    #[must_use]
    pub fn config(&self) -> TlsConfig {
        self.0.read().clone()
    }

    /// Returns the configuration of QUIC, or `None` without TLS 1.3.
    pub(super) fn quic_config(&self) -> Option<Arc<dyn quinn::crypto::ServerConfig>> {
        let config = self.0.read().quic()?;
        Some(Arc::new(config))
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        self.0.read().server.clone()
    }
}
