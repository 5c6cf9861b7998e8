//! Certificates, keys and versions of TLS.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

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
            use CipherSuite::{
                TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            };
            provider.cipher_suites.retain(|suite| {
                matches!(
                    suite.suite(),
                    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 | TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
                )
            });
        }
        provider
    }
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that link it to its authority, in PEM.
    pub chain: PathBuf,
    /// The private key of the certificate, unencrypted, in PEM.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads the certificate, and checks that the key belongs to it. Blocks.
    ///
    /// # Errors
    /// See [`TlsConfig::load`].
    pub fn inspect(&self) -> Result<CertificateSummary, TlsError> {
        let (_, summary) = certified_key(self, &ring::default_provider())?;
        Ok(summary)
    }
}

/// The names and the validity of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateSummary {
    /// Host names and IP addresses (subject alternative names).
    pub names: Vec<String>,
    /// When its validity starts.
    pub starts: SystemTime,
    /// When it expires.
    pub expires: SystemTime,
}

impl CertificateSummary {
    fn new(certificate: &X509Certificate<'_>) -> Self {
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let validity = certificate.validity();
        Self {
            names: names.filter_map(server_name).collect(),
            starts: system_time(validity.not_before),
            expires: system_time(validity.not_after),
        }
    }
}

fn server_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
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
    fn versions(&self) -> Vec<FileVersion> {
        let pairs = self.certificates.iter();
        let pairs = pairs.flat_map(|files| [&*files.chain, &*files.key]);
        let paths = pairs.chain(self.client_authorities.as_deref());
        let version = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((
                found.dev(),
                found.ino(),
                found.len(),
                found.modified().ok()?,
            ))
        };
        paths.map(version).collect()
    }
}

/// Device, inode, size and time of the last change; `None` if there is no file.
type FileVersion = Option<(u64, u64, u64, SystemTime)>;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TlsError {
    /// The path of the file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl TlsError {
    fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Certificates, keys and versions of TLS.
#[derive(Clone)]
pub struct TlsConfig {
    pub(super) server: Arc<ServerConfig>,
    pub(super) quic: Option<Arc<QuicServerConfig>>,
    files: TlsFiles,
    mode: TlsMode,
    read_files: Vec<FileVersion>,
    expires: SystemTime,
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
        // Before they are read, so that a change in the meantime is noticed.
        let read_files = files.versions();
        let provider = Arc::new(mode.provider());
        let pairs = files.certificates.iter();
        let certificates = pairs
            .map(|pair| certified_key(pair, &provider))
            .collect::<Result<Vec<_>, _>>()?;
        let first = files.certificates.first().map(|pair| &*pair.chain);
        let first = first.unwrap_or(Path::new(""));
        let expires = certificates
            .iter()
            .map(|(_, summary)| summary.expires)
            .min();
        let expires = expires.ok_or_else(|| TlsError::new(first, "there is no certificate"))?;
        let certificates = certificates.into_iter().map(|(key, _)| key).collect();

        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&mode.versions())
            .map_err(|error| TlsError::new(first, error))?;
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in read_certificates(path)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| TlsError::new(path, error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match files.client_auth {
                    ClientAuth::Required => verifier.build(),
                    ClientAuth::Optional => verifier.allow_unauthenticated().build(),
                };
                builder.with_client_cert_verifier(verifier.map_err(|e| TlsError::new(path, e))?)
            }
        };
        let mut server = builder.with_cert_resolver(Arc::new(CertificatesByName(certificates)));
        server.ticketer = ring::Ticketer::new().map_err(|error| TlsError::new(first, error))?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let quic = quic(&server);
        Ok(Self {
            server: Arc::new(server),
            quic,
            files,
            mode,
            read_files,
            expires,
        })
    }

    /// Returns when the first of the certificates expires.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    pub(super) fn changed_files(&self) -> Option<Vec<FileVersion>> {
        let now = self.files.versions();
        (now != self.read_files).then_some(now)
    }

    pub(super) fn set_read_files(&mut self, versions: Vec<FileVersion>) {
        self.read_files = versions;
    }

    pub(super) fn load_again(&self) -> Result<Self, TlsError> {
        Self::load(self.files.clone(), self.mode)
    }

    pub(super) fn keep_sessions_of(&mut self, earlier: &Self) {
        // A resumed session skips the check of the client's certificate.
        let authorities = [&self.files, &earlier.files].map(|files| &files.client_authorities);
        if authorities == [&None, &None] {
            let ticketer = earlier.server.ticketer.clone();
            let server = Arc::make_mut(&mut self.server);
            server.ticketer = ticketer;
            self.quic = quic(server);
        }
    }
}

/// The same for HTTP/3, unless TLS 1.3 is excluded.
fn quic(server: &ServerConfig) -> Option<Arc<QuicServerConfig>> {
    let mut server = server.clone();
    server.alpn_protocols = vec![b"h3".to_vec()];
    QuicServerConfig::try_from(server).ok().map(Arc::new)
}

fn certified_key(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<(Arc<CertifiedKey>, CertificateSummary), TlsError> {
    let chain = read_certificates(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| TlsError::new(&files.key, pem_reason(error, "there is no private key")))?;
    let in_chain = |reason: &dyn fmt::Display| TlsError::new(&files.chain, reason);
    let (_, parsed) = chain
        .first()
        .map(|first| X509Certificate::from_der(first))
        .transpose()
        .map_err(|error| in_chain(&error))?
        .ok_or_else(|| in_chain(&"there is no certificate"))?;
    let summary = CertificateSummary::new(&parsed);
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let chain = files.chain.display();
            TlsError::new(&files.key, format_args!("not the private key of {chain}"))
        }
        error => TlsError::new(&files.key, error),
    })?;
    Ok((Arc::new(key), summary))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = "there is no certificate";
    let failed = |error| TlsError::new(path, pem_reason(error, none));
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    match found.is_empty() {
        true => Err(TlsError::new(path, none)),
        false => Ok(found),
    }
}

fn pem_reason(error: pem::Error, none: &str) -> String {
    match error {
        pem::Error::NoItemsFound => none.to_owned(),
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "there is no such file".to_owned()
        }
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        error => format!("not valid PEM: {error}"),
    }
}

/// Chooses a certificate by the name that the client asks for (SNI, RFC 6066 section 3).
#[derive(Debug)]
struct CertificatesByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_owned);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let schemes = hello.signature_schemes();
        let can_sign = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let is_named = |key: &&Arc<CertifiedKey>| {
            let name = name.as_ref();
            name.is_some_and(|name| is_valid_for(key, name))
        };
        let usable = || self.0.iter().filter(can_sign);
        let chosen = usable().find(is_named).or_else(|| usable().next());
        chosen.or(self.0.first()).cloned()
    }
}

fn is_valid_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok();
    let parsed = certificate.and_then(|der| webpki::EndEntityCert::try_from(der).ok());
    parsed.is_some_and(|parsed| parsed.verify_is_valid_for_subject_name(name).is_ok())
}
