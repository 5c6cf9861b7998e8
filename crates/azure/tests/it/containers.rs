//! Containers: their start, and what `doctor` asks.

use landfall_azure::ContainerAccess;
use landfall_objects::ErrorKind;
use landfall_test_services::Azurite;

use crate::{Container, client};

#[tokio::test]
async fn containers_are_created_once() {
    let container = Container::new();
    let client = &container.client;
    let name = format!("{}-x", container.name);
    let error = client.report(&name).await.expect_err("missing");
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket);
    assert!(
        client
            .ensure_container(&name, ContainerAccess::Blob)
            .await
            .unwrap()
    );
    assert!(
        !client
            .ensure_container(&name, ContainerAccess::Private)
            .await
            .unwrap()
    );
    assert!(
        !client
            .create_container(&name, ContainerAccess::Private)
            .await
            .unwrap()
    );
    let report = client.report(&name).await.unwrap();
    assert_eq!(report.access, ContainerAccess::Blob, "as it was created");
    assert!(!report.has_immutability_policy && !report.has_legal_hold);
    assert_eq!(report.soft_delete_days, Some(0));
    let error = client
        .create_container("Invalid_Name", ContainerAccess::Private)
        .await;
    let error = error.expect_err("invalid");
    assert_eq!(*error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("lower-case"), "{error}");
}

#[tokio::test]
async fn a_container_that_exists_is_enough() {
    let container = Container::new();
    // It may list blobs, and not create a container or read its properties.
    let limited = client(("AZURE_STORAGE_SAS_TOKEN", Azurite::LIST_SAS), None);
    let error = limited.report(&container.name).await.expect_err("denied");
    assert_eq!(*error.kind(), ErrorKind::AccessDenied, "{error}");
    let found = limited
        .ensure_container(&container.name, ContainerAccess::Private)
        .await;
    assert!(!found.unwrap());
    let error = limited
        .ensure_container("no-such-container", ContainerAccess::Private)
        .await;
    assert_eq!(*error.expect_err("missing").kind(), ErrorKind::AccessDenied);
}
