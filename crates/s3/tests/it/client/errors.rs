//! Permanent errors, each reported in one line. Only Garage verifies credentials.

use std::time::Duration;

use bytes::Bytes;
use landfall_objects::Cloud as _;
use landfall_s3::client::{
    CallLimits, Client, ClientSettings, Condition, CredentialSource, Credentials, ErrorKind,
    ObjectHeaders, Payload,
};
use landfall_test_services::Access;

use super::{Bucket, on_each};
use crate::support;

on_each!(a_missing_bucket);

async fn put_object(
    client: &Client,
    bucket: &Bucket,
) -> Result<String, landfall_s3::client::Error> {
    let payload = Payload::from(Bytes::from_static(b"x"));
    let object = ObjectHeaders::default();
    client
        .put_object(&bucket.object_ref("k"), payload, &object, Condition::None)
        .await
}

async fn a_missing_bucket(bucket: Bucket) {
    let error = bucket.client.head_bucket("not-there").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket, "{error}");
    let error = bucket
        .client
        .list_objects("not-there", "", None, 1)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket, "{error}");
}

fn with_keys(access: &Access, id: &str, secret: &str) -> Client {
    support::client(&Access {
        access_key: id.to_owned(),
        secret_key: secret.to_owned(),
        ..access.clone()
    })
}

#[tokio::test]
async fn wrong_keys() {
    let bucket = Bucket::garage();
    let secret = with_keys(&bucket.access, &bucket.access.access_key, "wrong-secret");
    let unknown = with_keys(&bucket.access, "GK000000000000000000000000", "wrong-secret");
    for client in [secret, unknown] {
        let error = client.head_bucket(&bucket.name).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::BadCredentials, "{error}");
        let error = put_object(&client, &bucket).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::BadCredentials, "{error}");
        assert!(!error.to_string().contains("wrong-secret"), "{error}");
    }
}

#[tokio::test]
async fn missing_permission_is_reported() {
    let bucket = Bucket::garage();
    let access = landfall_test_services::Garage::shared().limited_access(&bucket.name, &["read"]);
    let client = support::client(&access);
    client.head_bucket(&bucket.name).await.unwrap();
    let error = put_object(&client, &bucket).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::AccessDenied, "{error}");
}

#[tokio::test]
async fn wrong_region_is_corrected() {
    let bucket = Bucket::garage();
    let access = Access {
        region: "eu-west-3".to_owned(),
        ..bucket.access.clone()
    };
    let client = support::client(&access);
    put_object(&client, &bucket).await.unwrap();
    assert_eq!(client.stats().requests(), 2);
    put_object(&client, &bucket).await.unwrap();
    assert_eq!(client.stats().requests(), 3, "learned");
}

#[tokio::test]
async fn unreachable_endpoint_is_reported() {
    let access = Bucket::garage().access;
    let client = Client::new(ClientSettings {
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        region: Some(access.region),
        credentials: CredentialSource::Static(Credentials::new("id", "secret")),
        calls: CallLimits {
            attempts: 2,
            backoff: Duration::from_millis(1),
            ..CallLimits::default()
        }
        .into(),
        ..ClientSettings::default()
    })
    .unwrap();
    let error = client.head_bucket("bucket").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    let text = error.to_string();
    assert!(
        text.starts_with("HeadBucket bucket: cannot connect: "),
        "{text}"
    );
}
