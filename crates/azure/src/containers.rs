//! The calls on containers and the service, for the start and for `doctor`.

use std::time::SystemTime;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use landfall_objects::{Cloud as _, ErrorKind, ObjectRef, Result, Service as _, header_text};
use percent_encoding::percent_decode_str;
use reqsign_azure_storage::Credential;

use crate::{
    client::AzureClient,
    identity::Identity,
    request::{of_blob, of_container},
    settings::ContainerAccess,
    xml,
};

/// The properties of a container and its account that matter to uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerReport {
    /// The rights of requests without credentials.
    pub access: ContainerAccess,
    /// An immutability policy forbids to delete or replace blobs for a time.
    pub has_immutability_policy: bool,
    /// A legal hold forbids to delete or replace blobs until it is removed.
    pub has_legal_hold: bool,
    /// Days for which the account keeps deleted blobs, and bills them; 0: none. `None`: the credentials may not read
    /// it, as those with a role on the container alone.
    pub soft_delete_days: Option<u32>,
}

/// The credentials of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialReport {
    /// Their kind and account, for people.
    pub source: String,
    /// The letters of the rights of a shared access signature; `None`: there is none, or a stored policy has them.
    pub rights: Option<String>,
    /// The end of a shared access signature, if it names one.
    pub expires: Option<SystemTime>,
}

impl CredentialReport {
    fn signature(source: String, token: &str) -> Self {
        let value = |name: &str| {
            let pairs = token.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.into_iter().find(|(one, _)| *one == name)?;
            Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        let expires = value("se").and_then(|end| {
            // A date alone is its midnight.
            let time: Timestamp = match end.len() {
                10 => format!("{end}T00:00:00Z").parse().ok()?,
                _ => end.parse().ok()?,
            };
            Some(time.into())
        });
        let rights = value("sp");
        Self {
            source,
            rights,
            expires,
        }
    }
}

impl AzureClient {
    /// Reports the credentials, after they have given a token if they have to.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`].
    pub async fn inspect_credentials(&self) -> Result<CredentialReport> {
        let (inner, account) = (&self.inner, self.account());
        let request = of_container("GetToken", Method::GET, "");
        let given = inner.credentials.get().await;
        let given =
            given.map_err(|error| request.error(ErrorKind::BadCredentials).with_source(error))?;
        let mut source = format!("{} of {account}", self.authorization());
        if let Some(name) = inner.credentials.source().map(Identity::source) {
            source = format!("{source}, by {name}");
        }
        Ok(match given.as_deref() {
            Some(Credential::SasToken { token, .. }) => CredentialReport::signature(source, token),
            _ => CredentialReport {
                source,
                rights: None,
                expires: None,
            },
        })
    }

    /// Returns whether the account keeps old versions of blobs, as an existing blob shows.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`] and others.
    pub async fn has_versions(&self, object: &ObjectRef) -> Result<bool> {
        let request = of_blob("GetBlobProperties", Method::HEAD, object);
        let response = self.inner.send(&request).await?;
        Ok(response.head.headers.contains_key("x-ms-version-id"))
    }

    /// Reports the properties of a container and its account.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchBucket`] and others.
    pub async fn report(&self, container: &str) -> Result<ContainerReport> {
        let headers = self.container_headers(container).await?;
        let request = of_container("GetBlobServiceProperties", Method::GET, "")
            .query("restype", "service")
            .query("comp", "properties");
        let service = self.inner.send(&request).await.ok();
        Ok(ContainerReport {
            access: match header_text(&headers, "x-ms-blob-public-access") {
                Some("container") => ContainerAccess::Container,
                Some("blob") => ContainerAccess::Blob,
                _ => ContainerAccess::Private,
            },
            has_immutability_policy: is_true(&headers, "x-ms-has-immutability-policy"),
            has_legal_hold: is_true(&headers, "x-ms-has-legal-hold"),
            soft_delete_days: service.and_then(|one| xml::soft_delete_days(&one.body).ok()),
        })
    }

    async fn container_headers(&self, container: &str) -> Result<HeaderMap> {
        let request = of_container("GetContainerProperties", Method::HEAD, container)
            .query("restype", "container");
        Ok(self.inner.send(&request).await?.head.headers)
    }

    /// Creates a container; false: it was there already, and keeps its access.
    pub async fn create_container(&self, container: &str, access: ContainerAccess) -> Result<bool> {
        let mut request =
            of_container("CreateContainer", Method::PUT, container).query("restype", "container");
        if let Some(access) = access.name() {
            request = request.header("x-ms-blob-public-access", access)?;
        }
        match self.inner.send(&request).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ContainerAlreadyExists") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Finds a container, or creates it if there is none; true if it was created.
    ///
    /// A container that exists is enough where the credentials may not read its properties, or not create it.
    ///
    /// # Errors
    /// The error of the creation, unless blobs of the container can be listed.
    pub async fn ensure_container(&self, container: &str, access: ContainerAccess) -> Result<bool> {
        match self.container_headers(container).await {
            Ok(_) => return Ok(false),
            Err(error) => match error.kind() {
                ErrorKind::NoSuchBucket | ErrorKind::AccessDenied => {}
                _ => return Err(error),
            },
        }
        match self.create_container(container, access).await {
            Err(error) if *error.kind() == ErrorKind::AccessDenied => {
                match self.list_objects(container, "", None, 1).await {
                    Ok(_) => Ok(false),
                    Err(_) => Err(error),
                }
            }
            result => result,
        }
    }
}

fn is_true(headers: &HeaderMap, name: &str) -> bool {
    header_text(headers, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_end_of_a_signature() {
        let read = |token: &str| {
            let report = CredentialReport::signature(String::new(), token);
            (report.rights, report.expires)
        };
        let end = "2026-12-01T00:00:00Z".parse::<Timestamp>().unwrap();
        let rights = Some("racwdl".to_owned());
        for token in [
            "sv=1&sp=racwdl&se=2026-12-01T00%3A00%3A00Z&sig=x",
            "se=2026-12-01&sp=racwdl&sig=x",
        ] {
            assert_eq!(read(token), (rights.clone(), Some(end.into())), "{token}");
        }
        for token in ["si=policy&sig=x", "se=soon&sig=x"] {
            assert_eq!(read(token), (None, None), "{token}");
        }
    }
}
