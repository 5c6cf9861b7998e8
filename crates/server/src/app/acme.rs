//! Certificates from an ACME authority.

use anyhow::Context as _;
use http::{Request, Response};
use landfall::service::Peer;
use landfall_acme::{Acme, AcmeSettings, ChallengeMethod, Challenges, DatabaseStore, FolderStore};
use landfall_http::{Body, OtherBody};

use super::{routes, state::SharedDatabase};
use crate::{
    condition::ConditionKind,
    log,
    settings::{self, LeaseKind, Settings},
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
    // Private keys are not stored where others can read them, and a certificate can be had elsewhere.
    let exposed = settings::secure(&settings.state_dir()).map_err(anyhow::Error::msg)?;
    if let Some(reason) = exposed {
        let remedy = ConditionKind::StateDirectoryExposed.remedy();
        anyhow::bail!("--acme-domain stores private keys, but {reason}: {remedy}");
    }
    let shared = match settings.shares_certificates() {
        true => Some(DatabaseStore::new(
            database.connect(settings, "certificates").await?,
            &acme.directory,
        )),
        false => None,
    };
    let folder = FolderStore::new(settings.acme_dir());
    let settings = AcmeSettings {
        names: acme.domains.clone(),
        directory: acme.directory.clone(),
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
    let peer = request.extensions().get::<Peer>()?;
    let path = request.uri().path();
    if peer.tls || !path.starts_with(Challenges::PATH) {
        return None;
    }
    Some(match acme.challenges().response(path) {
        Some(text) => routes::challenge_response(text),
        None => routes::not_found(),
    })
}

pub(super) fn log_startup(settings: &Settings) {
    let acme = &settings.tls.acme;
    if !acme.is_on() {
        return;
    }
    let (names, directory) = (acme.domains.join(", "), &acme.directory);
    log::say(format_args!(
        "Using {directory} for the certificate of {names}."
    ));
    if settings.shares_certificates() {
        log::say("Sharing the certificate and its private key in PostgreSQL.");
    } else if !matches!(settings.leases.kind, LeaseKind::Auto | LeaseKind::Memory) {
        log::say(
            "Nodes do not share the certificate: with more than one, set --database to a PostgreSQL \
             URL, or obtain it on one node or on the load balancer only.",
        );
    }
}
