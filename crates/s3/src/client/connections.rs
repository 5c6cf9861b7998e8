//! The connections to S3, and the root certificates that they trust.

use landfall_objects::Connections;
use rustls::RootCertStore;

use super::{
    environment::variable,
    settings::{ClientSettings, SettingsError},
};

/// Opens no connection yet; `secure`: certificates are needed.
pub(super) fn connections(
    settings: &ClientSettings,
    secure: bool,
) -> Result<Connections, SettingsError> {
    let certificates = root_certificates(secure)?;
    let (timeout, idle) = (settings.connect_timeout, settings.idle_connections);
    Connections::new(certificates, timeout, idle).map_err(SettingsError::Certificates)
}

/// Returns the certificates of `AWS_CA_BUNDLE` alone, as in the AWS tools, or else the system's.
///
/// # Errors
/// The file cannot be read, or there is no certificate and they `are_needed`.
pub fn root_certificates(are_needed: bool) -> Result<RootCertStore, SettingsError> {
    const BUNDLE: &str = "AWS_CA_BUNDLE";
    if let Some(path) = variable(BUNDLE) {
        return landfall_net::certificates_in(path.as_ref()).map_err(|source| {
            SettingsError::File {
                variable: BUNDLE.to_owned(),
                path,
                source,
            }
        });
    }
    landfall_net::system_certificates(are_needed).map_err(SettingsError::Certificates)
}
