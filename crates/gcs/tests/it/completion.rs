use landfall_objects::{ErrorKind, ObjectHeaders};

use super::*;

#[tokio::test]
async fn parts_of_any_number_become_one_object() {
    for count in [0, 1, 2, 32, 33, 128, 1_025] {
        let service = Service::start();
        let client = service.client();
        let id = object("p/id");
        let (parts, all) = upload_parts(&client, &id, count).await;
        service.fake.insert(BUCKET, "p/id.info", "{}");
        // A dead process has written late.
        service
            .fake
            .insert(BUCKET, &format!("p/id_{}", count + 3), "late");
        service.fake.insert(BUCKET, "p/id_tmp_0_0", "of tusd");
        service.fake.reset_counts();
        let headers = ObjectHeaders {
            content_type: Some("text/plain".to_owned()),
            metadata: [("filename".to_owned(), "x".to_owned())].into(),
            ..ObjectHeaders::default()
        };
        let version = client
            .complete_multipart(&id, "", &parts, &headers)
            .await
            .unwrap();
        assert_eq!(service.fake.bytes(BUCKET, "p/id").unwrap(), all, "{count}");
        assert_eq!(service.names(), ["p/id", "p/id.info"], "{count}");
        let head = client.head_object(&id).await.unwrap();
        assert_eq!(
            (head.etag, &*head.metadata["filename"]),
            (version.clone(), "x")
        );
        assert_eq!(head.content_type.as_deref(), Some("text/plain"));
        let error = client.list_parts(&id, "").await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NoSuchUpload);
        if count > 0 {
            // The sources are gone.
            let again = client.complete_multipart(&id, "", &parts, &headers).await;
            assert_eq!(again.unwrap(), version);
        }
    }
}

#[tokio::test]
async fn only_the_parts_that_are_named_count() {
    let service = Service::start();
    service.fake.set_rate_limit(false);
    let client = service.client();
    let id = object("p/id");
    let (mut parts, _) = upload_parts(&client, &id, 3).await;
    let headers = ObjectHeaders::default();
    // Another node has replaced it.
    service.fake.insert(BUCKET, "p/id_1", "late");
    let error = client
        .complete_multipart(&id, "", &parts, &headers)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidPart);
    assert!(service.fake.bytes(BUCKET, "p/id").is_none());
    let listed = client.list_parts(&id, "").await.unwrap();
    parts = listed
        .into_iter()
        .map(|part| (part.number, part.etag))
        .collect();
    service.fake.insert(BUCKET, "p/id", "of another program");
    let error = client
        .complete_multipart(&id, "", &parts, &headers)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    client.delete_object(&id).await.unwrap();
    client
        .complete_multipart(&id, "", &parts, &headers)
        .await
        .unwrap();
    assert_eq!(service.fake.bytes(BUCKET, "p/id").unwrap(), "1.late3.");
    let invalid = [(1, "x".to_owned())];
    let error = client
        .complete_multipart(&id, "", &invalid, &headers)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidPart);
}

#[tokio::test]
async fn parts_are_removed_from_a_number_on() {
    let service = Service::start();
    let client = service.client();
    let id = object("p/id");
    upload_parts(&client, &id, 120).await;
    service.fake.reset_counts();
    let listed = client.list_parts(&id, "").await.unwrap().into_iter();
    let parts: Vec<_> = listed.map(|part| (part.number, part.etag)).collect();
    client.remove_parts(&id, "", &parts[109..]).await.unwrap();
    assert_eq!(client.list_parts(&id, "").await.unwrap().len(), 109);
    assert_eq!(service.fake.count("batch"), 1);
    service
        .fake
        .insert(BUCKET, "p/.landfall/compose/id/0-0", "temporary");
    client.abort_multipart(&id, "").await.unwrap();
    client.abort_multipart(&id, "").await.unwrap();
    assert_eq!(service.names(), Vec::<String>::new());
    assert!(client.list_parts(&id, "").await.unwrap().is_empty());
}
