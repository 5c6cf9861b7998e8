//! Keys that verify JWTs.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

const MAX_KEYS: usize = 100;

/// In bytes. 2048 bits are the secure minimum; the maximum of 4096 bits limits the cost.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// The keys of an identity provider.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

/// A key that verifies signatures.
#[derive(Debug)]
pub(super) struct Key {
    /// The key id (`kid`).
    id: Option<String>,
    /// Its algorithms, all of one family.
    algorithms: Vec<Algorithm>,
    pub(super) secret: DecodingKey,
}

/// The origin of a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrigin {
    /// Public, so it cannot contain a shared secret.
    Url,
    File,
}

#[derive(Deserialize)]
struct JwksJson {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a JWKS, or in a file a public key in PEM.
    ///
    /// # Errors
    /// It contains no usable key. Returns a message.
    pub(super) fn read(bytes: &[u8], origin: KeyOrigin) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        if origin == KeyOrigin::File && text.contains("-----BEGIN ") {
            return Ok(Self(vec![pem(text)?]));
        }
        let set: JwksJson = serde_json::from_str(text)
            .map_err(|error| format!("not a JWKS ({{\"keys\": […]}}): {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys"));
        }
        let mut keys = Vec::new();
        for value in set.keys {
            let id = value.get("kid").and_then(Value::as_str).map(str::to_owned);
            match jwk(value, origin) {
                Ok(key) => keys.push(key),
                // Key sets may contain keys for other purposes or of unknown types.
                Err(why) => tracing::debug!(?id, why, "JWT key skipped"),
            }
        }
        if keys.is_empty() {
            return Err("no key for signature verification".to_owned());
        }
        Ok(Self(keys))
    }

    /// Returns the keys for a token's key id (if it has one) and algorithm.
    pub(super) fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a Key> {
        let fits = move |key: &&Key| {
            let is_named = match (id, &key.id) {
                (Some(wanted), Some(own)) => wanted == own,
                _ => true,
            };
            is_named && key.algorithms.contains(&algorithm)
        };
        self.0.iter().filter(fits)
    }
}

fn jwk(value: Value, origin: KeyOrigin) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "unknown key type")?;
    let key_use = &jwk.common.public_key_use;
    if !matches!(key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("not a signature key");
    }
    if let Some(operations) = &jwk.common.key_operations
        && !operations.contains(&KeyOperations::Verify)
    {
        return Err("not a verification key");
    }
    let mut algorithms = algorithms(&jwk.algorithm, origin)?.to_vec();
    if let Some(stated) = jwk.common.key_algorithm {
        algorithms.retain(|one| Algorithm::try_from(stated).is_ok_and(|stated| stated == *one));
    }
    if algorithms.is_empty() {
        return Err("no suitable algorithm");
    }
    Ok(Key {
        id: jwk.common.key_id.clone(),
        algorithms,
        secret: DecodingKey::from_jwk(&jwk).map_err(|_| "malformed key")?,
    })
}

/// Returns the algorithms for a key. Lengths are checked here, since verification relies on them.
fn algorithms(
    key: &AlgorithmParameters,
    origin: KeyOrigin,
) -> Result<&'static [Algorithm], &'static str> {
    let wrong = "invalid key length";
    let length = |text: &str| decode(text).map(|bytes| bytes.len());
    match key {
        AlgorithmParameters::RSA(key) if RSA_BYTES.contains(&modulus(&key.n)?) => Ok(RSA),
        AlgorithmParameters::EllipticCurve(key) => {
            match (&key.curve, length(&key.x)?, length(&key.y)?) {
                (EllipticCurve::P256, 32, 32) => Ok(&[Algorithm::ES256]),
                (EllipticCurve::P384, 48, 48) => Ok(&[Algorithm::ES384]),
                _ => Err(wrong),
            }
        }
        AlgorithmParameters::OctetKeyPair(key) => match (&key.curve, length(&key.x)?) {
            (EllipticCurve::Ed25519, 32) => Ok(&[Algorithm::EdDSA]),
            _ => Err(wrong),
        },
        AlgorithmParameters::OctetKey(_) if origin == KeyOrigin::Url => {
            Err("a shared secret must not be public")
        }
        // At least as long as the output of the hash (RFC 7518, section 3.2).
        AlgorithmParameters::OctetKey(key) => match length(&key.value)? {
            0..32 => Err(wrong),
            32..48 => Ok(&[Algorithm::HS256]),
            48..64 => Ok(&[Algorithm::HS256, Algorithm::HS384]),
            _ => Ok(&[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]),
        },
        _ => Err(wrong),
    }
}

pub(super) const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Returns the length of the modulus in bytes.
fn modulus(text: &str) -> Result<usize, &'static str> {
    Ok(decode(text)?.iter().skip_while(|byte| **byte == 0).count())
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    bytes.map_err(|_| "malformed key")
}

/// Parses a public key in PEM.
fn pem(text: &str) -> Result<Key, String> {
    let mut labels = text.split("-----BEGIN ").skip(1);
    let label = labels.next().and_then(|rest| rest.split("-----").next());
    let label = label.unwrap_or_default();
    if label.ends_with("PRIVATE KEY") {
        return Err("private key found; use the public key".to_owned());
    }
    if labels.next().is_some() {
        return Err("more than one key; use a JWKS".to_owned());
    }
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        // The label is untrusted.
        let label = label.escape_debug();
        return Err(format!("expected a PUBLIC KEY, found {label}"));
    }
    let bytes = text.as_bytes();
    let secret = DecodingKey::from_rsa_pem(bytes)
        .or_else(|_| DecodingKey::from_ec_pem(bytes))
        .or_else(|_| DecodingKey::from_ed_pem(bytes))
        .map_err(|_| "not an RSA, EC or Ed25519 key".to_owned())?;
    let length = secret.try_get_as_bytes().map_or(0, <[u8]>::len);
    // The DER encoding of an RSA key is slightly longer than its modulus.
    let is_rsa_length = length > *RSA_BYTES.start() && length < *RSA_BYTES.end() + 32;
    let algorithms: &[Algorithm] = match (secret.family(), length) {
        (AlgorithmFamily::Rsa, _) if is_rsa_length => RSA,
        (AlgorithmFamily::Ec, 33 | 65) => &[Algorithm::ES256],
        (AlgorithmFamily::Ec, 49 | 97) => &[Algorithm::ES384],
        (AlgorithmFamily::Ed, 32) => &[Algorithm::EdDSA],
        _ => return Err("invalid key length; RSA keys must have 2048 to 4096 bits".to_owned()),
    };
    Ok(Key {
        id: None,
        algorithms: algorithms.to_vec(),
        secret,
    })
}
