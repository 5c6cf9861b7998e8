//! Upload tokens: bearer secrets for grants.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use landfall::hook::UploadToken;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Returns a secret of 256 random bits: a prefix and 43 characters of base64url.
pub(crate) fn secret(prefix: &str) -> String {
    let bits: [u8; 32] = rand::random();
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits))
}

/// An upload token: `lft_` and 256 random bits in base64url. Only its [hash](Self::hash) is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Creates a random token.
    #[must_use]
    pub fn random() -> Self {
        Self(secret(UploadToken::PREFIX))
    }

    /// Returns the secret.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns its hash.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::from_secret(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The SHA-256 of an upload token or API key, in hexadecimal.
#[derive(Clone, Eq)]
pub struct TokenHash(String);

impl TokenHash {
    /// Hashes a secret.
    #[must_use]
    pub fn from_secret(secret: &str) -> Self {
        let digest = Sha256::digest(secret);
        Self(hex::encode(digest))
    }

    /// Returns the 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for TokenHash {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_unique() {
        let (one, other) = (Token::random(), Token::random());
        assert_eq!(one.reveal().len(), 47);
        assert!(one.reveal().starts_with("lft_"));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), TokenHash::from_secret(one.reveal()));
        assert_eq!(one.hash().as_str().len(), 64);
        assert!(!format!("{one:?} {:?}", one.hash()).contains(&one.reveal()[4..]));
    }
}
