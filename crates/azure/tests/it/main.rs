//! The client with Azurite, which checks keys, signatures, checksums and conditions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocks;
mod containers;
mod credentials;
mod objects;
mod presigned;

use bytes::Bytes;
use landfall_azure::{AccessTier, AzureClient, AzureSettings, Variables};
use landfall_objects::{Cloud as _, ObjectRef, Payload};
use landfall_test_services::Azurite;

/// A fresh container.
struct Container {
    name: String,
    client: AzureClient,
}

impl Container {
    fn new() -> Self {
        let key = ("AZURE_STORAGE_KEY", Azurite::KEY);
        Self {
            name: Azurite::shared().container("client"),
            client: client(key, None),
        }
    }

    fn blob(&self, key: &str) -> ObjectRef {
        ObjectRef::new(&self.name, key)
    }

    async fn read(&self, object: &ObjectRef) -> Bytes {
        let object = self.client.get_object(object, None).await.unwrap();
        object.bytes(1 << 30).await.unwrap()
    }
}

fn client(credential: (&str, &str), tier: Option<AccessTier>) -> AzureClient {
    let account = ("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT);
    let settings = AzureSettings {
        endpoint: Some(Azurite::shared().endpoint()),
        tier,
        variables: Variables::from([account, credential]),
        ..AzureSettings::default()
    };
    AzureClient::new(settings).unwrap()
}

fn payload(bytes: &'static [u8]) -> Payload {
    Payload::from(Bytes::from_static(bytes))
}
