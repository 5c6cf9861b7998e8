//! Keys made here, and tokens signed with them.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use landfall_access::auth::{JwtKeys, JwtSettings};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rsa::{
    RsaPrivateKey,
    pkcs1::EncodeRsaPrivateKey as _,
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding},
    rand_core::OsRng,
    traits::PublicKeyParts as _,
};
use serde_json::{Value, json};

/// A key that signs, with its public half in both spellings.
pub struct Signer {
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    /// Without `kid`.
    pub jwk: Value,
    pub pem: String,
    pub private_pem: String,
}

impl Signer {
    pub fn p256() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self::ec(&pair, Algorithm::ES256, "P-256")
    }

    pub fn p384() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        Self::ec(&pair, Algorithm::ES384, "P-384")
    }

    fn ec(pair: &KeyPair, algorithm: Algorithm, curve: &str) -> Self {
        let point = pair.public_key_raw();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        Self {
            algorithm,
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            jwk: json!({"kty": "EC", "crv": curve, "x": spelled(x), "y": spelled(y)}),
            pem: pair.public_key_pem(),
            private_pem: pair.serialize_pem(),
        }
    }

    pub fn ed25519() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self {
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(&pair.serialize_der()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": spelled(pair.public_key_raw())}),
            pem: pair.public_key_pem(),
            private_pem: pair.serialize_pem(),
        }
    }

    /// The same for all tests, since it takes long to make.
    pub fn rsa() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(|| Self::rsa_of(2048))
    }

    pub fn rsa_of(bits: usize) -> Self {
        let private = RsaPrivateKey::new(&mut OsRng, bits).unwrap();
        let public = private.to_public_key();
        let (n, e) = (public.n().to_bytes_be(), public.e().to_bytes_be());
        Self {
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_der(private.to_pkcs1_der().unwrap().as_bytes()),
            jwk: json!({"kty": "RSA", "n": spelled(&n), "e": spelled(&e)}),
            pem: public.to_public_key_pem(LineEnding::LF).unwrap(),
            private_pem: private.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        }
    }

    /// A token with these claims, by a key of no name.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(None, claims)
    }

    pub fn sign_as(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        encode(&header, claims, &self.key).unwrap()
    }

    /// The public key under a name, with more fields or others.
    pub fn named(&self, kid: &str, more: Value) -> Value {
        let mut jwk = self.jwk.clone();
        let fields = jwk.as_object_mut().unwrap();
        fields.insert("kid".into(), kid.into());
        fields.extend(more.as_object().unwrap().clone());
        jwk
    }
}

/// The issuer in [`claims`].
pub const ISSUER: &str = "https://id.example";

/// Claims that are good for a minute.
pub fn claims() -> Value {
    json!({"sub": "ann", "iss": ISSUER, "exp": seconds(60)})
}

/// Settings for tokens of [`ISSUER`].
pub fn settings_of(keys: JwtKeys) -> JwtSettings {
    let mut settings = JwtSettings::new(keys);
    settings.issuers = vec![ISSUER.to_owned()];
    settings
}

/// A time relative to now, in seconds.
pub fn seconds(more: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + more
}

pub fn spelled(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these parts, whatever they are.
pub fn put_together(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| spelled(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), spelled(signature))
}

pub fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}
