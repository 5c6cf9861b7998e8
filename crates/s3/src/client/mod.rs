//! A small S3 client: the operations that an upload server needs, over pooled HTTP/1.1 connections.
//!
//! Each call signs its request (SigV4), tries again with growing, jittered waits whatever may pass
//! by itself, and sorts what doesn't into [`ErrorKind`]s. Payloads are [lists of shared
//! bytes](Payload) that are sent without copying.
//!
//! Dropping a call closes its connection. What the call was to do may or may not have happened then.

mod address;
mod answer;
mod body;
mod buckets;
mod call;
mod chain;
mod credentials;
mod encode;
mod error;
mod form;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod listing;
mod multipart;
mod object;
mod objects;
mod payload;
mod presign;
mod region;
mod retry;
mod settings;
mod sign;
mod stats;
mod sts;
mod transport;
mod xml;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderValue;

use self::{address::Address, credentials::Keeper, region::Regions, transport::Pool};

pub use self::{
    body::ObjectBody,
    credentials::{CredentialSource, Credentials, ProvideCredentials},
    error::{Error, ErrorKind, Result},
    form::PostForm,
    listing::{CorsRule, Listed, Multipart, MultipartsPage, ObjectsPage, Part, PartsPage},
    object::{Condition, Object, ObjectHead, ObjectHeaders, Place},
    payload::{Payload, PayloadBody},
    settings::{ClientSettings, SettingsError},
    stats::{DURATION_BOUNDS_MS, Operation, OperationStats, Stats},
    sts::{Partition, TemporaryCredentials, TokenRequest},
    transport::{AnswerBody, HttpSend},
};

/// A client of one S3 service. Clones share its connections, credentials and counters.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ClientSettings,
    address: Address,
    regions: Regions,
    keeper: Keeper,
    http: Arc<dyn HttpSend>,
    user_agent: HeaderValue,
    stats: Stats,
}

impl Client {
    /// A client with these settings. The environment and the shared configuration file are read for
    /// what the settings leave open; nothing is sent yet.
    ///
    /// # Errors
    /// [`SettingsError`] says which setting is wrong and how.
    pub fn new(settings: ClientSettings) -> Result<Self, SettingsError> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let profile = match &settings.credentials {
            CredentialSource::Profile(profile) => Some(profile.as_str()),
            _ => None,
        };
        let region = region::find(settings.region.as_deref(), profile, &environment)?;
        let endpoint = settings
            .endpoint
            .clone()
            .or_else(|| environment("AWS_ENDPOINT_URL_S3"))
            .or_else(|| environment("AWS_ENDPOINT_URL"));
        let address = Address::new(&settings, endpoint.as_deref())?;
        let user_agent = HeaderValue::from_str(&settings.user_agent)
            .map_err(|_| SettingsError::UserAgent(settings.user_agent.clone()))?;
        let http = match &settings.http {
            Some(http) => Arc::clone(http),
            None => Arc::new(Pool::new(&settings, address.is_secure())?),
        };
        let keeper = Keeper::new(settings.credentials.clone(), Arc::clone(&http), &region);
        let regions = Regions::new(region);
        let stats = Stats::default();
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                address,
                regions,
                keeper,
                http,
                user_agent,
                stats,
            }),
        })
    }

    /// What was done so far, by this client and its clones.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }
}
