//! Certificates in files, and the choice between them.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

use super::challenge::{self, ChallengeCertificates};
use super::error::TlsError;

const NO_CERTIFICATE: &str = "there is no certificate";

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
    /// See [`TlsConfig::load`](super::TlsConfig::load).
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

pub(super) fn certified_key(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<(Arc<CertifiedKey>, CertificateSummary), TlsError> {
    let chain = read_certificates(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| TlsError::new(&files.key, pem_reason(error, "there is no private key")))?;
    let in_chain = |reason: &dyn fmt::Display| TlsError::new(&files.chain, reason);
    let first = chain.first().ok_or_else(|| in_chain(&NO_CERTIFICATE))?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|error| in_chain(&error))?;
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

/// Reads the certificates of authorities (PEM). Blocks.
///
/// # Errors
/// The file cannot be read, has no certificate, or one that is not valid.
pub fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::new(path, error))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::new(path, pem_reason(error, NO_CERTIFICATE));
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    match found.is_empty() {
        true => Err(TlsError::new(path, NO_CERTIFICATE)),
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
#[derive(Clone, Debug)]
pub(super) struct CertificateResolver {
    /// With the times when they expire.
    pub(super) certificates: Vec<(Arc<CertifiedKey>, SystemTime)>,
    pub(super) challenges: Option<ChallengeCertificates>,
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(challenges) = &self.challenges
            && challenge::is_validation(&hello)
        {
            return challenges.get(hello.server_name());
        }
        let name = hello.server_name().map(str::to_owned);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let schemes = hello.signature_schemes();
        let can_sign = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let is_named = |key: &&Arc<CertifiedKey>| {
            let name = name.as_ref();
            name.is_some_and(|name| is_valid_for(key, name))
        };
        let all = || self.certificates.iter().map(|(key, _)| key);
        let usable = || all().filter(can_sign);
        let chosen = usable().find(is_named).or_else(|| usable().next());
        chosen.or(all().next()).cloned()
    }
}

fn is_valid_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok();
    let parsed = certificate.and_then(|der| webpki::EndEntityCert::try_from(der).ok());
    parsed.is_some_and(|parsed| parsed.verify_is_valid_for_subject_name(name).is_ok())
}
