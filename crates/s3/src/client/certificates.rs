//! The root certificates that connections to S3 trust.

use landfall_objects::{CallSettingsError, UnreadableFile};
use rustls::RootCertStore;

use super::{environment::variable, settings::SettingsError};

/// Returns the certificates of `AWS_CA_BUNDLE` alone, as in the AWS tools, or else the system's.
///
/// # Errors
/// The file cannot be read, or there is no certificate and they `are_needed`.
pub fn root_certificates(are_needed: bool) -> Result<RootCertStore, SettingsError> {
    const BUNDLE: &str = "AWS_CA_BUNDLE";
    if let Some(path) = variable(BUNDLE) {
        let certificates = landfall_net::certificates_in(path.as_ref());
        return certificates.map_err(|source| {
            let variable = BUNDLE.to_owned();
            SettingsError::File(UnreadableFile {
                variable,
                path,
                source,
            })
        });
    }
    landfall_net::system_certificates(are_needed)
        .map_err(|error| CallSettingsError::Certificates(error).into())
}
