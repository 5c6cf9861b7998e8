//! The client: what all calls share.

use std::sync::{Arc, atomic::AtomicBool};

use landfall_objects::{Caller, CredentialCache, Stats};

use crate::{
    address::Address,
    credentials::{CredentialSource, Source, Variables, cache},
    settings::{ClientSettings, SettingsError},
};

/// A client of Google Cloud Storage. Clones share connections, tokens and counters.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) address: Address,
    pub(crate) credentials: CredentialCache<Source>,
    pub(crate) caller: Caller,
    /// The prefix of all keys.
    pub(crate) prefix: String,
    /// The service takes many deletions in one request, as far as is known.
    pub(crate) has_batches: AtomicBool,
}

impl Client {
    /// Creates a client, without sending a request.
    ///
    /// `STORAGE_EMULATOR_HOST` is honored as in Google's clients: requests have no token then, and go there unless
    /// the settings have an endpoint.
    ///
    /// # Errors
    /// [`SettingsError`] names the invalid setting.
    pub fn new(settings: ClientSettings) -> Result<Self, SettingsError> {
        Self::with_variables(settings, Arc::new(|name| std::env::var(name).ok()))
    }

    pub(crate) fn with_variables(
        settings: ClientSettings,
        variables: Variables,
    ) -> Result<Self, SettingsError> {
        let emulator = variables("STORAGE_EMULATOR_HOST").filter(|host| !host.is_empty());
        let source = match emulator {
            Some(_) => CredentialSource::Anonymous,
            None => settings.credentials,
        };
        let emulator = emulator.map(|host| match host.contains("://") {
            true => host,
            false => format!("http://{host}"),
        });
        let address = Address::new(settings.endpoint.or(emulator).as_deref())?;
        let asks_google = matches!(
            source,
            CredentialSource::Standard | CredentialSource::File(_)
        );
        let caller = settings.calls.caller(address.is_secure() || asks_google)?;
        let credentials = cache(source, Arc::clone(&caller.http), variables);
        Ok(Self {
            inner: Arc::new(Inner {
                address,
                credentials,
                caller,
                prefix: settings.object_prefix,
                has_batches: AtomicBool::new(true),
            }),
        })
    }

    /// Returns the URL in front of all paths.
    pub fn endpoint(&self) -> &str {
        self.inner.address.root()
    }

    /// Returns the counters of this client and its clones.
    pub fn stats(&self) -> &Stats {
        &self.inner.caller.stats
    }
}
