//! Builds the authentication methods of the APIs from settings, in the order in which they are tried.
//!
//! API keys are always accepted. A request without credentials for one method is left to the next one; the rules are
//! those of `landfall_access::auth`. JWT keys are read before a start or reload changes anything.

use std::sync::Arc;

use anyhow::Context as _;
use http::request::Parts;
use landfall::Handler;
use landfall_access::auth::{
    ApiKeys, AuthMethod, Authenticator, ClientCertificates, CsrfPolicy, ExternalOrigin,
    ForwardAuth, ForwardAuthSettings, Jwt, JwtKeys, JwtSettings,
};
use landfall_http::ClientCertificate;

use super::Grants;
use crate::settings::{self, Settings};

pub(super) fn authenticator(
    settings: &Settings,
    grants: &Grants,
    handler: &Handler,
) -> anyhow::Result<Authenticator> {
    let configured = &settings.grants;
    let mut methods: Vec<Arc<dyn AuthMethod>> = vec![Arc::new(ApiKeys::new(grants.queue.clone()))];
    if let Some(jwt) = &grants.jwt {
        methods.push(jwt.clone());
    }
    if let Some(url) = &configured.forward_auth.url {
        let mut forward_auth = ForwardAuthSettings::new(url.reveal());
        let handler = handler.clone();
        forward_auth.external_origin =
            ExternalOrigin::new(move |request| handler.external_origin(request));
        let application = ForwardAuth::new(forward_auth).context("--grants-forward-auth-url")?;
        methods.push(Arc::new(application));
    }
    if configured.client_certificates {
        let name = |request: &Parts| request.extensions.get::<ClientCertificate>()?.name();
        methods.push(Arc::new(ClientCertificates::new(name)));
    }
    let handler = handler.clone();
    let cross_site = CsrfPolicy::new()
        .external_origin(move |request| handler.external_origin(request))
        .allow_origins(&configured.allowed_origins)
        .context("--grants-allowed-origins")?;
    let failed_attempts = grants.failed_attempts.clone();
    Ok(Authenticator::new(methods, failed_attempts, cross_site))
}

/// Reads the keys; those at a URL not if a `running` server has them.
pub(in crate::app) async fn jwt(
    settings: &Settings,
    running: Option<&Settings>,
) -> anyhow::Result<Option<Jwt>> {
    let configured = &settings.grants.jwt;
    let Some(keys) = configured.keys.as_ref().filter(|_| settings.grants.enabled) else {
        return Ok(None);
    };
    let is_same = running.is_some_and(|running| running.grants.jwt == *configured);
    if is_same && matches!(keys, settings::JwtKeys::Url(_)) {
        return Ok(None);
    }
    let jwt = Jwt::open(jwt_settings(configured, keys)?).await;
    jwt.context("--grants-jwt-keys").map(Some)
}

fn jwt_settings(
    configured: &settings::Jwt,
    keys: &settings::JwtKeys,
) -> anyhow::Result<JwtSettings> {
    let mut jwt = JwtSettings::new(match keys {
        settings::JwtKeys::Url(url) => JwtKeys::Url(url.reveal().to_owned()),
        settings::JwtKeys::File(file) => JwtKeys::File(file.clone()),
    });
    jwt.issuers.clone_from(&configured.issuers);
    jwt.audiences.clone_from(&configured.audiences);
    let algorithms = configured.algorithms.iter().map(|name| name.parse());
    let algorithms = algorithms.collect::<Result<_, _>>();
    jwt.algorithms = algorithms.context("--grants-jwt-algorithms")?;
    jwt.subject.clone_from(&configured.subject);
    Ok(jwt)
}

pub(super) fn describe_methods(settings: &Settings) -> Vec<String> {
    let grants = &settings.grants;
    let mut methods = vec!["API keys (landfall keys)".to_owned()];
    methods.extend(grants.jwt.keys.as_ref().map(|keys| match keys {
        settings::JwtKeys::Url(url) => {
            format!("JSON web tokens (keys at '{}')", url.redacted_url())
        }
        settings::JwtKeys::File(file) => format!("JSON web tokens (keys in '{}')", file.display()),
    }));
    let url = grants.forward_auth.url.as_ref();
    methods.extend(url.map(|url| format!("forward auth ('{}')", url.redacted_url())));
    let certificates = "client certificates (--tls-client-ca)".to_owned();
    methods.extend(grants.client_certificates.then_some(certificates));
    methods
}
