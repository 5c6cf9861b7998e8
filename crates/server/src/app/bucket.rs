//! Opens the bucket as storage: probes it, and turns settings into options of the S3 store.
//!
//! A bucket that cannot be used ends the start with a diagnosis; a missing permission to list it is a warning only.
//! The store must exclude the keys of direct uploads, which it would otherwise report or remove as orphans.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use landfall::Composer;
use landfall_s3::{
    S3Options, S3Store, UploadIds,
    client::Client,
    lease::{ConditionalWrites, keeps_prefix, probe_conditional_writes},
};

use super::cached_probe::CachedProbe;
use crate::{
    s3::{self, BucketProbe},
    settings::{LeaseKind, Settings},
};

/// A client starts the download at once; who finds the URL in a log or a history finds it expired.
pub(super) const REDIRECT_LIFETIME: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) store: S3Store,
    pub(super) name: String,
    pub(super) description: String,
    /// The service refuses to overwrite an object if a request asks for that.
    pub(super) writes_once: bool,
    reachable: CachedProbe<Option<String>>,
    prober: Client,
}

impl Bucket {
    pub(super) async fn open(settings: &Settings, name: &str) -> anyhow::Result<(Self, Composer)> {
        let prober = s3::probe_client(&settings.s3)?;
        let found = s3::probe(&prober, &settings.s3, name).await;
        let found = found.map_err(|diagnosis| anyhow!("{diagnosis}"))?;
        let prefix = &settings.s3.object_prefix;
        if found != BucketProbe::NoListing && s3::is_odd_prefix(prefix) {
            let is_kept = keeps_prefix(&prober, name, prefix).await;
            anyhow::ensure!(
                is_kept.context("cannot check --s3-object-prefix")?,
                "the service changes keys that begin with --s3-object-prefix {prefix}, so that expired uploads \
                 are not found: leave out the slash at its beginning"
            );
        }
        if found == BucketProbe::NoListing {
            tracing::warn!(
                bucket = name,
                "listing the bucket is not permitted: uploads work, but expired ones are not removed; allow \
                 s3:ListBucket, or set --sweep-interval 0"
            );
        }
        let client = s3::client(&settings.s3, found)?;
        let mut options = options(settings, name);
        let conditions = find_conditions(&client, settings, name).await;
        options.safe_overwrites = conditions.all();
        match settings.leases.kind {
            LeaseKind::Store => {
                options.shared = true;
                // Leases in the bucket, which are opened next, require them.
                options.conditional_writes = true;
            }
            LeaseKind::Redis(_) | LeaseKind::Postgres(_) => options.shared = true,
            LeaseKind::Auto | LeaseKind::Memory => {}
        }
        let store = S3Store::new(client.clone(), options).context("cannot open the S3 store")?;
        let composer = Composer::join(store.clone());
        let description = match &settings.s3.endpoint {
            Some(endpoint) => {
                format!("Using '{endpoint}/{name}' as S3 endpoint and bucket for storage.")
            }
            None if settings.s3.accelerate => format!(
                "Using 's3://{name}' as S3 bucket for storage with AWS S3 Transfer Acceleration \
                 enabled."
            ),
            None => format!("Using 's3://{name}' as S3 bucket for storage."),
        };
        let bucket = Self {
            client,
            store,
            name: name.to_owned(),
            description,
            writes_once: conditions.if_absent,
            reachable: CachedProbe::default(),
            prober,
        };
        Ok((bucket, composer))
    }

    pub(super) async fn health_error(&self) -> Option<String> {
        let probe = async || s3::is_reachable(&self.prober, &self.name).await;
        self.reachable.error(probe).await
    }
}

/// Returns the conditions that the service honors, none if that is unknown. Amazon's honors all, and those in the bucket
/// require them.
async fn find_conditions(client: &Client, settings: &Settings, name: &str) -> ConditionalWrites {
    if settings.s3.endpoint.is_none() || matches!(settings.leases.kind, LeaseKind::Store) {
        return ConditionalWrites::ALL;
    }
    let found = probe_conditional_writes(client, name, &settings.s3.object_prefix).await;
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to detect conditional writes, using none; see landfall doctor s3");
        ConditionalWrites::default()
    })
}

pub(crate) fn options(settings: &Settings, name: &str) -> S3Options {
    let s3 = &settings.s3;
    let mut options = S3Options::new(name);
    options.object_prefix.clone_from(&s3.object_prefix);
    options.min_part = s3.min_part_size;
    options.part_size = s3.part_size;
    options.concurrent_parts = s3.concurrent_parts;
    options.memory = usize::try_from(settings.limits.max_buffered_bytes).unwrap_or(usize::MAX);
    options.content_hashes = !s3.disable_content_hashes;
    options.key_template.clone_from(&s3.key);
    options.headers.clone_from(&s3.headers);
    if s3.plain_ids {
        options.ids = UploadIds::Plain;
    }
    options.orphan_age = options.orphan_age.min(settings.expiry.orphan_age());
    options.excluded_prefixes = key_prefixes(settings, &s3.object_prefix);
    options.safe_overwrites = s3.endpoint.is_none();
    options.redirect = s3.redirects.then_some(REDIRECT_LIFETIME);
    options
}

/// Returns the beginnings of the keys of direct uploads below the prefix of all keys.
pub(super) fn key_prefixes(settings: &Settings, prefix: &str) -> Vec<String> {
    if !settings.direct.enabled {
        return Vec::new();
    }
    let of_clients = landfall_direct::CLIENT_KEY_PREFIX;
    let beginnings = [settings.direct.key_prefix(), of_clients];
    let prefixes = beginnings.map(|beginning| format!("{prefix}{beginning}"));
    prefixes.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Invocation, read};

    #[test]
    fn the_store_ignores_keys_of_direct_uploads() {
        let prefixes = |args: &[&str]| match read(args.iter().map(Into::into), []) {
            Ok(Invocation::Run(loaded, _)) => {
                key_prefixes(&loaded.settings, &loaded.settings.s3.object_prefix)
            }
            other => panic!("{other:?}"),
        };
        let args = ["-s3-bucket=b", "-direct"];
        assert_eq!(prefixes(&args), ["uploads/", "own/"]);
        let custom = ["-s3-object-prefix=in", "-direct-key=d-{id}"];
        assert_eq!(
            prefixes(&[&args[..], &custom].concat()),
            ["in/d-", "in/own/"]
        );
        assert_eq!(prefixes(&args[..1]), Vec::<String>::new());
    }
}
