//! The entity tag of a complete upload's object, in its description and in its event.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use landfall::{
    Composer, Config, Handler,
    event::{self, EventKind, EventKinds},
    upload::UploadId,
};
use landfall_objects::Cloud as _;
use landfall_s3::{
    S3Options, S3Store,
    client::{Client, ObjectRef},
};
use landfall_test_services::{Access, Garage, Moto};

use crate::support::{append, client, create, finish, options, pattern};

const PART: usize = 5 << 20;

async fn upload(handler: &Handler, concat: &str, body: Bytes) -> String {
    let mut request = Request::builder()
        .method("POST")
        .uri("/files/")
        .header("Tus-Resumable", "1.0.0");
    if !concat.is_empty() {
        request = request.header("Upload-Concat", concat);
    }
    if !concat.starts_with("final") {
        request = request
            .header("Upload-Length", body.len())
            .header("Content-Type", "application/offset+octet-stream");
    }
    let request = request.body(Full::new(body)).unwrap();
    let response: Response<_> = handler.handle(request).await;
    assert_eq!(response.status(), 201, "{concat}");
    location(response.headers())
}

fn location(headers: &HeaderMap) -> String {
    headers["location"].to_str().unwrap().to_owned()
}

async fn object_etag(client: &Client, options: &S3Options, id: &UploadId) -> String {
    let object = id.as_str().split('+').next().unwrap();
    let key = format!("{}/{object}", options.object_prefix);
    let head = client
        .head_object(&ObjectRef::new(&options.bucket, key))
        .await
        .unwrap();
    head.etag
}

async fn completions_carry_the_entity_tag(access: &Access, options: S3Options) {
    let client = client(access);
    let store = S3Store::new(client.clone(), options.clone()).unwrap();
    let completed = EventKinds {
        completed: true,
        ..EventKinds::NONE
    };
    let (sink, mut events) = event::channel(completed, 16);
    let config = Config::new(Composer::join(store)).sink(sink);
    let handler = Handler::new(config).unwrap();
    upload(&handler, "", Bytes::new()).await;
    upload(&handler, "", pattern(1, 100)).await;
    upload(&handler, "", pattern(2, 2 * PART + 100)).await;
    let first = upload(&handler, "partial", pattern(3, PART)).await;
    let second = upload(&handler, "partial", pattern(4, 100)).await;
    upload(&handler, &format!("final;{first} {second}"), Bytes::new()).await;
    let mut tags = Vec::new();
    for _ in 0..6 {
        let event = events.next().await.unwrap();
        assert_eq!(event.kind, EventKind::Completed);
        let id = &event.upload.id;
        let etag = event.upload.etag.clone().expect("an entity tag");
        assert_eq!(etag, object_etag(&client, &options, id).await, "{id}");
        // The description keeps it, for another process and for a repeated event.
        let other = S3Store::new(client.clone(), options.clone()).unwrap();
        let stored = Handler::new(Config::new(Composer::join(other))).unwrap();
        let snapshot = stored.get(id).await.unwrap().unwrap();
        assert_eq!(snapshot.upload.etag, Some(etag.clone()), "{id}");
        tags.push(etag);
    }
    let distinct: std::collections::BTreeSet<_> = tags.iter().collect();
    assert_eq!(distinct.len(), tags.len(), "{tags:?}");
}

/// A process that finds an upload complete returns the same tag as the one that completed it.
async fn finishing_again_returns_the_same_tag(access: &Access, options: S3Options) {
    let client = client(access);
    let store = S3Store::new(client.clone(), options.clone()).unwrap();
    for size in [0, 100, PART + 100] {
        let upload = create(&store, size as u64).await;
        append(&store, &upload.id, 1, &pattern(5, size)).await;
        let tag = finish(&store, &upload, 1).await;
        assert_eq!(tag, Some(object_etag(&client, &options, &upload.id).await));
        assert_eq!(finish(&store, &upload, 1).await, tag);
        let other = S3Store::new(client.clone(), options.clone()).unwrap();
        assert_eq!(finish(&other, &upload, 2).await, tag, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garage_entity_tags() {
    let garage = Garage::shared();
    let options = options(&garage.bucket("etags"));
    completions_carry_the_entity_tag(&garage.access(), options.clone()).await;
    finishing_again_returns_the_same_tag(&garage.access(), options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_entity_tags() {
    let moto = Moto::shared();
    let mut options = options(&moto.bucket("etags"));
    (options.conditional_writes, options.shared) = (true, true);
    completions_carry_the_entity_tag(&moto.access(), options.clone()).await;
    finishing_again_returns_the_same_tag(&moto.access(), options).await;
}
