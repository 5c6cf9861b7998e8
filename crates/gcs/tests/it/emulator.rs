use landfall_objects::{CallSettings, Condition, ErrorKind, ObjectHeaders};
use landfall_test_services::GcsEmulator;

use super::*;

/// It ignores preconditions, but understands requests and responses by its own reading of the documentation.
#[tokio::test]
async fn emulator_of_others_understands_the_calls() {
    let emulator = GcsEmulator::start();
    let client = Client::new(ClientSettings {
        endpoint: Some(format!("{}/storage/v1/", emulator.access().endpoint)),
        credentials: CredentialSource::Anonymous,
        // It answers one connection at a time.
        calls: CallSettings {
            idle_connections: 0,
            ..CallSettings::default()
        },
        ..ClientSettings::default()
    })
    .unwrap();
    let id = ObjectRef::new(GcsEmulator::BUCKET, "folder/id");
    let headers = ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        metadata: [("name".to_owned(), "value".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    let (parts, all) = upload_parts(&client, &id, 34).await;
    assert_eq!(client.list_parts(&id, "").await.unwrap().len(), 34);
    client
        .complete_multipart(&id, "", &parts, &headers)
        .await
        .unwrap();
    let read = client.get_object(&id, None).await.unwrap();
    assert_eq!(read.bytes(1000).await.unwrap(), all);
    let read = client.get_object(&id, Some(2..5)).await.unwrap();
    assert_eq!(read.bytes(1000).await.unwrap(), all[2..5]);
    assert_eq!(
        client.head_object(&id).await.unwrap().metadata["name"],
        "value"
    );
    let page = client
        .list_objects(GcsEmulator::BUCKET, "", None, 1000)
        .await
        .unwrap();
    assert_eq!(page.objects.len(), 1, "{page:?}");
    let copy = ObjectRef::new(GcsEmulator::BUCKET, "copy");
    client
        .copy_part(&copy, "", 1, &id, 0..all.len() as u64)
        .await
        .unwrap();
    client.abort_multipart(&copy, "").await.unwrap();
    let put = client.put_object(&copy, payload("x"), &headers, Condition::None, None);
    put.await.unwrap();
    client.delete_object(&copy).await.unwrap();
    let error = client.head_object(&copy).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
}
