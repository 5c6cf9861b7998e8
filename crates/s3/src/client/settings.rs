//! The settings of a client, and the retries that they allow.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{credentials::CredentialSource, http_send::HttpSend};

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

#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy {
    attempts: u32,
    backoff: Duration,
    max_backoff: Duration,
    deadline: Instant,
    attempt_limit: Duration,
}

impl RetryPolicy {
    pub(super) fn new(settings: &ClientSettings, bytes: u64) -> Self {
        let transfer = Duration::from_secs(bytes / settings.min_throughput.max(1));
        Self {
            attempts: settings.attempts.max(1),
            backoff: settings.backoff,
            max_backoff: settings.max_backoff,
            deadline: Instant::now() + settings.deadline + transfer,
            attempt_limit: settings.connect_timeout + settings.idle_timeout + transfer,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn attempt_deadline(&self) -> Instant {
        self.deadline.min(Instant::now() + self.attempt_limit)
    }

    /// Returns the delay after the failed attempt number `attempt` (from 1); `None`: no retry.
    ///
    /// `retry_after` is the delay that the service requests.
    pub(super) fn next_delay(
        &self,
        attempt: u32,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        if attempt >= self.attempts || retry_after.is_some_and(|delay| delay > self.max_backoff) {
            return None;
        }
        let delay = landfall_net::backoff(attempt, self.backoff, self.max_backoff);
        let jittered = delay.mul_f64(rand::random::<f64>());
        let delay = jittered.max(retry_after.unwrap_or_default());
        (Instant::now() + delay < self.deadline).then_some(delay)
    }
}

#[cfg(test)]
mod retry_tests {
    use super::*;

    fn settings() -> ClientSettings {
        ClientSettings {
            attempts: 4,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(250),
            deadline: Duration::from_secs(10),
            min_throughput: 1_000,
            ..ClientSettings::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_up_to_the_maximum() {
        let policy = RetryPolicy::new(&settings(), 0);
        for (attempt, most) in [(1, 100), (2, 200), (3, 250)] {
            let waits: Vec<_> = (0..200)
                .map(|_| policy.next_delay(attempt, None).expect("again"))
                .collect();
            let most = Duration::from_millis(most);
            assert!(waits.iter().all(|wait| *wait <= most));
            assert!(
                waits.iter().any(|wait| *wait > most / 2),
                "spread to the top"
            );
            assert!(
                waits.iter().any(|wait| *wait < most / 2),
                "and to the bottom"
            );
        }
        assert_eq!(policy.next_delay(4, None), None, "four attempts");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honored_or_ends_the_call() {
        let policy = RetryPolicy::new(&settings(), 0);
        let retry_after = Duration::from_millis(240);
        assert_eq!(policy.next_delay(1, Some(retry_after)), Some(retry_after));
        assert_eq!(
            policy.next_delay(1, Some(Duration::from_secs(1))),
            None,
            "more than we wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_grows_with_the_payload() {
        let policy = RetryPolicy::new(&settings(), 5_000);
        let started = Instant::now();
        assert_eq!(
            policy.attempt_deadline(),
            started + Duration::from_secs(15),
            "the deadline is sooner"
        );
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(policy.next_delay(1, None).is_some());
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(policy.next_delay(1, Some(Duration::from_millis(200))), None);
    }
}
