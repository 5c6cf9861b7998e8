//! URLs that let others download or upload one blob. They are secrets.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use landfall::BoxError;
use landfall_objects::{Error, ErrorKind, ObjectRef, Result};
use reqsign_azure_storage::{
    Credential, SasProtocol, UserDelegationSasGrant, UserDelegationSasPermissions,
};
use reqsign_core::GrantCredential as _;

use crate::{
    client::{AzureClient, Inner},
    sas::BlobSas,
};

/// For the service's own reads of the source of a copy.
const SOURCE_LIFETIME: Duration = Duration::from_secs(3600);

impl AzureClient {
    /// Returns a URL that lets its holders download a blob for `lifetime` (at most 7 days with an identity).
    ///
    /// With the key of the account, the response has these headers, unless they are empty; with an identity, it
    /// has those of the blob.
    ///
    /// # Errors
    /// [`ErrorKind::NotImplemented`]: a shared access signature cannot sign others.
    /// [`ErrorKind::BadCredentials`]: there is no token, or its identity lacks the right to sign.
    pub async fn presign_download(
        &self,
        object: &ObjectRef,
        content_type: &str,
        content_disposition: &str,
        lifetime: Duration,
    ) -> Result<String> {
        let headers = (content_type, content_disposition);
        self.inner
            .presign(object, Right::Read, headers, lifetime)
            .await
    }

    /// Returns a URL that lets its holders write a blob for `lifetime` (at most 7 days with an identity).
    ///
    /// With `only_creates` it permits a PUT with `x-ms-blob-type: BlockBlob`, if there is no blob yet. Otherwise it also
    /// permits to send and commit blocks, and to replace the blob. It limits neither size nor headers.
    ///
    /// # Errors
    /// As [`presign_download`](Self::presign_download).
    pub async fn presign_upload(
        &self,
        object: &ObjectRef,
        only_creates: bool,
        lifetime: Duration,
    ) -> Result<String> {
        let right = match only_creates {
            true => Right::Create,
            false => Right::Write,
        };
        self.inner.presign(object, right, ("", ""), lifetime).await
    }
}

#[derive(Clone, Copy)]
enum Right {
    Read,
    Create,
    Write,
}

impl Inner {
    async fn presign(
        &self,
        object: &ObjectRef,
        right: Right,
        (content_type, content_disposition): (&str, &str),
        lifetime: Duration,
    ) -> Result<String> {
        let failed = |kind| Error::new(kind, "Presign", object.to_string());
        let credential = self.credentials.get().await;
        let credential =
            credential.map_err(|error| failed(ErrorKind::BadCredentials).with_source(error))?;
        let credential = credential.ok_or_else(|| failed(ErrorKind::BadCredentials))?;
        let query = match &*credential {
            Credential::SharedKey { account_key, .. } => {
                let sas = BlobSas {
                    account: &self.account,
                    key: account_key,
                    object,
                    permissions: match right {
                        Right::Read => "r",
                        Right::Create => "c",
                        Right::Write => "cw",
                    },
                    expires: expiry(lifetime),
                    https_only: self.address.secure,
                    content_type,
                    content_disposition,
                };
                let query = sas.query();
                query.ok_or_else(|| failed(ErrorKind::BadCredentials))?
            }
            Credential::SasToken { .. } => {
                let message = "a shared access signature cannot sign URLs; use the key of the account or an identity";
                return Err(failed(ErrorKind::NotImplemented).with_message(message));
            }
            Credential::BearerToken { .. } => {
                let signed = self.delegated(object, right, &credential, lifetime).await;
                let message = "the identity cannot sign URLs; give it the role Storage Blob Delegator on the account";
                let denied = || failed(ErrorKind::BadCredentials).with_message(message);
                signed.map_err(|error| denied().with_source(error))?
            }
        };
        Ok(format!(
            "{}?{query}",
            self.address.url(&object.bucket, Some(&object.key))
        ))
    }

    /// A signature by a key of the identity, which is requested and cached.
    async fn delegated(
        &self,
        object: &ObjectRef,
        right: Right,
        credential: &Credential,
        lifetime: Duration,
    ) -> Result<String, BoxError> {
        let rights = match right {
            Right::Read => UserDelegationSasPermissions::READ,
            Right::Create => UserDelegationSasPermissions::CREATE,
            Right::Write => {
                UserDelegationSasPermissions::CREATE | UserDelegationSasPermissions::WRITE
            }
        };
        let grant = UserDelegationSasGrant::for_blob(&object.bucket, &object.key, rights);
        let granter = self
            .granter
            .clone()
            .with_grant(grant)
            .with_protocol(SasProtocol::Https);
        let context = &self.context;
        match granter
            .grant_credential(context, credential, Some(lifetime))
            .await?
        {
            Credential::SasToken { token, .. } => Ok(token),
            _ => Err("the identity signed nothing".into()),
        }
    }

    /// Returns the query that lets the service read the source of a copy.
    pub(crate) fn source_signature(
        &self,
        source: &ObjectRef,
        account_key: &str,
    ) -> Result<String, BoxError> {
        let sas = BlobSas {
            account: &self.account,
            key: account_key,
            object: source,
            permissions: "r",
            expires: expiry(SOURCE_LIFETIME),
            https_only: self.address.secure,
            content_type: "",
            content_disposition: "",
        };
        sas.query()
            .ok_or_else(|| "the key of the account is not base64".into())
    }
}

fn expiry(lifetime: Duration) -> Timestamp {
    let expires = SystemTime::now().checked_add(lifetime);
    let expires = expires.and_then(|time| Timestamp::try_from(time).ok());
    expires.unwrap_or(Timestamp::MAX)
}
