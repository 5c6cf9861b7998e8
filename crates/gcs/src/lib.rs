//! A client of Google Cloud Storage with the calls of a store of uploads.
//!
//! [`Client`] implements [`Cloud`](landfall_objects::Cloud) with the JSON API. Cloud Storage has no multipart
//! uploads in it: a part is an object, named as tusd names its chunks (`names.rs`), and the parts are
//! made one object by compositions of 32 (`compose.rs`), without moving bytes. Every write names the generation
//! that it replaces, or that there is none, and carries its CRC32C; that of the result is compared with the
//! combination of the parts'.
//!
//! Tokens come from the sources of Google's own tools (`credentials.rs`). This crate knows no upload: which parts
//! there are, and when an object is complete, decides `landfall-objects`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod bucket;
mod checksum;
mod client;
mod cloud;
mod compose;
mod credentials;
mod delete;
mod multipart;
mod names;
mod objects;
mod presign;
mod request;
mod resource;
mod response;
mod settings;

#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    bucket::{BucketReport, BucketSettings, LifecycleRule},
    client::Client,
    credentials::{AccessToken, CredentialSource, ProvideToken},
    settings::{ClientSettings, SettingsError},
};
