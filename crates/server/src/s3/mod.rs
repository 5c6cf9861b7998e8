//! Uploads in a bucket: from settings to a client, the check before listening, and the doctor.

mod advice;
pub mod cors;
pub mod doctor;

use std::time::Duration;

use landfall_s3::client::{
    Client, ClientSettings, CredentialSource, Error, ErrorKind, ObjectHeaders, SettingsError,
};

pub(crate) use self::advice::Advice;
use crate::settings::{S3, S3Headers};

/// How long the service has to answer while somebody waits at a terminal, retries included.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client for the service that the settings name, whose bucket is as it was [found](look).
pub(crate) fn client(settings: &S3, found: Found) -> Result<Client, SettingsError> {
    Client::new(ClientSettings {
        denied_is_missing: found == Found::NoListing,
        ..client_settings(settings)
    })
}

/// The same for checks: it gives up soon, so that what is wrong shows soon.
pub(crate) fn impatient_client(settings: &S3) -> Result<Client, SettingsError> {
    Client::new(ClientSettings {
        attempts: 2,
        deadline: PATIENCE,
        idle_timeout: PATIENCE,
        ..client_settings(settings)
    })
}

/// The same for the service as others know it, to sign for them: it is sent nothing.
#[cfg(feature = "direct")]
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
        // A connection for each part on its way, and some for everything else.
        idle_connections: settings.concurrent_parts.saturating_add(32).min(1024),
        ..ClientSettings::default()
    }
}

/// What finished objects are given unless a hook says otherwise.
pub(crate) fn object_headers(settings: &S3Headers) -> ObjectHeaders {
    let S3Headers {
        content_type,
        content_disposition,
        cache_control,
        storage_class,
        tags,
        sse,
        sse_kms_key_id,
        acl,
    } = settings.clone();
    ObjectHeaders {
        content_type,
        content_disposition,
        cache_control,
        storage_class,
        tagging: tagging(&tags),
        sse,
        sse_kms_key_id,
        acl,
        ..ObjectHeaders::default()
    }
}

/// Tags as S3 wants them in its header: as the query of a URL.
fn tagging(tags: &[(String, String)]) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let pairs: Vec<String> = tags
        .iter()
        .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
        .collect();
    Some(pairs.join("&"))
}

/// Percent-encodes all but the characters that never need it.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// What the check before listening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The bucket is there and answers.
    Bucket,
    /// The bucket may not be listed, so that only uploads will show whether it is there. Uploads
    /// don't need the right; sweeping does. Amazon then denies to read what isn't there.
    NoListing,
}

/// Asks for the bucket: one listing of one object, which unlike HEAD is answered with a reason when
/// it fails.
///
/// # Errors
/// What is wrong, and what to do about it, in one sentence.
pub(crate) async fn look(client: &Client, settings: &S3, bucket: &str) -> Result<Found, Advice> {
    let listing = client.list_objects(bucket, &settings.object_prefix, None, 1);
    match listing.await {
        Ok(_) => Ok(Found::Bucket),
        Err(error) if *error.kind() == ErrorKind::AccessDenied => Ok(Found::NoListing),
        Err(error) => Err(Advice::new(&error, settings, bucket)),
    }
}

/// Whether the bucket can be reached now; `Err` is the reason, for people.
pub(crate) async fn is_reachable(client: &Client, bucket: &str) -> Result<(), Error> {
    match client.head_bucket(bucket).await {
        // Without the right to list, there is no better answer.
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
