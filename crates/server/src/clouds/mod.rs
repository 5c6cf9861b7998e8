//! Google Cloud Storage and Azure: creates clients from settings, explains their errors, and runs their doctors.

mod diagnosis;
pub mod doctor;

use std::time::Duration;

use landfall_azure::{AzureClient, AzureSettings, SettingsError as AzureError};
use landfall_gcs::{Client as GcsClient, ClientSettings as GcsSettings, SettingsError as GcsError};
use landfall_objects::CallLimits;

pub(crate) use self::diagnosis::{diagnose_azure, diagnose_gcs};
use crate::settings::{Azure, Gcs};

/// An operator waits; includes retries.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn gcs_client(gcs: &Gcs, limits: CallLimits) -> Result<GcsClient, GcsError> {
    GcsClient::new(GcsSettings {
        endpoint: gcs.endpoint.clone(),
        object_prefix: gcs.object_prefix.clone(),
        calls: limits.into(),
        ..GcsSettings::default()
    })
}

pub(crate) fn azure_client(azure: &Azure, limits: CallLimits) -> Result<AzureClient, AzureError> {
    AzureClient::new(AzureSettings {
        endpoint: azure.endpoint.clone(),
        tier: azure.tier,
        calls: limits.into(),
        ..AzureSettings::default()
    })
}

/// The limits of calls while an operator waits.
pub(crate) fn probe_limits() -> CallLimits {
    CallLimits {
        attempts: 2,
        deadline: TIMEOUT,
        idle_timeout: TIMEOUT,
        ..CallLimits::default()
    }
}
