//! TLS with ring and the certificates of the system.

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::Error;

/// Returns settings of TLS that trust the certificates of the system and those in `pem`.
///
/// # Errors
/// [`Error::Configuration`] if a text has no valid certificate.
pub(crate) fn tls_config(pem: &[Vec<u8>]) -> Result<ClientConfig, Error> {
    // A system without certificates is an error of the connections that need them.
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for text in pem {
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(text) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|der| roots.add(der).map_err(|error| error.to_string()));
            added.map_err(|error| {
                Error::Configuration(format!("a root certificate is invalid: {error}"))
            })?;
            count += 1;
        }
        if count == 0 {
            let text = "root certificates must be in PEM, and there is none";
            return Err(Error::Configuration(text.into()));
        }
    }
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Configuration(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
