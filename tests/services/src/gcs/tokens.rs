//! The endpoints that issue bearer tokens: that of service accounts and of users, of the security token service (workload
//! identity federation), of impersonation, and the metadata server. All issue the one token that the fake accepts.

use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use rsa::{
    RsaPrivateKey, pkcs8::EncodePrivateKey as _, rand_core::OsRng, traits::PublicKeyParts as _,
};
use serde_json::{Value, json};

use super::{
    Service,
    request::{Call, HttpResponse, insert_header, json_response, response, text},
};

/// The account in the key file and on the metadata server.
pub(super) const ACCOUNT: &str = "landfall@test-project.iam.gserviceaccount.com";
const PROJECT: &str = "test-project";
/// Some clients name Google's endpoint in an assertion, wherever they send it.
const GOOGLE_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// Seconds from the issue of an assertion to its end.
const MAX_ASSERTION_LIFETIME: i64 = 3600;

#[derive(Debug)]
pub(super) struct Tokens {
    current: String,
    /// In seconds, as responses say; the token expires by [`Self::renew`] only.
    pub(super) lifetime: u64,
    /// No token is issued to accounts, for this reason.
    pub(super) refusal: Option<&'static str>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        let mut tokens = Self {
            current: String::new(),
            lifetime: 3599,
            refusal: None,
        };
        tokens.renew();
        tokens
    }

    pub(super) fn current(&self) -> &str {
        &self.current
    }

    pub(super) fn renew(&mut self) {
        self.current = format!("ya29.{:032x}", rand::random::<u128>());
    }
}

/// Made when the first test wants it, since it takes a second.
fn key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut OsRng, 2048).unwrap())
}

/// Verifies a signature of the account.
pub(super) fn verify(text: &str, signature: &[u8]) -> bool {
    let key = key().to_public_key();
    let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
    let key = RsaPublicKeyComponents { n, e };
    key.verify(&RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), signature)
        .is_ok()
}

pub(super) fn service_account(endpoint: &str) -> Value {
    let pem = key().to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).unwrap();
    json!({
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": *pem,
        "client_email": ACCOUNT,
        "client_id": "100000000000000000000",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": format!("{endpoint}/token"),
        "universe_domain": "googleapis.com",
    })
}

/// Answers a request for a token; `None` if it is something else.
pub(super) fn handle(service: &mut Service, call: &Call<'_>) -> Option<HttpResponse> {
    let path: Vec<_> = call.path.iter().map(String::as_str).collect();
    let answer = match (call.method.as_str(), &*path) {
        ("POST", ["token"]) => {
            service.count("tokens.oauth");
            oauth_token(service, call)
        }
        ("POST", ["v1", "token"]) => {
            service.count("tokens.sts");
            exchanged_token(service, call)
        }
        ("POST", ["v1", "projects", "-", "serviceAccounts", account]) => {
            service.count("tokens.impersonate");
            impersonated_token(service, call, account)
        }
        ("GET", ["computeMetadata", "v1", rest @ ..]) => {
            service.count("tokens.metadata");
            metadata(service, call, rest)
        }
        // Clients look for the metadata server by a request for its root.
        ("GET", [""]) => {
            let mut answer = text(200, "computeMetadata/\n");
            insert_header(&mut answer, "metadata-flavor", "Google");
            answer
        }
        _ => return None,
    };
    Some(answer)
}

fn bearer(service: &Service) -> Value {
    json!({"access_token": service.tokens.current, "expires_in": service.tokens.lifetime, "token_type": "Bearer"})
}

fn oauth_error(error: &str, description: &str) -> HttpResponse {
    json_response(
        400,
        &json!({"error": error, "error_description": description}),
    )
}

/// Returns the value of a field of a form, or an empty text.
fn form_field(call: &Call<'_>, name: &str) -> String {
    let mut fields = url::form_urlencoded::parse(&call.body);
    let value = fields.find_map(|(found, value)| (found == name).then(|| value.into_owned()));
    value.unwrap_or_default()
}

fn oauth_token(service: &Service, call: &Call<'_>) -> HttpResponse {
    if let Some(description) = service.tokens.refusal {
        return oauth_error("invalid_grant", description);
    }
    match &*form_field(call, "grant_type") {
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
            let audience = format!("{}/token", call.endpoint);
            match check_assertion(&form_field(call, "assertion"), &audience) {
                Ok(()) => json_response(200, &bearer(service)),
                Err(description) => oauth_error("invalid_grant", &description),
            }
        }
        "refresh_token" => {
            let required = ["client_id", "client_secret", "refresh_token"];
            if required
                .iter()
                .any(|name| form_field(call, name).is_empty())
            {
                return oauth_error("invalid_grant", "Bad Request");
            }
            json_response(200, &bearer(service))
        }
        _ => oauth_error("unsupported_grant_type", "Invalid grant_type"),
    }
}

