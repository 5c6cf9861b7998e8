use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The verified certificate of a client, in the extensions of each of its requests. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate(Arc<CertificateDer<'static>>);

impl ClientCertificate {
    pub(in super::super) fn new(certificate: &CertificateDer<'_>) -> Self {
        Self(Arc::new(certificate.clone().into_owned()))
    }

    /// Returns the certificate (X.509) in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// Returns the common name of its subject, or else the first of its alternative names that is a URI (such as a
    /// SPIFFE ID), an e-mail address or a host name. `None` if it has no such name.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let (_, certificate) = X509Certificate::from_der(&self.0).ok()?;
        let mut common_names = certificate.subject().iter_common_name();
        let common_name = common_names.find_map(|name| name.as_str().ok());
        let alternative = || {
            let names = certificate.subject_alternative_name().ok().flatten()?;
            names
                .value
                .general_names
                .iter()
                .find_map(|name| match name {
                    GeneralName::URI(name)
                    | GeneralName::RFC822Name(name)
                    | GeneralName::DNSName(name) => Some(*name),
                    _ => None,
                })
        };
        let is_set = |name: &&str| !name.is_empty();
        let name = common_name
            .filter(is_set)
            .or_else(|| alternative().filter(is_set));
        name.map(ToOwned::to_owned)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate")
            .field(&self.name())
            .finish()
    }
}
