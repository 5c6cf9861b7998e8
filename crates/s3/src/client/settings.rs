//! The settings of a client. They read no environment.

use std::time::SystemTime;

use landfall_objects::{CallSettings, CallSettingsError, UnreadableFile};

use super::credentials::CredentialSource;

/// Settings of a [`Client`](super::Client). The defaults are for AWS.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// URL of the service, such as `http://127.0.0.1:3900`.
    ///
    /// `None`: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, or else AWS. A path in it precedes
    /// every key.
    pub endpoint: Option<String>,
    /// Region.
    ///
    /// `None`: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile of the shared configuration file, or
    /// else `us-east-1`. If the service names another region for a bucket, that one is used.
    pub region: Option<String>,
    /// Puts the bucket in the path (`true`) or in the host name (`false`).
    ///
    /// `None`: in the path if `endpoint` is set, or if a dot in the bucket's name would break TLS.
    pub path_style: Option<bool>,
    /// Uses AWS transfer acceleration (`BUCKET.s3-accelerate.amazonaws.com`).
    pub accelerate: bool,
    /// Uses plain HTTP to AWS. An `endpoint` has its own scheme.
    pub disable_ssl: bool,
    /// Source of the credentials.
    pub credentials: CredentialSource,
    /// The calls.
    pub calls: CallSettings,
    /// Treats a denied GetObject or HeadObject as a missing object.
    ///
    /// AWS denies access to missing objects if the credentials may not list the bucket.
    pub denied_is_missing: bool,
    /// Clock for the signatures of requests, URLs and forms.
    pub clock: fn() -> SystemTime,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            accelerate: false,
            disable_ssl: false,
            credentials: CredentialSource::default(),
            calls: CallSettings::default(),
            denied_is_missing: false,
            clock: SystemTime::now,
        }
    }
}

/// Invalid client settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The endpoint is not a supported URL.
    #[error("the S3 endpoint {endpoint:?} {problem}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// The problem.
        problem: &'static str,
    },
    /// The region contains an invalid character.
    #[error("invalid S3 region {0:?}: use letters, digits, '-', '_' and '.'")]
    Region(String),
    /// A file that a variable names cannot be read.
    #[error(transparent)]
    File(#[from] UnreadableFile),
    /// Two settings exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// A setting of the calls is invalid.
    #[error(transparent)]
    Calls(#[from] CallSettingsError),
}
