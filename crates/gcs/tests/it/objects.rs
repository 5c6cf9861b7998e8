use landfall_objects::{Condition, ErrorKind, ObjectHeaders};

use super::*;

async fn text(client: &Client, object: &ObjectRef, range: Option<std::ops::Range<u64>>) -> Bytes {
    let opened = client.get_object(object, range).await.unwrap();
    opened.bytes(1 << 20).await.unwrap()
}

#[tokio::test]
async fn object_is_written_read_and_deleted() {
    let service = Service::start();
    service.fake.set_rate_limit(false);
    let client = service.client();
    let object = object("p/a b/é?%2F_0");
    let headers = ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        content_disposition: Some("attachment; filename=\"x\"".to_owned()),
        metadata: [("Name".to_owned(), "ü\n".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    let put = async |text: &str, condition| {
        let put = client.put_object(&object, payload(text), &headers, condition, None);
        put.await
    };
    let first = put("hello world", Condition::IfAbsent).await.unwrap();
    let error = put("other", Condition::IfAbsent).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    let head = client.head_object(&object).await.unwrap();
    assert_eq!((head.size, &head.etag), (11, &first));
    assert_eq!(head.metadata["name"], "ü\n");
    assert_eq!(head.content_type.as_deref(), Some("text/plain"));
    assert!(head.modified.is_some());
    assert_eq!(text(&client, &object, None).await, "hello world");
    assert_eq!(text(&client, &object, Some(6..99)).await, "world");
    let opened = client.get_object(&object, Some(0..1)).await.unwrap();
    assert_eq!((opened.head.size, &opened.head.etag), (11, &first));
    let outside = client.get_object(&object, Some(11..12)).await.unwrap_err();
    assert_eq!(*outside.kind(), ErrorKind::InvalidRange);
    let second = put("", Condition::IfMatch(first.clone())).await.unwrap();
    assert_ne!(first, second);
    let error = put("late", Condition::IfMatch(first)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(text(&client, &object, None).await, "");
    client.delete_object(&object).await.unwrap();
    client.delete_object(&object).await.unwrap();
    let error = client.head_object(&object).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    let error = put("late", Condition::IfMatch(second)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn objects_are_listed_in_pages() {
    let service = Service::start();
    for name in ["p/b", "p/a", "q", "p/c"] {
        service.fake.insert(BUCKET, name, "x");
    }
    let client = service.client();
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = client.list_objects(BUCKET, "p/", after, 2).await.unwrap();
        let keys: Vec<_> = page.objects.into_iter().map(|one| one.key).collect();
        pages.push(keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec!["p/a", "p/b"], vec!["p/c"]]);
    let page = client.list_objects(BUCKET, "", None, 1000).await.unwrap();
    assert_eq!(page.objects.len(), 4);
    assert_eq!(page.objects[0].size, 1);
    assert!(page.objects[0].modified.is_some());
}

/// The service refuses two writes of a name within a second.
#[tokio::test]
async fn quick_writes_of_one_name_succeed() {
    let service = Service::start();
    let client = service.client();
    let id = object("p/id");
    let first = client
        .upload_part(&id, "", 1, payload("a"), PartCondition::default())
        .await
        .unwrap();
    let second = client
        .upload_part(&id, "", 1, payload("ab"), over(&first))
        .await
        .unwrap();
    assert_eq!(client.list_parts(&id, "").await.unwrap()[0].etag, second);
    let error = client
        .upload_part(&id, "", 1, payload("ab"), over(&first))
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    assert!(client.stats().requests() > client.stats().calls());
}

#[tokio::test]
async fn whole_objects_are_copied_into_parts() {
    let service = Service::start();
    service.fake.set_rate_limit(false);
    let client = service.client();
    let (id, source) = (object("p/id"), object("p/other"));
    let headers = ObjectHeaders {
        metadata: [("landfall-upload".to_owned(), "other".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    let text = payload("0123456789");
    let put = client.put_object(&source, text, &headers, Condition::None, None);
    put.await.unwrap();
    service.fake.insert(BUCKET, "p/id_1", "late");
    let first = client.copy_part(&id, "", 1, &source, 0..10).await.unwrap();
    let second = client.copy_part(&id, "", 2, &source, 0..10).await.unwrap();
    let parts = client.list_parts(&id, "").await.unwrap();
    let tags: Vec<_> = parts.into_iter().map(|part| part.etag).collect();
    assert_eq!(tags, [first, second]);
    let copied = &service.fake.objects(BUCKET)[0];
    assert!(copied.metadata.is_empty(), "{copied:?}");
    let error = client
        .copy_part(&id, "", 3, &source, 0..9)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidRange);
    assert_eq!(service.names(), ["p/id_0", "p/id_1", "p/other"]);
    let error = client
        .copy_part(&id, "", 3, &object("p/none"), 0..9)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
}

/// A part of another upload is not the file of this one.
#[tokio::test]
async fn part_of_another_upload_completes_none() {
    let service = Service::start();
    let client = service.client();
    let condition = PartCondition {
        writer: Some("writer"),
        ..PartCondition::default()
    };
    let other = object("p/a");
    let part = client.upload_part(&other, "", 1, payload("x"), condition);
    part.await.unwrap();
    assert!(
        client
            .list_parts(&object("p/a_0"), "")
            .await
            .unwrap()
            .is_empty()
    );
    let parts = client.list_parts(&other, "").await.unwrap();
    assert_eq!(parts[0].writer.as_deref(), Some("writer"));
}

/// Ids with `_` and ids that begin others.
#[tokio::test]
async fn uploads_with_similar_ids_are_apart() {
    let service = Service::start();
    let client = service.client();
    let ids = ["p/a", "p/a_0", "p/a_tmp_0_0", "p/a/b", "p/ab", "p/a_"];
    for id in ids {
        service.fake.insert(BUCKET, &format!("{id}.info"), "{}");
        upload_parts(&client, &object(id), 2).await;
    }
    // Finished ones have names of parts of others.
    service.fake.insert(BUCKET, "p/a_0", "finished");
    service.fake.insert(BUCKET, "p/a_tmp_0_0", "finished");
    client.abort_multipart(&object("p/a"), "").await.unwrap();
    let error = client
        .list_parts(&object("p/a_0"), "")
        .await
        .map(|parts| parts.len());
    assert_eq!(error.unwrap(), 2, "all parts are there");
    for id in &ids[1..] {
        let parts = client.list_parts(&object(id), "").await.unwrap();
        assert_eq!(parts.len(), 2, "{id}");
    }
    assert!(service.names().contains(&"p/a_tmp_0_0".to_owned()));
}

fn over(tag: &str) -> PartCondition<'_> {
    PartCondition {
        over: Some(tag),
        ..PartCondition::default()
    }
}
