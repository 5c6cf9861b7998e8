//! Signatures by the Standard Webhooks specification.

use std::{fmt, fmt::Write, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";

/// A signing key: `whsec_` and base64, or text whose bytes are the key.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// An invalid secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The secret is empty.
    #[error("a secret for hooks must not be empty")]
    Empty,
    /// The text after `whsec_` is not base64.
    #[error("a secret for hooks that begins with whsec_ must continue in base64")]
    NotBase64,
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let key = match text.strip_prefix(PREFIX) {
            Some(encoded) => BASE64_STANDARD
                .decode(encoded)
                .map_err(|_| SecretError::NotBase64)?,
            None => text.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err(SecretError::Empty);
        }
        // HMAC accepts keys of any length.
        let keyed = Hmac::new_from_slice(&key).map_err(|_| SecretError::Empty)?;
        Ok(Self(keyed))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Returns the signature of each secret, `v1,` and base64, separated by spaces.
pub(super) fn sign(secrets: &[Secret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut signatures = String::new();
    for Secret(keyed) in secrets {
        let mut mac = keyed.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let space = if signatures.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(signatures, "{space}v1,{signature}");
    }
    signatures
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the specification's libraries.
    #[test]
    fn matches_the_published_vector() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = br#"{"test": 2432232314}"#;
        let other: Secret = "a plain text".parse().unwrap();
        let secrets = [other, secret];
        assert_eq!(sign(&secrets[1..], id, 1_614_265_330, body), signature);

        let both = sign(&secrets, id, 1_614_265_330, body);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(second, signature);
        assert!(first.starts_with("v1,") && first != signature);
    }

    #[test]
    fn text_without_prefix_is_the_key() {
        let plain: Secret = "abc".parse().unwrap();
        let encoded: Secret = "whsec_YWJj".parse().unwrap();
        let sign = |secret| sign(&[secret], "id", 1, b"body");
        assert_eq!(sign(plain), sign(encoded));
    }

    #[test]
    fn rejects_invalid_secrets() {
        for (text, error) in [
            ("", SecretError::Empty),
            ("whsec_", SecretError::Empty),
            ("whsec_?", SecretError::NotBase64),
        ] {
            assert_eq!(text.parse::<Secret>().unwrap_err(), error);
        }
    }
}
