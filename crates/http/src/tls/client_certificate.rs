//! A client's certificate, verified in the TLS handshake (mutual TLS), and its name.
//!
//! Verifies nothing itself: rustls has done so before a request can have a certificate.

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
        let common_names = certificate.subject().iter_common_name();
        let common_names = common_names.filter_map(|name| name.as_str().ok());
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternatives
            .iter()
            .flat_map(|names| &names.value.general_names);
        let alternatives = alternatives.filter_map(|name| match name {
            GeneralName::URI(name) | GeneralName::RFC822Name(name) | GeneralName::DNSName(name) => {
                Some(*name)
            }
            _ => None,
        });
        let mut names = common_names.take(1).chain(alternatives.take(1));
        names.find(|name| !name.is_empty()).map(ToOwned::to_owned)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate")
            .field(&self.name())
            .finish()
    }
}
