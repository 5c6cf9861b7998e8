//! The certificate in force, as renewal sees it.

use std::time::SystemTime;

use instant_acme::CertificateIdentifier;
use landfall_http::{CertificateFiles, CertificateSummary};
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

/// A certificate that was read, and its identifier for the authority.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) summary: CertificateSummary,
    pub(crate) id: Option<CertificateIdentifier<'static>>,
}

impl Certificate {
    /// Blocks.
    pub(crate) fn read(files: &CertificateFiles) -> Result<Self, String> {
        let summary = files.inspect().map_err(|error| error.to_string())?;
        let first = CertificateDer::from_pem_file(&files.chain);
        let id = first.ok().as_ref().and_then(|first| {
            let id = CertificateIdentifier::try_from(first).ok()?;
            Some(id.into_owned())
        });
        Ok(Self { summary, id })
    }

    /// Returns whether it is valid now for exactly these names.
    pub(crate) fn is_for(&self, names: &[String], now: SystemTime) -> bool {
        let sorted = |names: &[String]| {
            let mut names: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        sorted(&self.summary.names) == sorted(names) && now < self.summary.expires
    }
}

/// Checks that a key belongs to its certificate (both in PEM), which is valid for these names.
pub(crate) fn check(pem: &str, names: &[String]) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| text(&error))?;
    let first = chain.first().ok_or("there is no certificate")?.clone();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| text(&error))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| text(&error))?;
    let parsed = ParsedCertificate::try_from(&first).map_err(|error| text(&error))?;
    for name in names {
        let server = ServerName::try_from(name.as_str()).map_err(|error| text(&error))?;
        verify_server_name(&parsed, &server).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Returns the key and the certificate.
    fn issue(names: &[&str]) -> [String; 2] {
        let names = names.iter().map(ToString::to_string);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        [key.serialize_pem(), certificate.pem()]
    }

    #[test]
    fn certificates_that_a_server_cannot_use_are_rejected() {
        let [key, certificate] = issue(&["a.test", "b.test"]);
        let [other_key, _] = issue(&["a.test"]);
        let names = ["a.test".to_owned(), "b.test".to_owned()];
        let whole = certificate.clone() + &key;
        check(&whole, &names).unwrap();
        check(&whole, &["c.test".to_owned()]).unwrap_err();
        check(&(certificate + &other_key), &names).unwrap_err();
        for length in 0..whole.trim_end().len() {
            assert!(check(&whole[..length], &names).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_certificate_is_for_exactly_its_names_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("certificate.pem");
        std::fs::write(&file, issue(&["a.test", "b.test"]).concat()).unwrap();
        let (chain, key) = (file.clone(), file);
        let found = Certificate::read(&CertificateFiles { chain, key }).unwrap();
        let is_for = |names: &[&str], now| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            found.is_for(&names, now)
        };
        let now = SystemTime::now();
        assert!(is_for(&["B.test", "a.test"], now));
        assert!(!is_for(&["a.test"], now));
        assert!(!is_for(&["a.test", "b.test", "c.test"], now));
        let end = found.summary.expires;
        assert!(!is_for(&["a.test", "b.test"], end));
        assert!(is_for(&["a.test", "b.test"], end - Duration::from_secs(1)));
    }
}
