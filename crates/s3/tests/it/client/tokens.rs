//! Temporary credentials for somebody else. Garage has no such thing.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use landfall_s3::client::{
    Client, Condition, CredentialSource, Credentials, ErrorKind, ObjectHeaders, Payload,
};

use super::Bucket;
use crate::support;

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::b/own/*"}]}"#;
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn moto_gives_credentials_that_end() {
    let bucket = Bucket::moto();
    let endpoint = bucket.access.endpoint.as_str();
    let given = bucket
        .client
        .federation_token(Some(endpoint), "landfall", POLICY, HOUR)
        .await
        .unwrap();
    assert!(!given.access_key_id.is_empty() && !given.session_token.is_empty());
    assert!(!format!("{given:?}").contains(&given.secret_access_key));
    let left = given.expiration.duration_since(SystemTime::now()).unwrap();
    assert!(left <= HOUR, "{left:?}");

    let mut settings = support::settings(&bucket.access);
    let mut credentials = Credentials::new(&given.access_key_id, &given.secret_access_key);
    credentials.session_token = Some(given.session_token);
    settings.credentials = CredentialSource::Static(credentials);
    let place = bucket.place("own/file");
    Client::new(settings)
        .unwrap()
        .put_object(
            &place,
            Payload::from(Bytes::from_static(b"bytes")),
            &ObjectHeaders::default(),
            Condition::None,
        )
        .await
        .unwrap();
    assert_eq!(bucket.client.head_object(&place).await.unwrap().size, 5);
}

#[tokio::test]
async fn garage_has_no_token_service() {
    let bucket = Bucket::garage();
    let endpoint = bucket.access.endpoint.as_str();
    let refused = bucket
        .client
        .federation_token(Some(endpoint), "landfall", POLICY, HOUR)
        .await
        .unwrap_err();
    assert!(refused.to_string().starts_with("GetFederationToken: "));
    assert!(refused.status().unwrap().is_client_error(), "{refused}");
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_refused() {
    let bucket = Bucket::moto();
    for endpoint in [
        "",
        "sts.example",
        "ftp://sts.example",
        "http://a:b@sts.example",
    ] {
        let refused = bucket
            .client
            .federation_token(Some(endpoint), "landfall", POLICY, HOUR)
            .await
            .unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Other);
        assert!(!refused.to_string().contains("a:b"), "{refused}");
    }
}
