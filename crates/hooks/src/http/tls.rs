//! TLS to the endpoint.

use std::{io, sync::Arc};

use hyper_rustls::ConfigBuilderExt;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::verifier::Verifier;

/// Creates a configuration that trusts the system's root certificates, or any certificate.
///
/// A lack of root certificates is an error only if they are `needed`.
pub(super) fn config(skip_verify: bool, needed: bool) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = || {
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)
    };
    if skip_verify {
        let verifier = Arc::new(Verifier::accepting_any(&provider));
        let builder = builder()?.dangerous();
        return Ok(builder
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    }
    match builder()?.with_native_roots() {
        Ok(builder) => Ok(builder.with_no_client_auth()),
        Err(error) if needed => Err(error),
        Err(_) => Ok(builder()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()),
    }
}