/// Verifies an assertion by the key of the one service account.
fn check_assertion(assertion: &str, audience: &str) -> Result<(), String> {
    let public = key().to_public_key();
    let (modulus, exponent) = (public.n().to_bytes_be(), public.e().to_bytes_be());
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[audience, GOOGLE_TOKEN_URI]);
    validation.set_issuer(&[ACCOUNT]);
    validation.set_required_spec_claims(&["aud", "exp", "iss"]);
    let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    let token = jsonwebtoken::decode::<Value>(assertion, &key, &validation);
    let claims = token
        .map_err(|error| format!("Invalid JWT: {error}"))?
        .claims;
    let time = |name: &str| {
        claims[name]
            .as_i64()
            .ok_or_else(|| format!("Invalid JWT: no {name}"))
    };
    let (issued, expires) = (time("iat")?, time("exp")?);
    if expires - issued > MAX_ASSERTION_LIFETIME || issued > Timestamp::now().as_second() + 60 {
        return Err("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.".into());
    }
    if claims["scope"].as_str().is_none_or(str::is_empty) {
        return Err("Invalid JWT: no scope".into());
    }
    Ok(())
}

fn exchanged_token(service: &Service, call: &Call<'_>) -> HttpResponse {
    // Clients send a form or JSON, with names in either style.
    let json: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let field = |name: &str, camel: &str| match json[camel].as_str().or(json[name].as_str()) {
        Some(value) => value.to_owned(),
        None => form_field(call, name),
    };
    if field("grant_type", "grantType") != "urn:ietf:params:oauth:grant-type:token-exchange" {
        return oauth_error("unsupported_grant_type", "Invalid grant_type");
    }
    let required = [
        ("audience", "audience"),
        ("requested_token_type", "requestedTokenType"),
        ("scope", "scope"),
        ("subject_token", "subjectToken"),
        ("subject_token_type", "subjectTokenType"),
    ];
    if let Some((name, _)) = required
        .iter()
        .find(|(name, camel)| field(name, camel).is_empty())
    {
        return oauth_error("invalid_request", &format!("Missing {name}"));
    }
    let mut answer = bearer(service);
    answer["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token".into();
    json_response(200, &answer)
}

fn impersonated_token(service: &Service, call: &Call<'_>, account: &str) -> HttpResponse {
    let is_authorized =
        call.header("authorization") == Some(&format!("Bearer {}", service.tokens.current));
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    if !account.ends_with(":generateAccessToken")
        || body["scope"].as_array().is_none_or(Vec::is_empty)
    {
        return json_response(
            400,
            &json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": account}}),
        );
    }
    if !is_authorized {
        let message = "Request had invalid authentication credentials.";
        let error = json!({"code": 401, "status": "UNAUTHENTICATED", "message": message});
        return json_response(401, &json!({"error": error}));
    }
    let lifetime =
        SignedDuration::from_secs(i64::try_from(service.tokens.lifetime).unwrap_or(i64::MAX));
    let expires = Timestamp::now() + lifetime;
    json_response(
        200,
        &json!({"accessToken": service.tokens.current, "expireTime": format!("{expires:.0}")}),
    )
}

fn metadata(service: &Service, call: &Call<'_>, path: &[&str]) -> HttpResponse {
    if call.header("metadata-flavor") != Some("Google") {
        return text(403, "Missing required header: Metadata-Flavor");
    }
    let mut answer = match path {
        ["instance", "service-accounts", "default" | ACCOUNT, "token"] => {
            json_response(200, &bearer(service))
        }
        ["instance", "service-accounts", "default", "email"] => {
            response(200, "application/text", ACCOUNT.to_owned().into())
        }
        ["instance", "service-accounts", "default", ""]
            if call.parameter("recursive") == Some("true") =>
        {
            json_response(
                200,
                &json!({"aliases": ["default"], "email": ACCOUNT, "scopes": []}),
            )
        }
        ["project", "project-id"] => response(200, "application/text", PROJECT.to_owned().into()),
        ["universe", "universe-domain"] => {
            response(200, "application/text", "googleapis.com".to_owned().into())
        }
        _ => text(404, "Not Found"),
    };
    insert_header(&mut answer, "metadata-flavor", "Google");
    answer
}
