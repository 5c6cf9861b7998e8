//! Errors of settings. They send nothing.

use landfall_objects::{CallSettingsError, UnreadableFile};

/// Invalid client settings. No message contains a key or a signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No variable names the account. The sentence is tusd's.
    #[error(
        "No service account name for Azure BlockBlob Storage using the AZURE_STORAGE_ACCOUNT environment variable."
    )]
    NoAccount,
    /// The name of the account is invalid.
    #[error(
        "invalid name of an Azure storage account {0:?}: use 3 to 24 lower-case letters and digits"
    )]
    Account(String),
    /// The key of the account is not base64.
    #[error(
        "AZURE_STORAGE_KEY is neither a key of the account, which is base64, nor a shared access \
         signature, which contains `sig=`"
    )]
    Key,
    /// The shared access signature is not one.
    #[error(
        "the shared access signature for Azure is invalid: copy it whole, from `sv=` to the end of `sig=`"
    )]
    Signature,
    /// The connection string is invalid.
    #[error(
        "AZURE_STORAGE_CONNECTION_STRING {0}; copy it whole from the access keys of the account"
    )]
    ConnectionString(&'static str),
    /// The endpoint is not a supported URL.
    #[error("the Azure endpoint {endpoint:?} {problem}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// The problem.
        problem: &'static str,
    },
    /// A file that a variable names cannot be read.
    #[error(transparent)]
    File(#[from] UnreadableFile),
    /// A setting of the calls is invalid.
    #[error(transparent)]
    Calls(#[from] CallSettingsError),
}
