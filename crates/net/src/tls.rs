//! TLS of outgoing connections: which certificates of servers are accepted.

use std::{env, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::verifier::Verifier;

/// Returns the certificates of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or else those of the system.
///
/// # Errors
/// They `are_needed`, and there is none.
pub fn system_certificates(are_needed: bool) -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() || !are_needed {
        return Ok(roots);
    }
    let reason = match found.errors.first() {
        Some(error) => format!("no root certificates found: {error}"),
        None => "no root certificates found; install ca-certificates, or set SSL_CERT_FILE".into(),
    };
    let variables = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
    let variables =
        variables.map(|name| env::var(name).map(|value| format!(" ({name} is {value})")));
    let set: String = variables.into_iter().flatten().collect();
    Err(io::Error::other(reason + &set))
}

/// Returns the certificates in a file (PEM).
///
/// # Errors
/// The file cannot be read, or has none.
pub fn certificates_in(path: &Path) -> io::Result<RootCertStore> {
    let read = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    // A bundle of many may have some that rustls does not take.
    roots.add_parsable_certificates(read);
    match roots.is_empty() {
        true => Err(io::Error::other("it has no valid certificate in PEM")),
        false => Ok(roots),
    }
}

/// Creates a configuration of TLS that trusts `roots`.
///
/// # Errors
/// None of rustls's default protocol versions is compiled in.
pub fn client_config(roots: RootCertStore) -> io::Result<ClientConfig> {
    let builder = builder(&provider())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Creates a configuration of TLS that accepts any certificate from a server that has its key.
///
/// # Errors
/// See [`client_config`].
pub fn client_config_without_verification() -> io::Result<ClientConfig> {
    let provider = provider();
    let builder = builder(&provider)?.dangerous();
    let verifier = Arc::new(Verifier::accepting_any(provider));
    Ok(builder
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Starts a configuration of TLS that trusts authorities, and each of these certificates itself.
///
/// rustls alone rejects a certificate of an authority as that of a server; those that OpenSSL creates by
/// default are of authorities.
///
/// # Errors
/// rustls takes none of the certificates. See also [`client_config`].
pub fn pinning_client_config(
    certificates: Vec<CertificateDer<'static>>,
) -> io::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let provider = provider();
    let builder = builder(&provider)?.dangerous();
    let verifier = Verifier::trusting(certificates, provider).map_err(io::Error::other)?;
    Ok(builder.with_custom_certificate_verifier(Arc::new(verifier)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_have_one_certificate_or_many() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        let issue = || {
            let issued = rcgen::generate_simple_self_signed(["a.test".to_owned()]);
            issued.expect("issued").cert.pem()
        };
        // The second one is base64, but no certificate.
        let other = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        fs::write(&path, issue() + other + &issue()).expect("written");
        assert_eq!(certificates_in(&path).expect("read").len(), 2);
        for wrong in ["", "no PEM", other] {
            fs::write(&path, wrong).expect("written");
            certificates_in(&path).expect_err(wrong);
        }
        certificates_in(&dir.path().join("nothing")).expect_err("missing");
    }
}
