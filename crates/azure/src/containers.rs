//! The calls on containers and the service, for the start and for `doctor`.

use http::{HeaderMap, Method};
use landfall_objects::{ErrorKind, Result, header_text};

use crate::{client::AzureClient, request::BlobRequest, settings::ContainerAccess, xml};

/// The properties of a container and its account that matter to uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl AzureClient {
    /// Reports the properties of a container and its account.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchBucket`] and others.
    pub async fn report(&self, container: &str) -> Result<ContainerReport> {
        let headers = self.container_headers(container).await?;
        let request = BlobRequest::new("GetBlobServiceProperties", Method::GET, "")
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
        let request = BlobRequest::new("GetContainerProperties", Method::HEAD, container)
            .query("restype", "container");
        Ok(self.inner.send(&request).await?.head.headers)
    }

    /// Creates a container; false: it was there already, and keeps its access.
    pub async fn create_container(&self, container: &str, access: ContainerAccess) -> Result<bool> {
        let mut request = BlobRequest::new("CreateContainer", Method::PUT, container)
            .query("restype", "container");
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
