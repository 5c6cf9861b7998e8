use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{GrpcSettings, GrpcSettingsError};
use crate::verifier::Verifier;

pub(super) fn config(settings: &GrpcSettings) -> Result<ClientConfig, GrpcSettingsError> {
    let file = settings.server_ca.as_deref();
    let file = file.ok_or(GrpcSettingsError::NoServerCa)?;
    let provider = Arc::new(ring::default_provider());
    let verifier =
        Verifier::trusting(certificates(file)?, &provider).map_err(wrong(CERTIFICATES, file))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong(CERTIFICATES, file))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&settings.client_certificate, &settings.client_key) {
        (None, None) => config.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let shown = certificates(certificate)?;
            let read = PrivateKeyDer::from_pem_file(key).map_err(wrong("the private key", key))?;
            config
                .with_client_auth_cert(shown, read)
                .map_err(wrong("the private key", key))?
        }
        _ => return Err(GrpcSettingsError::IncompleteIdentity),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

const CERTIFICATES: &str = "the certificates";

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, GrpcSettingsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(wrong(CERTIFICATES, file))?
        .collect();
    let found = found.map_err(wrong(CERTIFICATES, file))?;
    if found.is_empty() {
        return Err(wrong(CERTIFICATES, file)("it contains none"));
    }
    Ok(found)
}

fn wrong<E: Into<landfall::BoxError>>(
    what: &'static str,
    file: &Path,
) -> impl FnOnce(E) -> GrpcSettingsError {
    move |source| GrpcSettingsError::File {
        what,
        file: file.to_owned(),
        source: source.into(),
    }
}
