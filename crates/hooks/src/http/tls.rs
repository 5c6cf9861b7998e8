//! TLS to the endpoint.

use std::{io, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::verifier::Verifier;

/// Creates a configuration that trusts the system's root certificates, or any certificate.
///
/// A lack of root certificates is an error only if they are `needed`.
pub(super) fn config(skip_verify: bool, needed: bool) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    if skip_verify {
        let verifier = Arc::new(Verifier::accepting_any(&provider));
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if needed && roots.is_empty() {
        return Err(io::Error::other("no root certificates found"));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
