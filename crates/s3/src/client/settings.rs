//! What the client is told: where the service is, who asks, how patient it is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{credentials::CredentialSource, transport::HttpSend};

/// Settings of a [`Client`](super::Client). The defaults are those for AWS itself.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The service's address as a URL, such as `http://127.0.0.1:3900`. `None` takes it from
    /// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, or else means AWS itself. A path in it is put
    /// before every key.
    pub endpoint: Option<String>,
    /// The region. `None` takes it from `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile of the shared
    /// configuration file, or else `us-east-1`. A bucket
    /// that the service says is elsewhere is asked for there.
    pub region: Option<String>,
    /// Whether the bucket stands in the path (`true`) or in the host name (`false`). `None` puts it in
    /// the path if `endpoint` is set or if a dot in its name would break TLS.
    pub path_style: Option<bool>,
    /// Uses AWS's transfer acceleration (`BUCKET.s3-accelerate.amazonaws.com`).
    pub accelerate: bool,
    /// Speaks plain HTTP to AWS. An `endpoint` says so itself by its scheme.
    pub disable_ssl: bool,
    /// Who asks.
    pub credentials: CredentialSource,
    /// What sends the requests; `None` for the client's own pool of connections.
    pub http: Option<Arc<dyn HttpSend>>,
    /// How often a call is tried in all, at least once.
    pub attempts: u32,
    /// How long a call may take in all, with the waits between its attempts. The time that sending
    /// and answering takes at [`slowest`](Self::slowest) is added.
    pub deadline: Duration,
    /// How long connecting (with TLS) may take.
    pub connect_timeout: Duration,
    /// How long the service may be silent: after a request is sent until the answer begins, and
    /// between two pieces of an answer's body.
    pub idle_timeout: Duration,
    /// The slowest sending that is waited for, in bytes per second: an attempt may take
    /// `connect_timeout` + `idle_timeout` + payload / `slowest`. It also measures the time that copying
    /// inside of the service is given.
    pub slowest: u64,
    /// Wait before the second attempt, at most; it doubles with each one.
    pub backoff: Duration,
    /// The longest wait between two attempts. If the service asks for more (`Retry-After`), the call
    /// ends at once and tells so.
    pub longest_backoff: Duration,
    /// How many idle connections are kept.
    pub idle_connections: usize,
    /// `User-Agent`.
    pub user_agent: String,
    /// Takes a GetObject or HeadObject that is denied for one of an object that isn't there: AWS
    /// denies those, instead of saying so, to who may not list the bucket.
    pub denied_is_missing: bool,
    /// The clock by which requests, URLs and forms are signed.
    pub now: fn() -> SystemTime,
    /// Reports each attempt as a debug event `S3APICall` with operation, duration and status.
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
            slowest: 128 * 1024,
            backoff: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(5),
            idle_connections: 64,
            user_agent: concat!("landfall/", env!("CARGO_PKG_VERSION")).to_owned(),
            denied_is_missing: false,
            now: SystemTime::now,
            log_calls: false,
        }
    }
}

/// Settings that a client can't be made of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The endpoint is no URL, or one with parts that make no sense here.
    #[error("the S3 endpoint {endpoint:?} {problem}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The region has characters that no region has.
    #[error("the S3 region {0:?} is not a name of letters, digits, '-', '_' and '.'")]
    Region(String),
    /// Two settings exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// The user agent can't stand in a header.
    #[error("the user agent {0:?} can't stand in a header")]
    UserAgent(String),
    /// The root certificates of this machine could not be read.
    #[error("the root certificates of this machine could not be read, which https needs")]
    Certificates(#[source] std::io::Error),
}
