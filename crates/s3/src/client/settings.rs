//! The settings of a client, and the retries that they allow.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall_objects::{CallLimits, HttpSend};

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
    /// Transport of the requests; `None`: the client's own connection pool.
    pub http: Option<Arc<dyn HttpSend>>,
    /// Maximum number of attempts of a call, at least 1.
    pub attempts: u32,
    /// Deadline of a call, including all retries.
    ///
    /// The time to transfer the payload at [`min_throughput`](Self::min_throughput) is added.
    pub deadline: Duration,
    /// Timeout of connecting, including TLS.
    pub connect_timeout: Duration,
    /// Idle timeout: from the request to the start of the response, and between two pieces of its
    /// body.
    pub idle_timeout: Duration,
    /// Minimum throughput of uploads, in bytes per second.
    ///
    /// An attempt may take `connect_timeout` + `idle_timeout` + payload / `min_throughput`. Copies
    /// inside the service get the same time.
    pub min_throughput: u64,
    /// Maximum delay before the second attempt; it doubles with each attempt.
    pub backoff: Duration,
    /// Maximum delay between attempts.
    ///
    /// If the service requests more (`Retry-After`), the call fails at once, with that delay in its
    /// error.
    pub max_backoff: Duration,
    /// Maximum number of idle connections.
    pub idle_connections: usize,
    /// `User-Agent`.
    pub user_agent: String,
    /// Treats a denied GetObject or HeadObject as a missing object.
    ///
    /// AWS denies access to missing objects if the credentials may not list the bucket.
    pub denied_is_missing: bool,
    /// Clock for the signatures of requests, URLs and forms.
    pub clock: fn() -> SystemTime,
    /// Logs each attempt as a debug event `S3APICall` with operation, duration and status.
    pub log_calls: bool,
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
            http: None,
            attempts: 5,
            deadline: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            min_throughput: 128 * 1024,
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            idle_connections: 64,
            user_agent: concat!("landfall/", env!("CARGO_PKG_VERSION")).to_owned(),
            denied_is_missing: false,
            clock: SystemTime::now,
            log_calls: false,
        }
    }
}

impl From<&ClientSettings> for CallLimits {
    fn from(settings: &ClientSettings) -> Self {
        Self {
            attempts: settings.attempts,
            deadline: settings.deadline,
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
            min_throughput: settings.min_throughput,
            backoff: settings.backoff,
            max_backoff: settings.max_backoff,
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
    #[error("{variable}: cannot read {path:?}: {source}")]
    File {
        /// The variable.
        variable: String,
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Two settings exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// The user agent is not a valid header value.
    #[error("the user agent {0:?} is not a valid header value")]
    UserAgent(String),
    /// The root certificates of this machine cannot be read.
    #[error("cannot read the root certificates of this machine, which HTTPS requires")]
    Certificates(#[source] std::io::Error),
}
