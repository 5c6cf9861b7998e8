//! Stores on the services.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use landfall::{
    lease::Fence,
    store::Store,
    upload::{Upload, UploadId},
};
use landfall_s3::{
    S3Options, S3Store,
    client::{Client, ClientSettings, CredentialSource, Credentials},
};
use landfall_test_services::Access;

pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn client(access: &Access) -> Client {
    Client::new(settings(access)).unwrap()
}

pub(crate) fn settings(access: &Access) -> ClientSettings {
    ClientSettings {
        endpoint: Some(access.endpoint.clone()),
        region: Some(access.region.clone()),
        credentials: CredentialSource::Static(Credentials::new(
            &access.access_key,
            &access.secret_key,
        )),
        ..ClientSettings::default()
    }
}

/// A client without retries.
pub(crate) fn client_without_retries(access: &Access) -> Client {
    let mut settings = settings(access);
    settings.calls.limits.attempts = 1;
    settings.calls.limits.deadline = Duration::from_secs(20);
    Client::new(settings).unwrap()
}

/// Small parts, as small as the services allow, so that little data makes many.
pub(crate) fn options(bucket: &str) -> S3Options {
    let mut options = S3Options::new(bucket);
    options.object_prefix = "up".into();
    options.part_size = 5 << 20;
    options
}

pub(crate) async fn create(
    store: &S3Store,
    length: impl Into<Option<u64>>,
) -> std::sync::Arc<Upload> {
    let mut upload = Upload::new(UploadId::random(), length.into());
    store.assign_id(&mut upload).await.unwrap();
    store.create(upload).await.unwrap()
}

pub(crate) async fn append(store: &S3Store, id: &UploadId, fence: u64, bytes: &Bytes) -> u64 {
    let (_, mut append) = store.resume(id, Fence(fence)).await.unwrap();
    append.write(&mut pieces(bytes)).await.unwrap();
    append.commit().await.unwrap()
}

/// Completes an upload that has all its bytes, and returns the entity tag of its object.
pub(crate) async fn finish(store: &S3Store, upload: &Upload, fence: u64) -> Option<String> {
    let finisher = store.capabilities().finisher.unwrap();
    finisher.finish(upload, Fence(fence)).await.unwrap()
}

/// Splits bytes into chunks as a connection would.
pub(crate) fn pieces(bytes: &Bytes) -> Vec<Bytes> {
    (0..bytes.len())
        .step_by(300_000)
        .map(|at| bytes.slice(at..bytes.len().min(at + 300_000)))
        .collect()
}

pub(crate) async fn read(store: &S3Store, upload: &Upload) -> Vec<u8> {
    let len = upload.length.unwrap();
    let mut stream = store
        .capabilities()
        .reader
        .unwrap()
        .read(upload, 0..len)
        .await
        .unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(seed: u64, len: usize) -> Bytes {
    landfall_testkit::test_data::bytes(seed, len)
}

pub(crate) fn assert_same(got: &[u8], wanted: &[u8]) {
    assert_eq!(got.len(), wanted.len());
    if let Some(at) = got.iter().zip(wanted).position(|(a, b)| a != b) {
        panic!("byte {at} of {} differs", wanted.len());
    }
}

/// A tus request.
pub(crate) fn request(method: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri("/files/")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Offset", "0")
        .header("Content-Type", "application/offset+octet-stream")
        .header("Content-Length", body.len())
        .body(Full::new(body))
        .unwrap()
}
