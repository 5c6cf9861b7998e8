//! The settings of a client. They read no environment.

use landfall_objects::{CallSettings, CallSettingsError};

use crate::credentials::CredentialSource;

/// Settings of a [`Client`](crate::Client). The defaults are for Google's service.
#[derive(Clone, Debug, Default)]
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
    /// The calls.
    pub calls: CallSettings,
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
    /// A setting of the calls is invalid.
    #[error(transparent)]
    Calls(#[from] CallSettingsError),
}
