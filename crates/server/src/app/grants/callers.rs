//! The ways to know callers, as the settings have them.

use std::sync::Arc;

use anyhow::Context as _;
use landfall::Handler;
use landfall_grants::{
    Queue,
    auth::{
        ApiKeys, AuthMethod, Authenticator, CsrfPolicy, ExternalOrigin, FailedAttempts,
        ForwardAuth, ForwardAuthSettings, Jwt, JwtKeys, JwtSettings,
    },
};

use crate::settings::{self, Settings};

/// The ways that are on: keys of callers always are.
///
/// # Errors
/// What keeps one from being used, in words for the person who starts the server. That its other end
/// is away is no reason.
pub(super) fn callers(
    settings: &Settings,
    queue: &Queue,
    jwt: Option<Jwt>,
    failed_attempts: FailedAttempts,
    handler: &Handler,
) -> anyhow::Result<Authenticator> {
    let grants = &settings.grants;
    let mut ways: Vec<Arc<dyn AuthMethod>> = vec![Arc::new(ApiKeys::new(queue.clone()))];
    if let Some(jwt) = jwt {
        ways.push(Arc::new(jwt));
    }
    if let Some(url) = &grants.forward_auth.url {
        let mut asked = ForwardAuthSettings::new(url.reveal());
        asked.cache = grants.forward_auth.cache;
        let handler = handler.clone();
        asked.external_origin =
            ExternalOrigin::new(move |request| handler.external_origin(request));
        let application = ForwardAuth::new(asked).context("-grants-forward-auth-url")?;
        ways.push(Arc::new(application));
    }
    let handler = handler.clone();
    let cross_site = CsrfPolicy::new()
        .external_origin(move |request| handler.external_origin(request))
        .allow_origins(&grants.allowed_origins)
        .context("-grants-allowed-origins")?;
    Ok(Authenticator::new(ways, failed_attempts, cross_site))
}

/// What knows callers by JSON web tokens, if that is set up; reads its keys.
///
/// # Errors
/// Keys in a file that can't be used. That a URL is away is no reason.
pub(in crate::app) async fn jwt(settings: &Settings) -> anyhow::Result<Option<Jwt>> {
    let wanted = &settings.grants.jwt;
    let Some(keys) = wanted.keys.as_ref().filter(|_| settings.grants.enabled) else {
        return Ok(None);
    };
    let jwt = Jwt::open(jwt_settings(wanted, keys)?).await;
    jwt.context("-grants-jwt-keys").map(Some)
}

fn jwt_settings(wanted: &settings::Jwt, keys: &settings::JwtKeys) -> anyhow::Result<JwtSettings> {
    let mut made = JwtSettings::new(match keys {
        settings::JwtKeys::Url(url) => JwtKeys::Url(url.reveal().to_owned()),
        settings::JwtKeys::File(file) => JwtKeys::File(file.clone()),
    });
    made.issuers.clone_from(&wanted.issuers);
    made.audiences.clone_from(&wanted.audiences);
    let named = wanted.algorithms.iter().map(|name| name.parse());
    made.algorithms = named
        .collect::<Result<_, _>>()
        .context("-grants-jwt-algorithms")?;
    made.subject.clone_from(&wanted.subject);
    made.limits.clone_from(&wanted.limits);
    Ok(made)
}

/// What people call the ways that are on.
pub(super) fn known_by(settings: &Settings) -> Vec<String> {
    let grants = &settings.grants;
    let mut ways = vec!["API keys (landfall keys)".to_owned()];
    ways.extend(grants.jwt.keys.as_ref().map(|keys| match keys {
        settings::JwtKeys::Url(url) => {
            format!("JSON web tokens (keys at '{}')", url.redacted_url())
        }
        settings::JwtKeys::File(file) => format!("JSON web tokens (keys in '{}')", file.display()),
    }));
    let asked = grants.forward_auth.url.as_ref();
    ways.extend(asked.map(|url| format!("the application ('{}')", url.redacted_url())));
    ways
}
