//! KeySet that sign JWTs: which there are, and what each may sign.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// No set that is in use has more.
const MAX_KEYS: usize = 100;

/// How long RSA keys may be, in bytes: 2048 bits are the least that is safe, 4096 the most that is
/// checked quickly.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// The keys of whoever signs JWTs.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

/// A key that can check signatures.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name in the headers of tokens.
    id: Option<String>,
    /// What it can be used with; never algorithms of two families.
    algorithms: Vec<Algorithm>,
    pub(super) secret: DecodingKey,
}

/// Where keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrigin {
    /// Everybody can read them, so that a shared secret is none.
    Url,
    File,
}

#[derive(Deserialize)]
struct JwksJson {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWKS, or in a file a public key in PEM.
    ///
    /// # Errors
    /// There is no key in it that can be used; why, for people.
    pub(super) fn read(bytes: &[u8], origin: KeyOrigin) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it isn't text".to_owned())?;
        if origin == KeyOrigin::File && text.contains("-----BEGIN ") {
            return Ok(Self(vec![pem(text)?]));
        }
        let set: JwksJson = serde_json::from_str(text)
            .map_err(|error| format!("it isn't a JWKS ({{\"keys\": […]}}): {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it holds more than {MAX_KEYS} keys"));
        }
        let mut keys = Vec::new();
        for value in set.keys {
            let id = value.get("kid").and_then(Value::as_str).map(str::to_owned);
            match jwk(value, origin) {
                Ok(key) => keys.push(key),
                // Sets may hold keys for other purposes and of kinds to come.
                Err(why) => tracing::debug!(?id, why, "a key for JWTs is not used"),
            }
        }
        if keys.is_empty() {
            return Err("it holds no key that can check signatures".to_owned());
        }
        Ok(Self(keys))
    }

    /// Those that a token may be signed with that names (or doesn't name) a key, and this algorithm.
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

/// What can be used of a JWK.
fn jwk(value: Value, origin: KeyOrigin) -> Result<Key, &'static str> {
    let jwk: Jwk =
        serde_json::from_value(value).map_err(|_| "it isn't a key that is known here")?;
    if !matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    ) {
        return Err("it isn't for signatures");
    }
    if let Some(operations) = &jwk.common.key_operations
        && !operations.contains(&KeyOperations::Verify)
    {
        return Err("it isn't for checking signatures");
    }
    let mut algorithms = algorithms(&jwk.algorithm, origin)?.to_vec();
    if let Some(stated) = jwk.common.key_algorithm {
        algorithms.retain(|one| Algorithm::try_from(stated).is_ok_and(|stated| stated == *one));
    }
    if algorithms.is_empty() {
        return Err("it is for no algorithm that fits it");
    }
    Ok(Key {
        id: jwk.common.key_id.clone(),
        algorithms,
        secret: DecodingKey::from_jwk(&jwk).map_err(|_| "it can't be read")?,
    })
}

/// What a key of this kind and length can be used with. (What checks signatures relies on lengths.)
fn algorithms(
    key: &AlgorithmParameters,
    origin: KeyOrigin,
) -> Result<&'static [Algorithm], &'static str> {
    let wrong = "it has not the right length";
    let length = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        bytes
            .map(|bytes| bytes.len())
            .map_err(|_| "it can't be read")
    };
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
            Err("a secret that anybody can fetch is none")
        }
        // As long as what the hash yields, at least (RFC 7518, 3.2).
        AlgorithmParameters::OctetKey(key) => match length(&key.value)? {
            0..32 => Err(wrong),
            32..48 => Ok(&[Algorithm::HS256]),
            48..64 => Ok(&[Algorithm::HS256, Algorithm::HS384]),
            _ => Ok(&[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]),
        },
        _ => Err(wrong),
    }
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The length of a number in bytes.
fn modulus(text: &str) -> Result<usize, &'static str> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| "it can't be read")?;
    Ok(bytes.iter().skip_while(|byte| **byte == 0).count())
}

/// A public key in PEM.
fn pem(text: &str) -> Result<Key, String> {
    let mut labels = text.split("-----BEGIN ").skip(1);
    let label = labels
        .next()
        .and_then(|rest| rest.split("-----").next())
        .unwrap_or_default();
    if label.ends_with("PRIVATE KEY") {
        return Err("it is a private key; only the public one is needed here".to_owned());
    }
    if labels.next().is_some() {
        return Err("it holds more than one key; write them as a JWKS".to_owned());
    }
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        // The label is whatever the file says.
        let label = label.escape_debug();
        return Err(format!("it holds a {label}, not a PUBLIC KEY"));
    }
    let bytes = text.as_bytes();
    let secret = DecodingKey::from_rsa_pem(bytes)
        .or_else(|_| DecodingKey::from_ec_pem(bytes))
        .or_else(|_| DecodingKey::from_ed_pem(bytes))
        .map_err(|_| "it is no RSA, EC or Ed25519 key".to_owned())?;
    let length = secret.try_get_as_bytes().map_or(0, <[u8]>::len);
    // An RSA key is its modulus and a few bytes more.
    let is_rsa_length = length > *RSA_BYTES.start() && length < *RSA_BYTES.end() + 32;
    let algorithms: &[Algorithm] = match (secret.family(), length) {
        (AlgorithmFamily::Rsa, _) if is_rsa_length => RSA,
        (AlgorithmFamily::Ec, 33 | 65) => &[Algorithm::ES256],
        (AlgorithmFamily::Ec, 49 | 97) => &[Algorithm::ES384],
        (AlgorithmFamily::Ed, 32) => &[Algorithm::EdDSA],
        _ => return Err("it has not the right length: RSA keys have 2048 to 4096 bits".to_owned()),
    };
    Ok(Key {
        id: None,
        algorithms: algorithms.to_vec(),
        secret,
    })
}
