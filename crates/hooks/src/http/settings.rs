//! Options of HTTP hooks, and the signatures of their requests as in Standard Webhooks.
//!
//! `sign` covers the id, the time and the exact bytes of the body, once with each secret, so that a receiver accepts
//! the request while secrets are rotated.

use std::{fmt::Write, str::FromStr, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use landfall_net::Proxies;
use sha2::Sha256;

use crate::{SecretUrl, SettingsError, format::Format};

/// Settings of [`Http`](super::Http).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The endpoint URL, `http://…` or `https://…`; private addresses are allowed.
    ///
    /// A user and password in it become Basic authentication.
    pub url: SecretUrl,
    /// The format of messages and responses; see [`Http`](super::Http).
    pub format: Format,
    /// Headers of the client's request to forward, in any spelling.
    pub forward_headers: Vec<String>,
    /// Maximum attempts for a blocking hook after a connection error or 5xx response; at least 1.
    pub attempts: u32,
    /// The delay between two attempts.
    pub backoff: Duration,
    /// Timeout for all attempts and delays together; greater than 0.
    pub timeout: Duration,
    /// Maximum response size in bytes. [`Format::V1`] has a fixed limit of 1 MiB.
    pub size_limit: usize,
    /// Accepts any TLS certificate of the endpoint. For tests.
    pub skip_verify: bool,
    /// Secrets for signing; several while one replaces another.
    pub secrets: Vec<Secret>,
    /// Follows redirects, at most ten.
    pub follow_redirects: bool,
    /// Networks that redirects may lead to, in addition to public addresses and the endpoint.
    pub redirect_allow: Vec<IpNet>,
    /// Maximum concurrent calls; others wait.
    pub max_concurrency: usize,
    /// The response status to `post-receive` that stops the upload, as in tusd 1.
    ///
    /// Ignored with [`Format::V2`].
    pub stop_code: Option<u16>,
    /// In [`Format::Auto`], a 4xx to `pre-finish` reaches the client but does not remove the upload, as in tusd.
    /// Off by default.
    pub keeps_uploads: bool,
    /// The proxies; from the environment by default.
    pub proxies: Proxies,
}

impl HttpSettings {
    /// Creates settings with tusd's defaults.
    #[must_use]
    pub fn new(url: impl Into<SecretUrl>) -> Self {
        Self {
            url: url.into(),
            format: Format::default(),
            forward_headers: Vec::new(),
            attempts: 3,
            backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            size_limit: 5120,
            skip_verify: false,
            secrets: Vec::new(),
            follow_redirects: false,
            redirect_allow: Vec::new(),
            max_concurrency: 64,
            stop_code: None,
            keeps_uploads: false,
            proxies: Proxies::from_env(),
        }
    }
}

const PREFIX: &str = "whsec_";

/// A signing key: `whsec_` and base64, or text whose bytes are the key.
#[derive(Clone, Debug)]
pub struct Secret(Hmac<Sha256>);

impl FromStr for Secret {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let key = match text.strip_prefix(PREFIX) {
            Some(encoded) => BASE64_STANDARD.decode(encoded).map_err(|_| {
                let text = "a secret for hooks that begins with whsec_ must continue in base64";
                SettingsError(text.into())
            })?,
            None => text.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err(SettingsError("a secret for hooks must not be empty".into()));
        }
        // HMAC accepts keys of any length.
        let keyed = Hmac::new_from_slice(&key);
        let keyed = keyed.map_err(|error| SettingsError(error.to_string()))?;
        Ok(Self(keyed))
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
mod sign_tests {
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
            ("", "must not be empty"),
            ("whsec_", "must not be empty"),
            ("whsec_?", "base64"),
        ] {
            let found = text.parse::<Secret>().unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
    }
}
