//! Challenges: proofs of control over a host name, in HTTP responses and in certificates.

use std::collections::HashMap;
use std::sync::Arc;

use landfall_http::{ChallengeCertificate, ChallengeCertificates};
use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The method of an authority that validates a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeMethod {
    /// A response on port 80 (RFC 8555 section 8.3).
    Http01,
    /// A certificate on port 443 (RFC 8737).
    TlsAlpn01,
}

impl ChallengeMethod {
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Http01 => 80,
            Self::TlsAlpn01 => 443,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "HTTP-01",
            Self::TlsAlpn01 => "TLS-ALPN-01",
        }
    }
}

/// A challenge that is answered now, by all nodes.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) name: String,
    pub(crate) token: String,
    /// The response: the token and the hash of the account's key.
    pub(crate) key_authorization: String,
}

/// The challenges that are answered now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Challenges {
    responses: Arc<RwLock<HashMap<String, String>>>,
    certificates: ChallengeCertificates,
}

impl Challenges {
    /// The path of HTTP-01 challenges, before the token.
    pub const PATH: &str = "/.well-known/acme-challenge/";

    /// Returns the body of the response at a path; `None` if there is no such challenge.
    #[must_use]
    pub fn response(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(Self::PATH)?;
        self.responses.read().get(token).cloned()
    }

    /// Returns the certificates of TLS-ALPN-01.
    #[must_use]
    pub fn certificates(&self) -> ChallengeCertificates {
        self.certificates.clone()
    }

    pub(crate) fn replace(&self, challenges: &[Challenge]) -> Result<(), String> {
        if challenges.is_empty() && self.responses.read().is_empty() {
            return Ok(());
        }
        let certificates = challenges.iter().map(certificate);
        let certificates = certificates.collect::<Result<_, rcgen::Error>>();
        self.certificates
            .replace(certificates.map_err(|error| error.to_string())?)?;
        let responses = challenges.iter().cloned();
        *self.responses.write() = responses
            .map(|challenge| (challenge.token, challenge.key_authorization))
            .collect();
        Ok(())
    }
}

fn certificate(challenge: &Challenge) -> Result<ChallengeCertificate, rcgen::Error> {
    let mut params = CertificateParams::new([challenge.name.clone()])?;
    let digest = Sha256::digest(&challenge.key_authorization);
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(ChallengeCertificate {
        name: challenge.name.clone(),
        certificate: certificate.der().to_vec(),
        key: key.serialize_der(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_tokens_are_answered() {
        let challenges = Challenges::default();
        let challenge = Challenge {
            name: "landfall.test".to_owned(),
            token: "abc".to_owned(),
            key_authorization: "abc.def".to_owned(),
        };
        challenges.replace(&[challenge]).unwrap();
        let response = |path: &str| challenges.clone().response(path);
        assert_eq!(
            response("/.well-known/acme-challenge/abc").as_deref(),
            Some("abc.def")
        );
        for path in [
            "/abc",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/abd",
        ] {
            assert_eq!(response(path), None, "{path}");
        }
        challenges.replace(&[]).unwrap();
        assert_eq!(response("/.well-known/acme-challenge/abc"), None);
    }
}
