//! A client of Azure Blob Storage for the store of uploads.
//!
//! A part is a block with tusd's id, so uploads of tusd are continued here and the reverse; `blocks.rs`, the place to
//! start reading, has the calls on them. The account and its credentials come from the variables of the
//! environment (`account.rs`): a connection string, a shared access signature, a key, or an identity of Microsoft Entra
//! ID, whose tokens are renewed before they expire.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use landfall_azure::{AzureClient, AzureSettings, ContainerAccess};
//!
//! let client = AzureClient::new(AzureSettings::default())?;
//! client.ensure_container("uploads", ContainerAccess::Private).await?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod address;
mod block;
mod blocks;
mod checksum;
mod client;
mod cloud;
mod containers;
mod error;
mod identity;
mod metadata;
mod presign;
mod request;
mod response;
mod sas;
mod settings;
mod variables;
mod xml;

#[cfg(test)]
mod tests;

pub use self::{
    client::{AzureClient, AzureSettings},
    containers::{ContainerReport, CredentialReport},
    error::SettingsError,
    metadata::blob_headers,
    settings::{AccessTier, Authorization, ContainerAccess},
    variables::Variables,
};
