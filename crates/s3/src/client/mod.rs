//! A small S3 client with the operations of an upload server, over pooled HTTP/1.1 connections.
//!
//! Each call signs its request (SigV4), retries transient failures with exponential backoff and
//! jitter, and classifies the others by [`ErrorKind`]. A [`Payload`] is a list of shared buffers,
//! sent without copying.
//!
//! Dropping a call closes its connection; its operation may take effect, even later. The writes of
//! a client from [`Client::with_writes`] are not aborted, and one can wait for their end.

mod address;
mod certificates;
mod cloud;
mod credential_cache;
mod credential_chain;
mod credentials;
mod encode;
mod environment;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod listing;
mod multipart;
mod objects;
mod operation;
mod presign;
mod profile;
mod provider_context;
mod region;
mod request;
mod response;
mod settings;
mod sign;
mod sso;
mod sts;
mod xml;

#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use landfall_objects::{Caller, CredentialCache};
use tokio_util::task::TaskTracker;

use self::environment::{check_files, variable};
use self::{address::Address, credentials::Source, region::Regions};

pub use self::{
    certificates::root_certificates,
    credentials::{CredentialSource, Credentials, ProvideCredentials},
    listing::CorsRule,
    operation::Operation,
    presign::PostPolicy,
    settings::{ClientSettings, SettingsError},
    sts::{Partition, TokenRequest},
};
pub use landfall_objects::{
    CallLimits, CallSettings, CallSettingsError, Condition, DURATION_BOUNDS_MS, Error, ErrorKind,
    HttpSend, ListedObject, MultipartUpload, MultipartUploadsPage, Object, ObjectBody, ObjectHead,
    ObjectHeaders, ObjectRef, ObjectsPage, OperationStats, Part, Payload, PayloadBody,
    ResponseBody, Result, Stats, if_exists,
};

/// A client of one S3 service. Clones share connections, credentials and counters.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    writes: Option<TaskTracker>,
}

#[derive(Debug)]
struct Inner {
    settings: ClientSettings,
    address: Address,
    regions: Regions,
    credentials: CredentialCache<Source>,
    caller: Caller,
    /// With `Content-MD5`, which a bucket with default retention (Object Lock) requires.
    sends_digests: AtomicBool,
    /// The service compares `If-Match` of a write with the entity tag without quotes (Ceph).
    unquoted_if_match: AtomicBool,
}

impl Client {
    /// Creates a client, without sending a request.
    ///
    /// Settings that are `None` come from the environment and the shared configuration file.
    ///
    /// # Errors
    /// [`SettingsError`] names the invalid setting.
    pub fn new(mut settings: ClientSettings) -> Result<Self, SettingsError> {
        check_files()?;
        let profile = match &settings.credentials {
            CredentialSource::Profile(profile) => Some(profile.as_str()),
            _ => None,
        };
        let region = region::resolve(settings.region.as_deref(), profile, &variable)?;
        let endpoint = settings
            .endpoint
            .clone()
            .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
            .or_else(|| variable("AWS_ENDPOINT_URL"));
        let address = Address::new(&settings, endpoint.as_deref())?;
        let calls = std::mem::take(&mut settings.calls);
        let caller = calls.caller_with(|| root_certificates(address.secure))?;
        let http = Arc::clone(&caller.http);
        let credentials = credential_cache::cache(settings.credentials.clone(), http, &region);
        let regions = Regions::new(region);
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                address,
                regions,
                credentials,
                caller,
                sends_digests: AtomicBool::new(false),
                unquoted_if_match: AtomicBool::new(false),
            }),
            writes: None,
        })
    }

    /// Returns a client of the same connections that writes objects in tasks of `writes`.
    ///
    /// If a call of [`put_object`](Self::put_object) is dropped, the request that it has sent ends
    /// in its task, with a response or a timeout, and is not retried.
    #[must_use]
    pub fn with_writes(&self, writes: &TaskTracker) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            writes: Some(writes.clone()),
        }
    }

    /// Decides whether the entity tags of conditional writes are sent without quotes, also by clones.
    pub(crate) fn set_unquoted_if_match(&self, unquoted: bool) {
        self.inner
            .unquoted_if_match
            .store(unquoted, Ordering::Relaxed);
    }

    pub(crate) fn uses_unquoted_if_match(&self) -> bool {
        self.inner.unquoted_if_match.load(Ordering::Relaxed)
    }
}
