//! Buckets: listings and CORS.

use bytes::Bytes;
use landfall_objects::Cloud as _;
use landfall_s3::client::{Condition, CorsRule, ObjectHeaders, Payload};

use super::{Bucket, on_each};

on_each!(
    objects_are_listed_page_by_page,
    cors_rules_are_set_and_read,
    head_bucket_succeeds
);

async fn objects_are_listed_page_by_page(bucket: Bucket) {
    let keys: Vec<_> = (0..7).map(|number| format!("p/{number} +ü")).collect();
    for key in keys.iter().map(String::as_str).chain(["q"]) {
        let payload = Payload::from(Bytes::from_static(b"abc"));
        let object = ObjectHeaders::default();
        let object_ref = bucket.object_ref(key);
        bucket
            .client
            .put_object(&object_ref, payload, &object, Condition::None)
            .await
            .unwrap();
    }
    let mut listed = Vec::new();
    let (mut after, mut pages) = (None, 0);
    loop {
        let page = bucket
            .client
            .list_objects(&bucket.name, "p/", after, 3)
            .await
            .unwrap();
        assert!(page.objects.len() <= 3);
        pages += 1;
        listed.extend(page.objects);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(
        listed.iter().map(|object| &object.key).collect::<Vec<_>>(),
        keys.iter().collect::<Vec<_>>()
    );
    for object in listed {
        assert_eq!(
            (object.size, &*object.etag),
            (3, "\"900150983cd24fb0d6963f7d28e17f72\"")
        );
        assert!(object.modified.is_some());
    }
}

async fn cors_rules_are_set_and_read(bucket: Bucket) {
    assert_eq!(bucket.client.bucket_cors(&bucket.name).await.unwrap(), None);
    let rules = vec![CorsRule {
        allowed_origins: vec!["https://app.example".to_owned()],
        allowed_methods: vec!["PUT".to_owned(), "POST".to_owned()],
        allowed_headers: vec!["*".to_owned()],
        expose_headers: vec!["ETag".to_owned(), "Location".to_owned()],
        max_age_seconds: Some(3_000),
        ..CorsRule::default()
    }];
    bucket
        .client
        .set_bucket_cors(&bucket.name, &rules)
        .await
        .unwrap();
    assert_eq!(
        bucket.client.bucket_cors(&bucket.name).await.unwrap(),
        Some(rules)
    );
}

async fn head_bucket_succeeds(bucket: Bucket) {
    bucket.client.head_bucket(&bucket.name).await.unwrap();
}
