//! TLS-ALPN-01 (RFC 8737): an ACME authority connects with the protocol `acme-tls/1`, and expects a certificate
//! that proves control over the host name.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// The protocol of validations, in ALPN.
pub(super) const PROTOCOL: &[u8] = b"acme-tls/1";

/// A certificate with the `acmeIdentifier` extension.
#[derive(Clone)]
pub struct ChallengeCertificate {
    /// The host name that is validated.
    pub name: String,
    /// The certificate, in DER.
    pub certificate: Vec<u8>,
    /// Its private key, PKCS #8 in DER.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ChallengeCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ChallengeCertificate");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

/// The certificates that answer validations now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ChallengeCertificates(Arc<RwLock<HashMap<String, Arc<CertifiedKey>>>>);

impl ChallengeCertificates {
    /// Replaces all certificates.
    ///
    /// # Errors
    /// A key cannot be used; the earlier certificates stay.
    pub fn replace(&self, certificates: Vec<ChallengeCertificate>) -> Result<(), String> {
        let provider = ring::default_provider();
        let mut by_name = HashMap::new();
        for ChallengeCertificate {
            name,
            certificate,
            key,
        } in certificates
        {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
            let chain = vec![CertificateDer::from(certificate)];
            let key = provider.key_provider.load_private_key(key);
            let key = key.map_err(|error| format!("{name}: {error}"))?;
            // Not compared with the certificate, whose critical extension rustls does not know.
            let certified = CertifiedKey::new(chain, key);
            by_name.insert(name.to_ascii_lowercase(), Arc::new(certified));
        }
        *self.0.write() = by_name;
        Ok(())
    }

    pub(super) fn get(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name?.to_ascii_lowercase();
        self.0.read().get(&name).cloned()
    }
}

pub(super) fn is_validation(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.any(|protocol| protocol == PROTOCOL)
}
