//! JWTs: valid, invalid and forged ones.

use std::{io::Write as _, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use landfall_access::auth::{AuthMethod as _, Jwt, JwtKeys, JwtSettings};
use landfall_state::queue::{GrantLimits, RateLimit};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{
    CLIENT, known, request,
    signers::{Signer, claims, jwks, put_together, seconds, settings_of, spelled},
    unknown,
};

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn settings(file: &NamedTempFile) -> JwtSettings {
    settings_of(JwtKeys::File(file.path().to_owned()))
}

async fn jwt(content: &str) -> Jwt {
    jwt_with(content, |_| {}).await
}

async fn jwt_with(content: &str, change: impl FnOnce(&mut JwtSettings)) -> Jwt {
    let file = file(content);
    let mut settings = settings(&file);
    change(&mut settings);
    Jwt::open(settings).await.unwrap()
}

/// Returns why a key file is rejected.
async fn refused(content: &str) -> String {
    let file = file(content);
    Jwt::open(settings(&file)).await.unwrap_err().to_string()
}

/// Why a token isn't good, and whether it is a guess.
async fn why(jwt: &Jwt, token: &str) -> (String, bool) {
    let (challenge, is_guess) = unknown(known(jwt, token).await.unwrap_err());
    let why = challenge
        .strip_prefix("Bearer error=\"invalid_token\", error_description=\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_else(|| panic!("{challenge}"));
    (why.to_owned(), is_guess)
}

fn with(more: Value) -> Value {
    let mut claims = claims();
    let fields = claims.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    claims
}

#[tokio::test]
async fn every_kind_of_key_in_both_spellings() {
    let others = [Signer::p256(), Signer::p384(), Signer::ed25519()];
    for signer in others.iter().chain([Signer::rsa()]) {
        let token = signer.sign(&claims());
        for content in [signer.pem.clone(), jwks(std::slice::from_ref(&signer.jwk))] {
            let principal = known(&jwt(&content).await, &token).await.unwrap();
            assert_eq!(principal.subject, "ann", "{:?}", signer.algorithm);
            assert_eq!(principal.limits, GrantLimits::default());
            assert!(!principal.is_admin && !principal.by_cookie);
        }
        // A private key has no business here.
        let why = refused(&signer.private_pem).await;
        assert!(why.contains("private"), "{why}");
        let secret = signer.private_pem.lines().nth(1).unwrap();
        assert!(!why.contains(&secret[..16]), "{why}");
    }
    let rsa = Signer::rsa();
    let jwt = jwt(&rsa.pem).await;
    for algorithm in [
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ] {
        let token = encode(&Header::new(algorithm), &claims(), &rsa.key).unwrap();
        assert_eq!(known(&jwt, &token).await.unwrap().subject, "ann");
    }
}

#[tokio::test]
async fn what_isnt_a_jwt_is_somebody_elses() {
    let jwt = jwt(&Signer::p256().pem).await;
    for headers in [
        &[][..],
        &[("authorization", "Bearer lfk_abc")],
        &[("authorization", "Bearer a.b")],
        &[("authorization", "Bearer a.b.c.d.e")],
        &[("authorization", "Basic a.b.c")],
        &[("cookie", "a.b.c")],
    ] {
        let found = jwt
            .authenticate(&request("GET", headers), Some(CLIENT))
            .await;
        assert_eq!(found, Ok(None), "{headers:?}");
    }
    let lower = [("authorization", "bearer  a.b.c")];
    assert!(
        jwt.authenticate(&request("GET", &lower), None)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn claims_of_time_issuer_and_audience() {
    let signer = Signer::ed25519();
    let lax = jwt(&signer.pem).await;
    let strict = jwt_with(&signer.pem, |settings| {
        settings.issuers = vec!["https://id.example".into(), "https://old.example".into()];
        settings.audiences = vec!["uploads".into()];
    })
    .await;
    let ours = json!({"iss": "https://id.example", "aud": ["web", "uploads"]});
    for good in [
        with(json!({"exp": seconds(-50)})),
        with(json!({"nbf": seconds(50)})),
        with(json!({"exp": (seconds(60)) as f64 + 0.5})),
        // Ignored.
        with(json!({"aud": "anything"})),
        with(ours.clone()),
    ] {
        assert!(known(&lax, &signer.sign(&good)).await.is_ok(), "{good}");
    }
    for good in [
        ours,
        json!({"iss": "https://old.example", "aud": "uploads"}),
    ] {
        assert!(known(&strict, &signer.sign(&with(good))).await.is_ok());
    }
    let ours = |more: Value| {
        let mut claims = with(json!({"iss": "https://id.example", "aud": "uploads"}));
        let fields = claims.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        claims
    };
    for (wrong, reason) in [
        (json!({"exp": seconds(-62)}), "token expired"),
        (json!({"exp": 1}), "token expired"),
        (json!({"nbf": seconds(65)}), "token not valid yet"),
        (json!({"exp": null}), "missing claim exp, iss or aud"),
        (json!({"exp": "soon"}), "missing claim exp, iss or aud"),
        (json!({"exp": -1}), "missing claim exp, iss or aud"),
        (json!({"nbf": "later"}), "malformed claim"),
        (json!({"iss": "https://evil.example"}), "invalid issuer"),
        (json!({"iss": "https://id.example/"}), "invalid issuer"),
        (json!({"iss": null}), "missing claim exp, iss or aud"),
        (json!({"iss": 7}), "missing claim exp, iss or aud"),
        (json!({"iss": ["https://id.example"]}), "invalid issuer"),
        (
            json!({"iss": ["https://id.example", "https://evil.example"]}),
            "invalid issuer",
        ),
        (json!({"aud": ["web", "else"]}), "invalid audience"),
        (json!({"aud": "web"}), "invalid audience"),
        (json!({"aud": []}), "invalid audience"),
        (json!({"aud": null}), "missing claim exp, iss or aud"),
        (json!({"sub": null}), "missing subject claim"),
        (json!({"sub": ""}), "missing subject claim"),
        (json!({"sub": ["ann"]}), "malformed claim"),
        (json!({"sub": "a\nb"}), "missing subject claim"),
        (json!({"sub": "x".repeat(256)}), "missing subject claim"),
    ] {
        let token = signer.sign(&ours(wrong.clone()));
        // A token with a valid signature is no guess.
        assert_eq!(
            why(&strict, &token).await,
            (reason.to_owned(), false),
            "{wrong}"
        );
    }
}

/// The last of two values applies to one parser, the first to another.
#[tokio::test]
async fn names_that_come_twice_are_refused() {
    let signer = Signer::ed25519();
    let jwt = jwt_with(&signer.pem, |settings| {
        settings.issuers = vec!["https://id.example".into()];
        settings.audiences = vec!["uploads".into()];
    })
    .await;
    let good = with(json!({"iss": "https://id.example", "aud": "uploads"})).to_string();
    let twice = |more: &str| format!("{},{more}}}", good.strip_suffix('}').unwrap());
    let header = r#"{"alg":"EdDSA"}"#;
    let known = async |header: &str, claims: &str| {
        let signed = format!("{}.{}", spelled(header), spelled(claims));
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &signer.key, signer.algorithm);
        known(&jwt, &format!("{signed}.{}", signature.unwrap())).await
    };
    assert!(known(header, &good).await.is_ok());
    for more in [
        r#""sub":"admin""#,
        r#""sub":"ann""#,
        r#""iss":"https://id.example""#,
        r#""iss":"https://evil.example""#,
        r#""aud":"web""#,
        r#""aud":"uploads""#,
        r#""exp":99999999999"#,
        r#""\u0065xp":99999999999"#,
        r#""nbf":0,"nbf":1"#,
        r#""landfall":{"admin":false},"landfall":{"admin":true}"#,
        r#""landfall":{"admin":false,"admin":true}"#,
    ] {
        assert!(known(header, &twice(more)).await.is_err(), "{more}");
    }
    for header in [
        r#"{"alg":"none","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","kid":"a","kid":"b"}"#,
        r#"{"alg":"EdDSA","crit":["exp"]}"#,
        r#"{"alg":"EdDSA","crit":[]}"#,
        r#"{"alg":"EdDSA","crit":null,"crit":["b64"],"b64":false}"#,
    ] {
        assert!(known(header, &good).await.is_err(), "{header}");
    }
}

#[tokio::test]
async fn claims_about_the_caller() {
    let signer = Signer::p256();
    let jwt = jwt_with(&signer.pem, |settings| {
        settings.subject = "user_id".into();
        settings.limits = "https://up.example/limits".into();
    })
    .await;
    let limits = json!({
        "max_size": 1000, "allowed_types": ["image/*"], "max_active": 3,
        "rate_limit": {"count": 10, "per": "1m"}, "quota": 5000, "require_size": true, "admin": true,
    });
    let token = |limits: &Value| {
        signer.sign(&with(
            json!({"user_id": 42, "https://up.example/limits": limits}),
        ))
    };
    let principal = known(&jwt, &token(&limits)).await.unwrap();
    assert_eq!(principal.subject, "42");
    assert!(principal.is_admin);
    let per = Duration::from_secs(60);
    let expected = GrantLimits {
        max_size: Some(1000),
        allowed_types: vec!["image/*".into()],
        max_active: Some(3),
        rate_limit: Some(RateLimit { count: 10, per }),
        quota: Some(5000),
        require_size: true,
    };
    assert_eq!(principal.limits, expected);
    for nothing in [
        json!(null),
        json!({}),
        json!({"admin": null, "quota": null}),
    ] {
        let principal = known(&jwt, &token(&nothing)).await.unwrap();
        assert_eq!(principal.limits, GrantLimits::default());
        assert!(!principal.is_admin);
    }
    for nonsense in [
        json!("admin"),
        json!([1]),
        json!({"admin": "false"}),
        json!({"admin": 1}),
        json!({"max_size": "1000"}),
        json!({"max_size": -1}),
        json!({"maxSize": 1000}),
        json!({"allowed_types": "image/*"}),
        json!({"allowed_types": ["images"]}),
        json!({"rate_limit": "10"}),
        json!({"rate_limit": "0/1m"}),
        json!({"max_active": 1.5}),
    ] {
        let refused = why(&jwt, &token(&nonsense)).await;
        let expected = ("invalid limits in the token".to_owned(), false);
        assert_eq!(refused, expected, "{nonsense}");
    }
    let missing_credentials = signer.sign(&claims());
    assert_eq!(
        why(&jwt, &missing_credentials).await.0,
        "missing subject claim"
    );
}

#[tokio::test]
async fn confused_algorithms_are_refused() {
    let (rsa, ec, ed) = (Signer::rsa(), Signer::p256(), Signer::ed25519());
    let set = jwks(&[
        rsa.named("rsa", json!({})),
        ec.named("ec", json!({})),
        ed.named("ed", json!({})),
    ]);
    // Even if the settings allow it.
    let jwt = jwt_with(&set, |settings| {
        settings
            .algorithms
            .extend([Algorithm::HS256, Algorithm::HS512]);
    })
    .await;
    let strict = jwt_with(&set, |_| {}).await;
    let hmac = |secret: &[u8], kid: &str, algorithm: Algorithm| {
        let mut header = Header::new(algorithm);
        header.kid = Some(kid.into());
        encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let modulus = rsa.jwk["n"].as_str().unwrap();
    let mut tokens = vec![];
    for kid in ["rsa", "ec", "ed", "none", ""] {
        for secret in [&rsa.pem, &ec.pem, &ed.pem, modulus, &set, ""] {
            tokens.push(hmac(secret.as_bytes(), kid, Algorithm::HS256));
            tokens.push(hmac(secret.as_bytes(), kid, Algorithm::HS512));
        }
        for none in ["none", "None", "NONE", "nOnE", ""] {
            tokens.push(put_together(
                &json!({"alg": none, "kid": kid}),
                &claims(),
                b"",
            ));
        }
        tokens.push(put_together(&json!({"kid": kid}), &claims(), b""));
    }
    // Of one kind, said to be of another.
    for (signer, kid) in [(rsa, "rsa"), (&ec, "ec"), (&ed, "ed")] {
        let token = signer.sign_as(Some(kid), &claims());
        assert!(known(&jwt, &token).await.is_ok(), "{kid}");
        let (_, rest) = token.split_once('.').unwrap();
        for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA", "HS256", "none"] {
            for kid in ["rsa", "ec", "ed"] {
                let header = json!({"alg": algorithm, "kid": kid}).to_string();
                tokens.push(format!("{}.{rest}", spelled(header)));
            }
        }
        // A key under another's name.
        for other in ["rsa", "ec", "ed"]
            .into_iter()
            .filter(|other| *other != kid)
        {
            tokens.push(signer.sign_as(Some(other), &claims()));
        }
        // A truncated, empty or foreign signature.
        let (start, signature) = token.rsplit_once('.').unwrap();
        tokens.push(format!("{start}."));
        tokens.push(format!("{start}.{}", &signature[..signature.len() - 4]));
        tokens.push(format!("{start}.{}", spelled([0; 64])));
        tokens.push(
            signer
                .sign_as(Some(kid), &claims())
                .replacen("eyJ", "eyK", 1),
        );
    }
    for token in tokens {
        for jwt in [&jwt, &strict] {
            let (why, is_guess) = why(jwt, &token).await;
            assert!(is_guess, "{why}: {token}");
        }
    }
}

#[tokio::test]
async fn a_token_doesnt_say_with_what_to_check_it() {
    let (ours, evil) = (Signer::p256(), Signer::p256());
    let jwt = jwt(&jwks(&[ours.named("1", json!({}))])).await;
    let evil_jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(evil.jwk.clone()).unwrap();
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = Some(evil_jwk);
    header.jku = Some("https://evil.example/jwks.json".into());
    header.x5u = Some("https://evil.example/cert".into());
    header.x5c = Some(vec!["AAAA".into()]);
    for kid in [
        None,
        Some("1"),
        Some("../../../dev/null"),
        Some("https://evil.example/jwks.json"),
        Some("1' OR '1'='1"),
    ] {
        header.kid = kid.map(str::to_owned);
        let token = encode(&header, &claims(), &evil.key).unwrap();
        assert!(why(&jwt, &token).await.1, "{kid:?}");
    }
    // With a valid signature, key headers are ignored.
    header.kid = Some("1".into());
    let token = encode(&header, &claims(), &ours.key).unwrap();
    assert!(known(&jwt, &token).await.is_ok());
    // Critical extensions must be understood.
    header.crit = Some(vec!["b64".into()]);
    let token = encode(&header, &claims(), &ours.key).unwrap();
    assert_eq!(
        why(&jwt, &token).await,
        ("unsupported critical extension".into(), true)
    );
}

#[tokio::test]
async fn only_the_configured_algorithms_count() {
    let rsa = Signer::rsa();
    let set = jwks(&[rsa.named("1", json!({}))]);
    let jwt = jwt_with(&set, |settings| {
        settings.algorithms = vec![Algorithm::PS256]
    })
    .await;
    let token = rsa.sign_as(Some("1"), &claims());
    assert_eq!(why(&jwt, &token).await.0, "algorithm not accepted");
    // The `use` and `key_ops` of a key are honored.
    for (fields, is_good) in [
        (json!({"alg": "RS256", "use": "sig"}), true),
        (json!({"key_ops": ["verify"]}), true),
        (json!({"alg": "PS256"}), false),
        (json!({"alg": "ES256"}), false),
        (json!({"alg": "RSA-OAEP"}), false),
        (json!({"use": "enc"}), false),
        (json!({"key_ops": ["encrypt"]}), false),
    ] {
        let spare = Signer::ed25519().named("spare", json!({}));
        let set = jwks(&[rsa.named("1", fields.clone()), spare]);
        let found = known(&super::jwt::jwt(&set).await, &token).await;
        assert_eq!(found.is_ok(), is_good, "{fields}");
    }
}

#[tokio::test]
async fn shared_secrets_only_from_files_and_only_on_request() {
    let secret = [7; 32];
    let key = EncodingKey::from_secret(&secret);
    let token = encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
    let oct = |secret: &[u8]| json!({"kty": "oct", "k": spelled(secret)});
    let asked = jwt_with(&jwks(&[oct(&secret)]), |settings| {
        settings.algorithms = vec![Algorithm::HS256];
    })
    .await;
    assert_eq!(known(&asked, &token).await.unwrap().subject, "ann");
    let not_asked = jwt(&jwks(&[oct(&secret)])).await;
    assert_eq!(why(&not_asked, &token).await.0, "algorithm not accepted");
    // HS512 wants a longer one.
    let long = jwt_with(&jwks(&[oct(&secret)]), |settings| {
        settings.algorithms = vec![Algorithm::HS512];
    })
    .await;
    let token = encode(&Header::new(Algorithm::HS512), &claims(), &key).unwrap();
    assert_eq!(why(&long, &token).await.0, "no key for this token");
    assert!(
        refused(&jwks(&[oct(&secret[1..])]))
            .await
            .contains("no key")
    );
}

#[tokio::test]
async fn keys_without_a_name_fit_any_token_of_their_kind() {
    let (first, second) = (Signer::p256(), Signer::p256());
    let jwt = jwt(&jwks(&[first.jwk.clone(), second.jwk.clone()])).await;
    for signer in [&first, &second] {
        for kid in [None, Some("any")] {
            let token = signer.sign_as(kid, &claims());
            assert!(known(&jwt, &token).await.is_ok(), "{kid:?}");
        }
    }
    let stranger = Signer::p256().sign(&claims());
    assert_eq!(
        why(&jwt, &stranger).await,
        ("invalid signature".into(), true)
    );
    let late = with(json!({"exp": 1}));
    let late = first.sign(&late);
    assert_eq!(why(&jwt, &late).await, ("token expired".into(), false));
}

#[tokio::test]
async fn tokens_without_a_key_name_are_verified_with_few_keys() {
    let signers: Vec<_> = (0..5).map(|_| Signer::p256()).collect();
    let set = |count: usize| {
        let keys: Vec<_> = (0..count)
            .map(|nth| signers[nth].named(&format!("key-{nth}"), json!({})))
            .collect();
        jwks(&keys)
    };
    let (few, many) = (jwt(&set(4)).await, jwt(&set(5)).await);
    let unnamed = signers[3].sign(&claims());
    assert!(known(&few, &unnamed).await.is_ok());
    // A good signature does not help: verifying with all keys costs too much.
    assert_eq!(
        why(&many, &unnamed).await,
        ("ambiguous key; the token needs a kid".into(), true)
    );
    let named = signers[4].sign_as(Some("key-4"), &claims());
    assert!(known(&many, &named).await.is_ok());
}

#[tokio::test]
async fn neither_issuer_nor_audience_is_refused_at_the_start() {
    let signer = Signer::p256();
    let file = file(&signer.pem);
    let keys = || JwtKeys::File(file.path().to_owned());
    let refused = Jwt::open(JwtSettings::new(keys())).await.unwrap_err();
    assert!(refused.to_string().contains("issuer"), "{refused}");
    let mut settings = JwtSettings::new(keys());
    settings.audiences = vec!["uploads".into()];
    assert!(Jwt::open(settings).await.is_ok());
}

#[tokio::test]
async fn files_without_a_good_key_are_refused_at_the_start() {
    let (rsa, ed) = (Signer::rsa(), Signer::ed25519());
    let weak = Signer::rsa_of(1024);
    let short = json!({"kty": "OKP", "crv": "Ed25519", "x": spelled([1; 31])});
    let off = json!({"kty": "EC", "crv": "P-256", "x": spelled([1; 31]), "y": spelled([1; 32])});
    for (content, why) in [
        (String::new(), "not a JWKS"),
        ("[]".into(), "not a JWKS"),
        ("{}".into(), "not a JWKS"),
        (jwks(&[]), "no key"),
        (jwks(&[json!({"kty": "new", "crv": "Z"})]), "no key"),
        (jwks(&[json!("key")]), "no key"),
        (jwks(&[short, off, weak.jwk.clone()]), "no key"),
        (jwks(&vec![ed.jwk.clone(); 101]), "more than 100"),
        (weak.pem.clone(), "2048"),
        (format!("{}{}", rsa.pem, ed.pem), "more than one"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            "CERTIFICATE",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(),
            "not an RSA, EC",
        ),
        (" ".repeat((1 << 20) + 1), "larger than"),
    ] {
        let refused = refused(&content).await;
        assert!(refused.contains(why), "{refused}");
    }
    let gone = settings_of(JwtKeys::File("/nowhere/keys.json".into()));
    let gone = Jwt::open(gone).await.unwrap_err().to_string();
    assert!(gone.contains("/nowhere/keys.json"), "{gone}");
    // Unusable keys are skipped.
    let token = ed.sign(&claims());
    let set = jwks(&[json!({"kty": "new"}), weak.jwk.clone(), ed.jwk.clone()]);
    assert!(known(&jwt(&set).await, &token).await.is_ok());
}

#[tokio::test]
async fn long_and_strange_tokens() {
    let jwt = jwt(&Signer::p256().pem).await;
    for token in [
        "..",
        "a..",
        ".a.",
        "\u{e9}.b.c",
        &format!("{}.b.c", "a".repeat(60_000)),
    ] {
        let Ok(value) = http::HeaderValue::from_str(&format!("Bearer {token}")) else {
            continue;
        };
        let mut parts = request("GET", &[]);
        parts.headers.insert("authorization", value);
        let found = jwt.authenticate(&parts, None).await;
        assert!(!matches!(found, Ok(Some(_))), "{token}");
    }
}
