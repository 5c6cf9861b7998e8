//! S3: creates clients from settings, probes the bucket at startup, and runs the doctor.

pub mod cors;
mod diagnosis;
pub mod doctor;

use std::time::Duration;

use landfall_s3::client::{
    Client, ClientSettings, CredentialSource, Error, ErrorKind, ObjectHeaders, SettingsError,
};

pub(crate) use self::diagnosis::Diagnosis;
use crate::settings::{S3, S3Headers};

/// An operator waits; includes retries.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn client(settings: &S3, found: BucketProbe) -> Result<Client, SettingsError> {
    Client::new(ClientSettings {
        denied_is_missing: found == BucketProbe::NoListing,
        ..client_settings(settings)
    })
}

pub(crate) fn probe_client(settings: &S3) -> Result<Client, SettingsError> {
    Client::new(ClientSettings {
        attempts: 2,
        deadline: TIMEOUT,
        idle_timeout: TIMEOUT,
        ..client_settings(settings)
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
        log_calls: settings.log_api_calls,
        // One connection per concurrent part, and some for other calls.
        idle_connections: settings.concurrent_parts.saturating_add(32).min(1024),
        ..ClientSettings::default()
    }
}

pub(crate) fn object_headers(settings: &S3Headers) -> ObjectHeaders {
    let S3Headers {
        content_type,
        content_disposition,
        cache_control,
        storage_class,
        tags,
        sse,
        acl,
    } = settings.clone();
    ObjectHeaders {
        content_type,
        content_disposition,
        cache_control,
        storage_class,
        tagging: tagging(&tags),
        sse: sse.as_ref().map(|sse| sse.algorithm.to_owned()),
        sse_kms_key_id: sse.and_then(|sse| sse.kms_key),
        acl,
        ..ObjectHeaders::default()
    }
}

fn tagging(tags: &[(String, String)]) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let pair = |(key, value): &(String, String)| format!("{}={}", escape(key), escape(value));
    let pairs: Vec<String> = tags.iter().map(pair).collect();
    Some(pairs.join("&"))
}

fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
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
        Err(error) => Err(Diagnosis::new(&error, settings, bucket)),
    }
}

pub(crate) async fn is_reachable(client: &Client, bucket: &str) -> Result<(), Error> {
    match client.head_bucket(bucket).await {
        // Without the permission to list, there is no better answer.
        Err(error) if *error.kind() == ErrorKind::AccessDenied => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_a_query() {
        let tags = [("team", "video & sound"), ("ä", "")];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(
            tagging(&tags).as_deref(),
            Some("team=video%20%26%20sound&%C3%A4=")
        );
        assert_eq!(tagging(&[]), None);
    }
}
