//! S3: creates clients from settings, probes the bucket at startup, and runs the doctor.

pub mod cors;
mod diagnosis;
pub mod doctor;

use landfall_objects::{CallSettings, Cloud as _};
use landfall_s3::client::{
    Client, ClientSettings, CredentialSource, Error, ErrorKind, SettingsError,
};

pub(crate) use self::diagnosis::diagnose;
use crate::{clouds::probe_limits, diagnosis::Diagnosis, settings::S3};

pub(crate) fn client(settings: &S3, found: BucketProbe) -> Result<Client, SettingsError> {
    Client::new(ClientSettings {
        denied_is_missing: found == BucketProbe::NoListing,
        ..client_settings(settings)
    })
}

pub(crate) fn probe_client(settings: &S3) -> Result<Client, SettingsError> {
    let usual = client_settings(settings);
    Client::new(ClientSettings {
        calls: CallSettings {
            limits: probe_limits(),
            ..usual.calls
        },
        ..usual
    })
}

pub(crate) fn signer(settings: &S3, endpoint: &str) -> Result<Client, SettingsError> {
    Client::new(ClientSettings {
        endpoint: Some(endpoint.to_owned()),
        ..client_settings(settings)
    })
}

fn client_settings(settings: &S3) -> ClientSettings {
    ClientSettings {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        path_style: settings.path_style,
        accelerate: settings.accelerate,
        disable_ssl: settings.disable_ssl,
        credentials: CredentialSource::Standard,
        calls: CallSettings {
            log_calls: settings.log_api_calls,
            // One connection per concurrent part, and some for other calls.
            idle_connections: settings.concurrent_parts.saturating_add(32).min(1024),
            ..CallSettings::default()
        },
        ..ClientSettings::default()
    }
}

/// Some services change keys with such a prefix.
pub(crate) fn is_odd_prefix(prefix: &str) -> bool {
    prefix.starts_with('/') || prefix.contains("//")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketProbe {
    Bucket,
    /// Only an upload will show whether the bucket exists. Uploads do not need the permission; sweeping does.
    /// Amazon then also denies reading missing objects.
    NoListing,
}

/// Lists one object, because the errors of a listing, unlike those of HEAD, have a reason.
pub(crate) async fn probe(
    client: &Client,
    settings: &S3,
    bucket: &str,
) -> Result<BucketProbe, Diagnosis> {
    let listing = client.list_objects(bucket, &settings.object_prefix, None, 1);
    match listing.await {
        Ok(_) => Ok(BucketProbe::Bucket),
        Err(error) if *error.kind() == ErrorKind::AccessDenied => Ok(BucketProbe::NoListing),
        Err(error) => Err(diagnose(&error, settings, bucket)),
    }
}

pub(crate) async fn is_reachable(client: &Client, bucket: &str) -> Result<(), Error> {
    match client.head_bucket(bucket).await {
        // Without the permission to list, there is no better answer.
        Err(error) if *error.kind() == ErrorKind::AccessDenied => Ok(()),
        other => other,
    }
}
