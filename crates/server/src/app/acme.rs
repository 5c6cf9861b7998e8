//! Certificates from an ACME authority.

use anyhow::Context as _;
use http::{Request, Response};
use landfall_acme::{Acme, AcmeSettings, ChallengeMethod, Challenges, DatabaseStore, FolderStore};
use landfall_http::{Body, ConnectionInfo, OtherBody};

use super::{routes, state::SharedDatabase};
use crate::{
    log,
    settings::{self, Settings},
};

/// `None` without `--acme-domain`.
pub(super) async fn open(
    settings: &Settings,
    challenges: Challenges,
    database: &SharedDatabase,
) -> anyhow::Result<Option<Acme>> {
    let acme = &settings.tls.acme;
    if !acme.is_on() {
        return Ok(None);
    }
    settings::check_private(&settings.state_dir()).map_err(anyhow::Error::msg)?;
    let shared = match settings.shares_certificates() {
        true => {
            let connections = database.connect(settings, "certificates").await?;
            Some(DatabaseStore::new(connections, &acme.directory))
        }
        false => None,
    };
    let folder = FolderStore::new(settings.acme_dir());
    let settings = AcmeSettings {
        names: acme.domains.clone(),
        contact: acme.email.clone(),
        directory: acme.directory.clone(),
        authorities: acme.authorities.clone(),
        methods: methods(&settings.tls),
    };
    let acme = Acme::new(settings, challenges, folder, shared).map_err(anyhow::Error::msg);
    acme.context("--acme-domain").map(Some)
}

/// Only the redirect listens without TLS.
fn methods(tls: &settings::Tls) -> Vec<ChallengeMethod> {
    let http = tls.redirect_http.map(|_| ChallengeMethod::Http01);
    let has_tls = !tls.needs_client_certificate();
    let tls = has_tls.then_some(ChallengeMethod::TlsAlpn01);
    http.into_iter().chain(tls).collect()
}

/// Returns the response to a validation of a name, which must not be redirected.
pub(super) fn respond(acme: &Acme, request: &Request<Body>) -> Option<Response<OtherBody>> {
    let info = request.extensions().get::<ConnectionInfo>()?;
    let path = request.uri().path();
    if info.tls || !path.starts_with(Challenges::PATH) {
        return None;
    }
    Some(match acme.challenges().response(path) {
        Some(text) => routes::challenge_response(text),
        None => routes::not_found(),
    })
}

pub(super) fn log_startup(settings: &settings::Acme) {
    if settings.is_on() {
        let names = settings.domains.join(", ");
        let directory = &settings.directory;
        log::say(format_args!(
            "Using {directory} for the certificate of {names}."
        ));
    }
}
