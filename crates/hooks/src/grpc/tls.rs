//! TLS, and verification of the server's certificate.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};

use super::{GrpcSettings, GrpcSettingsError};

pub(super) fn config(settings: &GrpcSettings) -> Result<ClientConfig, GrpcSettingsError> {
    let file = settings.server_ca.as_deref();
    let file = file.ok_or(GrpcSettingsError::NoServerCa)?;
    let provider = Arc::new(ring::default_provider());
    let verifier =
        Verifier::new(certificates(file)?, &provider).map_err(wrong(CERTIFICATES, file))?;
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

/// Accepts certificates issued by a trusted one, or equal to one.
///
/// tusd's flag suggests the latter, and Go accepts it. rustls rejects a CA certificate as a server
/// certificate; the ones that OpenSSL creates by default are CA certificates.
#[derive(Debug)]
struct Verifier {
    trusted: Vec<CertificateDer<'static>>,
    webpki: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    fn new(
        trusted: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, landfall::BoxError> {
        let mut roots = RootCertStore::empty();
        // A system's bundle may contain certificates that rustls cannot parse.
        roots.add_parsable_certificates(trusted.iter().cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()?;
        Ok(Self { trusted, webpki })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let webpki = self
            .webpki
            .verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match webpki {
            // The dates were verified before.
            Err(error) if is_authority(&error) && self.trusted.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            webpki => webpki,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Returns whether a certificate was rejected only for being a CA certificate.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}
