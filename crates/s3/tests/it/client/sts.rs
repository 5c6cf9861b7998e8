//! Temporary credentials for clients. Garage does not support them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use landfall_objects::Cloud as _;
use landfall_s3::client::{
    Client, Condition, CredentialSource, ErrorKind, ObjectHeaders, Payload, TokenRequest,
};

use super::Bucket;
use crate::support;

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::b/own/*"}]}"#;
const HOUR: Duration = Duration::from_secs(3_600);

fn token(endpoint: &str) -> TokenRequest<'_> {
    TokenRequest {
        endpoint: Some(endpoint),
        role: None,
        name: "landfall",
        policy: POLICY,
        lifetime: HOUR,
    }
}

async fn moto_issues_expiring_credentials(role: Option<&str>) {
    let bucket = Bucket::moto();
    let request = TokenRequest {
        role,
        ..token(bucket.access.endpoint.as_str())
    };
    let given = bucket.client.temporary_credentials(&request).await.unwrap();
    assert!(!given.access_key_id.is_empty() && given.session_token.is_some());
    assert!(!format!("{given:?}").contains(&given.secret_access_key));
    let left = given
        .expires
        .unwrap()
        .duration_since(SystemTime::now())
        .unwrap();
    assert!(left <= HOUR, "{left:?}");

    let mut settings = support::settings(&bucket.access);
    settings.credentials = CredentialSource::Static(given);
    let object_ref = bucket.object_ref("own/file");
    let client = Client::new(settings).unwrap();
    client
        .put_object(
            &object_ref,
            Payload::from(Bytes::from_static(b"bytes")),
            &ObjectHeaders::default(),
            Condition::None,
        )
        .await
        .unwrap();
    assert_eq!(
        bucket.client.head_object(&object_ref).await.unwrap().size,
        5
    );

    // As on a machine with an instance role: these credentials can only assume a role.
    let again = client.temporary_credentials(&request).await;
    match role {
        Some(_) => assert!(again.is_ok(), "{again:?}"),
        None => {
            let refused = again.unwrap_err();
            assert_eq!(*refused.kind(), ErrorKind::BadCredentials);
            assert!(refused.to_string().contains("set a role"), "{refused}");
        }
    }
}

#[tokio::test]
async fn moto_issues_federation_tokens() {
    moto_issues_expiring_credentials(None).await;
}

#[tokio::test]
async fn moto_assumes_role() {
    let role = "arn:aws:iam::123456789012:role/uploads";
    moto_issues_expiring_credentials(Some(role)).await;
}

#[tokio::test]
async fn garage_has_no_token_service() {
    let bucket = Bucket::garage();
    let endpoint = bucket.access.endpoint.as_str();
    let refused = bucket
        .client
        .temporary_credentials(&token(endpoint))
        .await
        .unwrap_err();
    assert!(refused.to_string().starts_with("GetFederationToken: "));
    assert!(refused.status().unwrap().is_client_error(), "{refused}");
}

#[tokio::test]
async fn invalid_endpoint_is_rejected() {
    let bucket = Bucket::moto();
    for endpoint in [
        "",
        "sts.example",
        "ftp://sts.example",
        "http://a:b@sts.example",
    ] {
        let refused = bucket
            .client
            .temporary_credentials(&token(endpoint))
            .await
            .unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Other);
        assert!(!refused.to_string().contains("a:b"), "{refused}");
    }
}
