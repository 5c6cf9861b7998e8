//! The client: one account, its connections, credentials and counters.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use landfall_objects::{CallSettings, Caller, CredentialCache, Stats};
use reqsign_azure_storage::{
    RequestSigner, UserDelegationSasGrant, UserDelegationSasGranter, UserDelegationSasPermissions,
};
use reqsign_core::Context;

use crate::{
    account::Account,
    address::Address,
    error::SettingsError,
    identity::Identity,
    settings::{AccessTier, Authorization},
    variables::Variables,
};

/// Settings of an [`AzureClient`].
#[derive(Clone, Debug)]
pub struct AzureSettings {
    /// URL of the service, to which `/CONTAINER` is appended.
    ///
    /// `None`: that of the connection string, or else `https://ACCOUNT.blob.core.windows.net`. If the host is an
    /// address or has no dot, as an emulator's, the account is appended unless the URL ends with it.
    pub endpoint: Option<String>,
    /// Access tier of completed uploads; `None`: the default of the account.
    pub tier: Option<AccessTier>,
    /// Environment variables with the account and its credentials.
    pub variables: Variables,
    /// The calls.
    pub calls: CallSettings,
}

impl Default for AzureSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            tier: None,
            variables: Variables::of_process(),
            calls: CallSettings::default(),
        }
    }
}

/// A client of the blob service of one account. Clones share connections, credentials and counters.
///
/// Each call is authorized, repeats attempts that failed for a passing reason, and classifies the other failures by
/// [`ErrorKind`](landfall_objects::ErrorKind).
#[derive(Clone, Debug)]
pub struct AzureClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) account: String,
    pub(crate) address: Address,
    pub(crate) authorization: Authorization,
    pub(crate) credentials: CredentialCache<Identity>,
    /// Files, variables and HTTP, for signatures that need them.
    pub(crate) context: Context,
    pub(crate) signer: RequestSigner,
    /// Has a cache of keys.
    pub(crate) granter: UserDelegationSasGranter,
    pub(crate) caller: Caller,
    pub(crate) tier: Option<AccessTier>,
    /// The service, an old emulator, does not know the checksum of blocks.
    pub(crate) sends_md5: AtomicBool,
}

impl AzureClient {
    /// Creates a client, without sending a request.
    ///
    /// # Errors
    /// [`SettingsError`] names the invalid setting.
    pub fn new(settings: AzureSettings) -> Result<Self, SettingsError> {
        let account = Account::from_variables(&settings.variables)?;
        let address = Address::new(&account, settings.endpoint.as_deref())?;
        let caller = settings.calls.caller(address.secure)?;
        let identity = Identity::new(Arc::clone(&caller.http), settings.variables);
        let context = identity.context().clone();
        let no_grant =
            UserDelegationSasGrant::for_container("", UserDelegationSasPermissions::READ);
        let granter = UserDelegationSasGranter::new(&account.name, no_grant)
            .with_trusted_endpoint(address.base());
        Ok(Self {
            inner: Arc::new(Inner {
                authorization: account.source.authorization(),
                credentials: account.source.credentials(&account.name, identity),
                account: account.name,
                address,
                context,
                signer: RequestSigner::new(),
                granter,
                caller,
                tier: settings.tier,
                sends_md5: AtomicBool::new(false),
            }),
        })
    }

    /// Returns the name of the account.
    pub fn account(&self) -> &str {
        &self.inner.account
    }

    /// Returns the URL to which `/CONTAINER` is appended.
    pub fn endpoint(&self) -> &str {
        self.inner.address.base()
    }

    /// Returns how requests are authorized.
    pub fn authorization(&self) -> Authorization {
        self.inner.authorization
    }

    /// Returns the counters of this client and its clones.
    pub fn stats(&self) -> &Stats {
        &self.inner.caller.stats
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AzureClient");
        debug.field("endpoint", &self.address.base());
        debug.field("authorization", &self.authorization);
        debug.finish_non_exhaustive()
    }
}
