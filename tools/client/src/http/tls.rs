//! TLS with ring and the certificates of the system.

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::Error;

/// Returns settings of TLS that trust the certificates of the system and those in `pem`, or any.
///
/// # Errors
/// [`Error::Configuration`] if a text has no valid certificate.
pub(crate) fn tls_config(pem: &[Vec<u8>], accepts_invalid: bool) -> Result<ClientConfig, Error> {
    // A system without certificates is an error of the connections that need them.
    let failed = |error: std::io::Error| Error::Configuration(error.to_string());
    let mut roots = landfall_net::system_certificates(false).map_err(failed)?;
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
    let config = match accepts_invalid {
        true => landfall_net::client_config_without_verification(),
        false => landfall_net::client_config(roots),
    };
    config.map_err(failed)
}
