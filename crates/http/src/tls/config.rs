//! Certificates, keys and versions of TLS.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::certificate::{CertificateFiles, CertificateResolver, certified_key, read_authorities};
use super::challenge::{self, ChallengeCertificates};
use super::error::TlsError;

/// The versions of TLS and the ciphers that a server accepts, as tusd names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.2 with 256-bit AES-GCM.
    Tls12Strong,
    /// TLS 1.3.
    Tls13,
}

impl TlsMode {
    fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&version::TLS13, &version::TLS12],
            Self::Tls12Strong => vec![&version::TLS12],
            Self::Tls13 => vec![&version::TLS13],
        }
    }

    fn provider(self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        if self == Self::Tls12Strong {
            provider.cipher_suites.retain(|suite| {
                let name = suite.suite().as_str();
                name.is_some_and(|name| name.ends_with("_WITH_AES_256_GCM_SHA384"))
            });
        }
        provider
    }
}

/// The files that [`TlsConfig::load`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The first one that is valid for the name that a client asks for is used; the first one of all for
    /// other names, and for none.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities (PEM) of client certificates. With `None`, clients need and send none.
    pub client_authorities: Option<PathBuf>,
    /// Whether clients need a certificate of one of `client_authorities`.
    pub client_auth: ClientAuth,
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients without a valid certificate are rejected.
    #[default]
    Required,
    /// Clients may have none, but an invalid certificate is rejected.
    Optional,
}

impl TlsFiles {
    pub(super) fn versions(&self) -> Vec<FileVersion> {
        let pairs = self.certificates.iter();
        let pairs = pairs.flat_map(|files| [&*files.chain, &*files.key]);
        let paths = pairs.chain(self.client_authorities.as_deref());
        let version = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            let changed = found.modified().ok()?;
            Some((found.dev(), found.ino(), found.len(), changed))
        };
        paths.map(version).collect()
    }
}

/// Device, inode, size and time of the last change; `None` if there is no file.
type FileVersion = Option<(u64, u64, u64, SystemTime)>;

/// Certificates, keys and versions of TLS.
#[derive(Clone)]
pub struct TlsConfig {
    pub(super) server: Arc<ServerConfig>,
    pub(super) files: TlsFiles,
    mode: TlsMode,
    pub(super) read_files: Vec<FileVersion>,
    resolver: CertificateResolver,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

impl TlsConfig {
    /// Reads certificates and keys. Clients can choose HTTP/1.1 or HTTP/2 (ALPN).
    ///
    /// # Errors
    /// A file cannot be read, has no certificate or key, or a key belongs to another certificate.
    pub fn load(files: TlsFiles, mode: TlsMode) -> Result<Self, TlsError> {
        Self::build(files, mode, None, true)
    }

    /// Reads certificates that an ACME client obtains and replaces, and answers its TLS-ALPN-01 challenges.
    ///
    /// Certificates that are missing or cannot be used are left out: handshakes fail until
    /// [`Tls::reload_changed_files`](super::Tls::reload_changed_files) reads others.
    ///
    /// # Errors
    /// The file of client authorities cannot be used.
    pub fn load_obtained(
        files: TlsFiles,
        mode: TlsMode,
        challenges: ChallengeCertificates,
    ) -> Result<Self, TlsError> {
        Self::build(files, mode, Some(challenges), false)
    }

    fn build(
        files: TlsFiles,
        mode: TlsMode,
        challenges: Option<ChallengeCertificates>,
        needs_certificates: bool,
    ) -> Result<Self, TlsError> {
        // Before they are read, so that a change in the meantime is noticed.
        let read_files = files.versions();
        let provider = Arc::new(mode.provider());
        let pairs = files.certificates.iter();
        let certificates = pairs.map(|pair| certified_key(pair, &provider));
        let certificates = certificates.filter(|read| needs_certificates || read.is_ok());
        let certificates = certificates.map(|read| read.map(|(key, about)| (key, about.expires)));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let first = files.certificates.first().map(|pair| &*pair.chain);
        let first = first.unwrap_or(Path::new(""));
        if needs_certificates && certificates.is_empty() {
            return Err(TlsError::new(first, "there is no certificate"));
        }
        let resolver = CertificateResolver {
            certificates,
            challenges,
        };

        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&mode.versions())
            .map_err(|error| TlsError::new(first, error))?;
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(read_authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match files.client_auth {
                    ClientAuth::Required => verifier.build(),
                    ClientAuth::Optional => verifier.allow_unauthenticated().build(),
                };
                builder.with_client_cert_verifier(verifier.map_err(|e| TlsError::new(path, e))?)
            }
        };
        let mut server = builder.with_cert_resolver(Arc::new(resolver.clone()));
        server.ticketer = ring::Ticketer::new().map_err(|error| TlsError::new(first, error))?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if resolver.challenges.is_some() {
            server.alpn_protocols.push(challenge::PROTOCOL.to_vec());
        }
        Ok(Self {
            server: Arc::new(server),
            files,
            mode,
            read_files,
            resolver,
        })
    }

    /// Returns when the first of the certificates expires; `None` if none has been obtained yet.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        let certificates = self.resolver.certificates.iter();
        certificates.map(|(_, expires)| *expires).min()
    }

    pub(super) fn load_again(&self) -> Result<Self, TlsError> {
        let challenges = self.resolver.challenges.clone();
        Self::build(self.files.clone(), self.mode, challenges, true)
    }

    /// Keeps the sessions and challenges of an earlier configuration, and its certificates if there are no new
    /// ones.
    pub(super) fn continue_from(&mut self, earlier: &Self) {
        let server = Arc::make_mut(&mut self.server);
        // A resumed session skips the check of the client's certificate.
        let authorities = [&self.files, &earlier.files].map(|files| &files.client_authorities);
        if authorities == [&None, &None] {
            server.ticketer = earlier.server.ticketer.clone();
        }
        if earlier.resolver.challenges.is_some() {
            self.resolver.challenges = earlier.resolver.challenges.clone();
            if self.resolver.certificates.is_empty() {
                self.resolver.certificates = earlier.resolver.certificates.clone();
            }
            server.cert_resolver = Arc::new(self.resolver.clone());
        }
    }

    /// The same for HTTP/3, unless TLS 1.3 is excluded.
    pub(super) fn quic(&self) -> Option<QuicServerConfig> {
        let mut server = (*self.server).clone();
        server.alpn_protocols = vec![b"h3".to_vec()];
        QuicServerConfig::try_from(server).ok()
    }
}
