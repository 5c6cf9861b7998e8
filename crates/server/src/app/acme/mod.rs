//! Certificates from an ACME authority.

#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "redis")]
mod redis;
#[cfg(all(test, feature = "postgres", feature = "redis", feature = "s3"))]
mod tests;

use anyhow::Context as _;
use http::{Request, Response};
use landfall::service::Peer;
use landfall_acme::{Acme, AcmeSettings, ChallengeMethod, Challenges, FolderStore, SharedStore};
use landfall_http::{Body, OtherBody};

#[cfg(feature = "s3")]
use super::storage::StorageBackend;
use super::{routes, state::SharedDatabase, storage::Storage};
use crate::{
    condition::ConditionKind,
    log,
    settings::{self, LeaseKind, Settings},
};

/// After this time, another node orders certificates instead of one that died.
#[cfg(any(feature = "redis", feature = "s3"))]
const LEASE_TTL: std::time::Duration = std::time::Duration::from_secs(30);

/// `None` without `--acme-domain`.
pub(super) async fn open(
    settings: &Settings,
    challenges: Challenges,
    database: &SharedDatabase,
    storage: &Storage,
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
    let shared = open_shared(settings, database, storage).await?;
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

/// `None` if this node is the only one.
async fn open_shared(
    settings: &Settings,
    database: &SharedDatabase,
    storage: &Storage,
) -> anyhow::Result<Option<SharedStore>> {
    if settings.shares_certificates() {
        let connections = database.connect(settings, "certificates").await?;
        let directory = &settings.tls.acme.directory;
        return Ok(Some(SharedStore::database(connections, directory)));
    }
    Ok(match (&settings.leases.kind, &storage.backend) {
        #[cfg(feature = "redis")]
        (LeaseKind::Redis(url), _) => {
            let directory = settings.acme_directory_name();
            Some(redis::open(url.reveal(), &directory)?)
        }
        #[cfg(feature = "s3")]
        (LeaseKind::Store, StorageBackend::Bucket(bucket)) => Some(bucket::open(settings, bucket)?),
        _ => None,
    })
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

pub(super) fn log_startup(settings: &Settings, storage: &Storage) {
    let acme = &settings.tls.acme;
    if !acme.is_on() {
        return;
    }
    let (names, directory) = (acme.domains.join(", "), &acme.directory);
    log::say(format_args!(
        "Using {directory} for the certificate of {names}."
    ));
    let place = match (&settings.leases.kind, &storage.backend) {
        _ if settings.shares_certificates() => "PostgreSQL".to_owned(),
        (LeaseKind::Redis(_), _) => "Redis".to_owned(),
        #[cfg(feature = "s3")]
        (LeaseKind::Store, StorageBackend::Bucket(_)) => storage.name(),
        _ => return,
    };
    log::say(format_args!(
        "Sharing the certificate and its private key in {place}."
    ));
}
