//! The additions of the service to the calls of all clouds: checksums, signatures, the rights to read the source of a
//! copy. It knows no operation.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_LENGTH},
    response::Parts,
};
use landfall::BoxError;
use landfall_objects::{
    CallRequest, Caller, CredentialCache, Failure, ObjectRef, Payload, Service,
};
use reqsign_azure_storage::Credential;
use reqsign_core::SignRequest as _;

use crate::{
    checksum::{crc64, md5},
    client::Inner,
    identity::Identity,
    metadata::metadata_name,
    response::{About, SEND_MD5, refusal},
};

/// The newest version of the service that the emulator knows, too.
const VERSION: HeaderValue = HeaderValue::from_static("2025-11-05");
const MS_VERSION: HeaderName = HeaderName::from_static("x-ms-version");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const CONTENT_CRC64: HeaderName = HeaderName::from_static("x-ms-content-crc64");
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-ms-copy-source");
const COPY_SOURCE_AUTHORIZATION: HeaderName =
    HeaderName::from_static("x-ms-copy-source-authorization");

/// Larger payloads have the cheaper checksum.
const MAX_MD5_BYTES: u64 = 64 * 1024;

/// The additions to a request.
#[derive(Debug, Default)]
pub(crate) enum Extra {
    #[default]
    Nothing,
    /// The service verifies the payload by its checksum.
    Verified,
    /// The service copies a range of another blob before it responds.
    CopyOf(ObjectRef),
}

pub(crate) type BlobRequest<'a> = CallRequest<'a, Extra>;

/// Creates a request about a container; an empty name is the service itself.
pub(crate) fn of_container<'a>(
    operation: &'static str,
    method: Method,
    container: &'a str,
) -> BlobRequest<'a> {
    BlobRequest::new(operation, method, Extra::Nothing, container)
}

pub(crate) fn of_blob<'a>(
    operation: &'static str,
    method: Method,
    object: &'a ObjectRef,
) -> BlobRequest<'a> {
    of_container(operation, method, &object.bucket).about(object)
}

#[async_trait]
impl Service for Inner {
    type Extra = Extra;
    type Source = Identity;

    const GET: &'static str = "GetBlob";

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn credentials(&self) -> &CredentialCache<Identity> {
        &self.credentials
    }

    async fn sign(
        &self,
        request: &BlobRequest<'_>,
        credential: Option<&Credential>,
        head: &mut http::request::Parts,
    ) -> Result<(), BoxError> {
        let url = match request.bucket {
            "" => format!("{}/", self.address.base()),
            container => self.address.url(container, request.key),
        };
        let mark = if request.query.is_empty() { "" } else { "?" };
        head.uri = format!("{url}{mark}{}", request.query).parse()?;
        head.headers.insert(MS_VERSION, VERSION);
        if request.method == Method::PUT {
            // It is signed.
            let length = request.payload.len().into();
            head.headers.insert(CONTENT_LENGTH, length);
        }
        match (&request.extra, credential) {
            (Extra::Verified, _) => {
                let (name, checksum) = self.checksum(&request.payload);
                head.headers.insert(name, HeaderValue::try_from(checksum)?);
            }
            (Extra::CopyOf(source), Some(credential)) => {
                self.authorize_source(source, credential, &mut head.headers)?;
            }
            _ => {}
        }
        self.signer
            .sign_request(&self.context, head, credential, None)
            .await?;
        if let Some(authorization) = head.headers.get_mut(AUTHORIZATION) {
            authorization.set_sensitive(true);
        }
        Ok(())
    }

    fn refusal(&self, request: &BlobRequest<'_>, head: &Parts, body: &Bytes) -> Failure {
        let about = About {
            blob: request.key.is_some(),
            authorization: self.authorization,
        };
        let failure = refusal(about, head, body, |kind| request.error(kind));
        if failure.retry == SEND_MD5 {
            self.sends_md5.store(true, Ordering::Relaxed);
        }
        failure
    }

    fn metadata_name(header: &str) -> Option<String> {
        metadata_name(header)
    }
}

impl Inner {
    /// Small objects have the digest that the service stores, too; CRC-64 takes less time for others.
    fn checksum(&self, payload: &Payload) -> (HeaderName, String) {
        match payload.len() <= MAX_MD5_BYTES || self.sends_md5.load(Ordering::Relaxed) {
            true => (CONTENT_MD5, md5(payload)),
            false => (CONTENT_CRC64, crc64(payload)),
        }
    }

    /// The service reads the source with separate rights, for as long as a copy takes.
    fn authorize_source(
        &self,
        source: &ObjectRef,
        credential: &Credential,
        headers: &mut HeaderMap,
    ) -> Result<(), BoxError> {
        let mut url = self.address.url(&source.bucket, Some(&source.key));
        let secret = |text: &str| {
            let mut value = HeaderValue::try_from(text)?;
            value.set_sensitive(true);
            Ok::<_, BoxError>(value)
        };
        let query = match credential {
            Credential::SharedKey { account_key, .. } => {
                Some(self.source_signature(source, account_key)?)
            }
            Credential::SasToken { token, .. } => Some(token.clone()),
            Credential::BearerToken { token, .. } => {
                headers.insert(
                    COPY_SOURCE_AUTHORIZATION,
                    secret(&format!("Bearer {token}"))?,
                );
                None
            }
        };
        if let Some(query) = query {
            url.push('?');
            url.push_str(&query);
        }
        headers.insert(COPY_SOURCE, secret(&url)?);
        Ok(())
    }
}
