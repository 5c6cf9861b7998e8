//! Idempotency keys with upload ids that contain S3's multipart upload id.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, header::LOCATION};
use http_body_util::Full;
use landfall::{
    BoxError, Composer, Config, Handler,
    hook::{CreateDecision, Hook, HookPoints, IdempotencyError, IdempotencyKey, RequestInfo},
    lease::MemoryLocker,
    upload::{Upload, UploadId},
};
use landfall_s3::S3Store;
use landfall_test_services::Garage;

use crate::support::{client, options};

#[derive(Debug, Clone)]
struct One {
    key: UploadId,
    noted: Arc<Mutex<Option<UploadId>>>,
}

#[async_trait]
impl IdempotencyKey for One {
    fn key(&self) -> Option<&UploadId> {
        Some(&self.key)
    }

    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError> {
        Ok(self.noted.lock().unwrap().clone())
    }

    async fn store_id(&self, upload: &mut Upload) -> Result<Option<UploadId>, IdempotencyError> {
        *self.noted.lock().unwrap() = Some(upload.id.clone());
        Ok(None)
    }
}

#[derive(Debug)]
struct Claims(One);

#[async_trait]
impl Hook for Claims {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(&self, _: &RequestInfo, _: &Upload) -> Result<CreateDecision, BoxError> {
        let mut creation = CreateDecision::allow();
        creation.idempotency = Some(Arc::new(self.0.clone()));
        Ok(creation)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_creations_on_two_nodes_create_one_upload() {
    let garage = Garage::shared();
    let mut options = options(&garage.bucket("claims"));
    options.shared = true;
    let locker = MemoryLocker::new();
    let one = One {
        key: UploadId::new("one").unwrap(),
        noted: Arc::default(),
    };
    let nodes: Vec<Handler> = (0..2)
        .map(|_| {
            let store = S3Store::new(client(&garage.access()), options.clone()).unwrap();
            let parts = Composer::join(store).with_locker(locker.clone());
            Handler::new(Config::new(parts).hook(Claims(one.clone()))).unwrap()
        })
        .collect();
    let creations = (0..10).map(|n| {
        let node = nodes[n % 2].clone();
        tokio::spawn(async move {
            let body: Full<Bytes> = "hello".into();
            let request = Request::builder()
                .method(Method::POST)
                .uri("/files/")
                .header("Tus-Resumable", "1.0.0")
                .header("Upload-Length", "11")
                .header("Content-Type", "application/offset+octet-stream");
            let answer = node.handle(request.body(body).unwrap()).await;
            assert_eq!(answer.status(), 201);
            answer.headers()[LOCATION].to_str().unwrap().to_owned()
        })
    });
    let mut places = Vec::new();
    for creation in creations.collect::<Vec<_>>() {
        places.push(creation.await.unwrap());
    }
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 1, "{places:?}");
    let id = UploadId::new(places[0].rsplit('/').next().unwrap()).unwrap();
    let found = nodes[1].get(&id).await.unwrap().unwrap();
    assert_eq!(found.offset, 5);
}
