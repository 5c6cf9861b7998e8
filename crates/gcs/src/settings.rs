//! The settings of a client. They read no environment.

use std::sync::Arc;

use landfall_objects::{CallLimits, HttpSend};

use crate::credentials::CredentialSource;

/// Settings of a [`Client`](crate::Client). The defaults are for Google's service.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Base URL of the JSON API, with or without `/storage/v1/`.
    ///
    /// `None`: `STORAGE_EMULATOR_HOST`, or else Google's.
    pub endpoint: Option<String>,
    /// The source of the credentials. They are not used if `STORAGE_EMULATOR_HOST` is set.
    pub credentials: CredentialSource,
    /// The prefix of all keys, empty or with a slash at its end. Temporary objects have names that begin with it
    /// and `.landfall/`.
    pub object_prefix: String,
    /// Transport of the requests; `None`: the client's own connections.
    pub http: Option<Arc<dyn HttpSend>>,
    /// The limits of each call.
    pub limits: CallLimits,
    /// Maximum number of idle connections.
    pub idle_connections: usize,
    /// `User-Agent`.
    pub user_agent: String,
    /// Logs each attempt as a debug event with operation, duration and status.
    pub log_calls: bool,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            credentials: CredentialSource::default(),
            object_prefix: String::new(),
            http: None,
            limits: CallLimits::default(),
            idle_connections: 64,
            user_agent: concat!("landfall/", env!("CARGO_PKG_VERSION")).to_owned(),
            log_calls: false,
        }
    }
}

/// Invalid client settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The endpoint is not a supported URL.
    #[error("the Google Cloud Storage endpoint {endpoint:?} {problem}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// The problem.
        problem: &'static str,
    },
    /// The user agent is not a valid header value.
    #[error("the user agent {0:?} is not a valid header value")]
    UserAgent(String),
    /// The root certificates of this machine cannot be read.
    #[error("cannot read the root certificates of this machine, which HTTPS requires")]
    Certificates(#[source] std::io::Error),
}
