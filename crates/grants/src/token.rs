//! Tokens: the leave to make an upload, in the hand of whoever has it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use landfall::hook::UploadToken;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// 256 random bits in 43 characters of base64url behind a prefix.
pub(crate) fn secret(prefix: &str) -> String {
    let bits: [u8; 32] = rand::random();
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits))
}

/// 256 random bits, spelled `lft_` and 43 characters of base64url. Known to whoever it was given to;
/// Landfall keeps its [hash](Self::hash) only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(secret(UploadToken::PREFIX))
    }

    /// Its spelling, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// SHA-256 of a token (or of an API key), in hexadecimal digits.
#[derive(Clone, Eq)]
pub struct TokenHash(String);

impl TokenHash {
    /// The hash of a secret as a client sent it.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let digest = Sha256::digest(secret);
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Its 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for TokenHash {
    /// Takes the same time wherever they differ.
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
    fn tokens_are_long_and_their_own() {
        let (one, other) = (Token::random(), Token::random());
        assert_eq!(one.reveal().len(), 47);
        assert!(one.reveal().starts_with("lft_"));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), TokenHash::of(one.reveal()));
        assert_eq!(one.hash().as_str().len(), 64);
        assert!(!format!("{one:?} {:?}", one.hash()).contains(&one.reveal()[4..]));
    }
}
