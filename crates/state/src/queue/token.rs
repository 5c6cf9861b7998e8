//! Bearer secrets: upload tokens, API keys and upload links.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use landfall::hook::UploadToken;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A bearer secret: an upload token (`lft_`), or an API key or upload link (`lfk_`), and 256 random bits in
/// base64url. Only its [hash](Self::hash) is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The prefix of API keys and upload links.
    pub const KEY_PREFIX: &str = "lfk_";

    /// Creates a random upload token.
    pub fn random() -> Self {
        Self::with_prefix(UploadToken::PREFIX)
    }

    /// Creates a random API key, or the secret of an upload link.
    pub fn api_key() -> Self {
        Self::with_prefix(Self::KEY_PREFIX)
    }

    fn with_prefix(prefix: &str) -> Self {
        let bits: [u8; 32] = rand::random();
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits)))
    }

    /// Returns the secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns its hash.
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
    pub fn from_secret(secret: &str) -> Self {
        let digest = Sha256::digest(secret);
        Self(hex::encode(digest))
    }

    /// Returns the 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for TokenHash {
    /// Takes constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// Returns whether a text is an API key or upload token of Landfall.
pub fn is_secret(text: &str) -> bool {
    text.starts_with(Token::KEY_PREFIX) || text.starts_with(UploadToken::PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_unique() {
        for (create, prefix) in [
            (Token::random as fn() -> Token, "lft_"),
            (Token::api_key, "lfk_"),
        ] {
            let (one, other) = (create(), create());
            assert_eq!(one.reveal().len(), 47);
            assert!(one.reveal().starts_with(prefix) && is_secret(one.reveal()));
            assert_ne!(one.hash(), other.hash());
            assert_eq!(one.hash(), TokenHash::from_secret(one.reveal()));
            assert_eq!(one.hash().as_str().len(), 64);
            assert!(!format!("{one:?} {:?}", one.hash()).contains(&one.reveal()[4..]));
        }
    }
}
