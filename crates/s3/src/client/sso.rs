//! Credentials of a login by IAM Identity Center (`aws sso login`).
//!
//! The login is in a file that the AWS tools share. An expired token is renewed with the refresh
//! token in it and stored there again, since the refresh token may be good for one use only. This
//! never logs in: a person must.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};

use super::{
    credentials::Credentials,
    encode::Query,
    profile::{Sso, home},
    provider_context::{ProviderContext, parse, read_text},
    sts::Partition,
};

/// A token with less lifetime is renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Renewed {
    access_token: String,
    expires_in: u32,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleKeys {
    role_credentials: RoleKeysJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleKeysJson {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// In milliseconds since 1970.
    expiration: u64,
}

/// Returns the credentials of a role for a login.
///
/// # Errors
/// A sentence with the command to run.
pub(super) async fn credentials(
    context: &ProviderContext,
    sso: &Sso,
) -> Result<Credentials, String> {
    let advise = |error: String| format!("{error}: run {}", sso.login);
    let token = access_token(context, sso).await.map_err(advise)?;
    let mut query = Query::new();
    query.push("account_id", &sso.account);
    query.push("role_name", &sso.role);
    let base = endpoint(context, "AWS_ENDPOINT_URL_SSO", "portal.sso", &sso.region);
    let url = format!("{base}/federation/credentials?{}", query.canonical());
    let request = Request::get(url).header("x-amz-sso_bearer_token", token);
    let keys: Result<RoleKeys, _> = context.json(request).await;
    let keys = keys.map_err(|error| {
        let (role, account) = (&sso.role, &sso.account);
        advise(format!("the role {role} of the account {account}: {error}"))
    })?;
    let keys = keys.role_credentials;
    Ok(Credentials {
        access_key_id: keys.access_key_id,
        secret_access_key: keys.secret_access_key,
        session_token: Some(keys.session_token),
        expires: Some(UNIX_EPOCH + Duration::from_millis(keys.expiration)),
    })
}

fn endpoint(context: &ProviderContext, variable: &str, host: &str, region: &str) -> String {
    let suffix = Partition::from_region(region).dns_suffix;
    let set = context.variable(variable);
    let url = set.unwrap_or_else(|| format!("https://{host}.{region}.{suffix}"));
    url.trim_end_matches('/').to_owned()
}

async fn access_token(context: &ProviderContext, sso: &Sso) -> Result<String, String> {
    let name = hex::encode(Sha1::digest(&sso.cache_key));
    let folder = home(&|name: &str| context.variable(name)).join(".aws/sso/cache");
    let path = folder.join(name).with_extension("json");
    let shown = path.display().to_string();
    let cached = read_text(&shown).map_err(|error| format!("no login ({error})"))?;
    let mut cached: Map<String, Value> =
        parse(cached.as_bytes()).map_err(|error| format!("{shown}: {error}"))?;
    let get = |name: &str| cached.get(name).and_then(Value::as_str).unwrap_or_default();
    let expires = get("expiresAt").parse::<Timestamp>();
    let expires = expires.map_err(|_| format!("{shown} has no valid expiresAt"))?;
    if expires > Timestamp::now() + RENEW_BEFORE {
        return Ok(get("accessToken").to_owned());
    }
    if get("refreshToken").is_empty() {
        return Err(format!("the login in {shown} has expired"));
    }
    let body = json!({
        "clientId": get("clientId"),
        "clientSecret": get("clientSecret"),
        "refreshToken": get("refreshToken"),
        "grantType": "refresh_token",
    });
    let base = endpoint(context, "AWS_ENDPOINT_URL_SSO_OIDC", "oidc", &sso.region);
    let request =
        Request::post(format!("{base}/token")).header(header::CONTENT_TYPE, "application/json");
    let renewed = context.body(request, Bytes::from(body.to_string())).await;
    let renewed = renewed.and_then(|body| parse::<Renewed>(&body));
    let renewed = renewed.map_err(|error| format!("the login in {shown} has expired ({error})"))?;
    let expires = Timestamp::now() + Duration::from_secs(renewed.expires_in.into());
    let token = renewed.access_token;
    cached.insert("accessToken".to_owned(), token.clone().into());
    // AWS's tools write seconds.
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    cached.insert("expiresAt".to_owned(), expires.into());
    if let Some(refresh) = renewed.refresh_token {
        cached.insert("refreshToken".to_owned(), refresh.into());
    }
    if let Err(error) = replace(&path, &Value::from(cached).to_string()) {
        tracing::warn!("cannot store the renewed login in {shown}: {error}");
    }
    Ok(token)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
    let write = || {
        let mut file = File::options();
        let mut file = file.write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&part, path)
    };
    write().inspect_err(|_| {
        // It may not exist.
        let _ = fs::remove_file(&part);
    })
}
