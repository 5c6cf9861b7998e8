//! Keys, signatures and connection strings, right and wrong.

use landfall_azure::{Authorization, AzureClient, AzureSettings, Variables};
use landfall_objects::{Cloud as _, Condition, ErrorKind, ObjectHeaders};
use landfall_test_services::Azurite;

use crate::{Container, client, payload};

async fn works(client: &AzureClient, container: &Container) {
    let object = container.blob("k");
    let headers = ObjectHeaders::default();
    client
        .put_object(&object, payload(b"x"), &headers, Condition::None, None)
        .await
        .unwrap();
    assert_eq!(client.head_object(&object).await.unwrap().size, 1);
    client.delete_object(&object).await.unwrap();
    client
        .list_objects(&container.name, "", None, 10)
        .await
        .unwrap();
}

#[tokio::test]
async fn signatures_and_connection_strings_authorize() {
    let container = Container::new();
    let signature = client(("AZURE_STORAGE_SAS_TOKEN", Azurite::SAS), None);
    assert_eq!(
        signature.authorization(),
        Authorization::SharedAccessSignature
    );
    works(&signature, &container).await;
    works(
        &client(("AZURE_STORAGE_KEY", Azurite::SAS), None),
        &container,
    )
    .await;
    let endpoint = format!("{}/{}", Azurite::shared().endpoint(), Azurite::ACCOUNT);
    for rest in [
        format!(
            "AccountName={};AccountKey={}",
            Azurite::ACCOUNT,
            Azurite::KEY
        ),
        format!("SharedAccessSignature={}", Azurite::SAS),
    ] {
        let string = format!("BlobEndpoint={endpoint};{rest}");
        let settings = AzureSettings {
            variables: Variables::from([("AZURE_STORAGE_CONNECTION_STRING", &*string)]),
            ..AzureSettings::default()
        };
        let client = AzureClient::new(settings).unwrap();
        assert_eq!(client.endpoint(), endpoint);
        works(&client, &container).await;
    }
}

#[tokio::test]
async fn wrong_credentials_are_rejected_with_advice() {
    let container = Container::new();
    let object = container.blob("k");
    for (credential, kind, advice) in [
        (
            ("AZURE_STORAGE_KEY", "d3Jvbmc="),
            ErrorKind::BadCredentials,
            "access keys",
        ),
        (
            ("AZURE_STORAGE_SAS_TOKEN", Azurite::EXPIRED_SAS),
            ErrorKind::BadCredentials,
            "create another one",
        ),
        (
            ("AZURE_STORAGE_SAS_TOKEN", Azurite::READ_ONLY_SAS),
            ErrorKind::AccessDenied,
            "with the rights",
        ),
    ] {
        let client = client(credential, None);
        let headers = ObjectHeaders::default();
        let put = client.put_object(&object, payload(b"x"), &headers, Condition::None, None);
        let error = put.await.expect_err("refused");
        assert_eq!(*error.kind(), kind, "{error}");
        let line = error.to_string();
        assert!(line.contains(advice), "{line}");
        assert!(
            !line.contains("sig=") && !line.contains("SharedKey"),
            "{line}"
        );
        assert_eq!(client.stats().requests(), 1, "not repeated");
    }
}
