//! Signed POST policies, used by a plain HTTP client.

use std::{
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use landfall_objects::Cloud as _;
use landfall_s3::client::{Client, ErrorKind, ObjectRef, PostPolicy};
use landfall_test_services::http1::{Response, post_form};

use super::{Bucket, on_each, where_verified};
use crate::support;

on_each!(post_form_writes_object);
where_verified!(
    post_form_outside_policy_is_rejected,
    expired_post_form_is_rejected
);

const HOUR: Duration = Duration::from_secs(3_600);

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

async fn form(
    client: &Client,
    object_ref: &ObjectRef,
    size: Option<RangeInclusive<u64>>,
) -> PostPolicy {
    let fields = [
        field("success_action_status", "201"),
        field("Content-Type", "text/x-test"),
        field("x-amz-meta-name", "a b&c"),
    ];
    client
        .sign_post_policy(object_ref, &fields, size, HOUR)
        .await
        .unwrap()
}

/// Replaces one field of a form.
fn with(form: &PostPolicy, name: &str, value: &str) -> PostPolicy {
    let mut form = form.clone();
    let mut fields = form.fields.iter_mut();
    fields.find(|(one, _)| one == name).unwrap().1 = value.to_owned();
    form
}

/// Sends a form as browsers do.
async fn post(form: &PostPolicy, file: &[u8]) -> Response {
    let fields = form.fields.iter();
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_str()));
    post_form(&form.url, fields, file).await
}

async fn post_form_writes_object(bucket: Bucket) {
    let object_ref = bucket.object_ref("folder/a b&=$+%.txt");
    let form = form(&bucket.client, &object_ref, Some(5..=5)).await;
    assert_eq!(
        form.url,
        format!("{}/{}/", bucket.access.endpoint, bucket.name)
    );
    let (status, headers, body) = post(&form, b"hello").await;
    assert_eq!(status, 201, "{headers:?} {body:?}");
    let read = bucket.client.get_object(&object_ref, None).await.unwrap();
    assert_eq!(read.head.metadata["name"], "a b&c");
    assert_eq!(read.bytes(100).await.unwrap(), "hello");
}

async fn post_form_outside_policy_is_rejected(bucket: Bucket) {
    let object_ref = bucket.object_ref("file");
    let form = form(&bucket.client, &object_ref, Some(3..=5)).await;
    for file in [&b"sixsix"[..], b"it"] {
        let (status, _, body) = post(&form, file).await;
        let said = String::from_utf8_lossy(&body);
        assert_eq!(status, 400, "{said}");
        // The messages of AWS and of Garage.
        let words = [
            "EntityTooLarge",
            "EntityTooSmall",
            "File size does not match policy",
        ];
        assert!(words.iter().any(|word| said.contains(word)), "{said}");
    }

    let field_of = |name: &str| {
        let mut fields = form.fields.iter();
        fields.find(|(one, _)| one == name).unwrap().1.clone()
    };
    let policy = STANDARD.decode(field_of("policy")).unwrap();
    let wider = String::from_utf8(policy)
        .unwrap()
        .replace(",3,5]", ",3,500]");
    assert!(wider.contains(",3,500]"), "{wider}");
    let mut extra = form.clone();
    extra.fields.insert(0, field("x-amz-meta-more", "x"));
    let mut shorter = form.clone();
    shorter.fields.retain(|(name, _)| name != "content-type");
    let signature = field_of("x-amz-signature");
    let other = if signature.starts_with('0') { "1" } else { "0" };
    for (why, form) in [
        ("another type", with(&form, "content-type", "text/html")),
        ("another key", with(&form, "key", "another")),
        (
            "another answer",
            with(&form, "success_action_status", "200"),
        ),
        (
            "a wider policy",
            with(&form, "policy", &STANDARD.encode(wider)),
        ),
        (
            "another signature",
            with(
                &form,
                "x-amz-signature",
                &format!("{other}{}", &signature[1..]),
            ),
        ),
        ("a field that wasn't granted", extra),
        ("a field left out", shorter),
    ] {
        let answer = post(&form, b"four").await;
        assert!(answer.0.is_client_error(), "{why}: {answer:?}");
    }
    let listed = bucket.client.list_objects(&bucket.name, "", None, 10);
    assert_eq!(listed.await.unwrap().objects, []);
    assert_eq!(post(&form, b"four").await.0, 201);
}

async fn expired_post_form_is_rejected(bucket: Bucket) {
    let mut settings = support::settings(&bucket.access);
    settings.clock = || SystemTime::now() - 2 * HOUR;
    let early = Client::new(settings).unwrap();
    let object_ref = bucket.object_ref("file");
    let form = form(&early, &object_ref, None).await;
    let (status, _, body) = post(&form, b"four").await;
    assert!(status.is_client_error(), "{status} {body:?}");
    let form = self::form(&bucket.client, &object_ref, None).await;
    assert_eq!(post(&form, b"four").await.0, 201);
}

/// Services would replace the placeholder, so the key would not be the signed one.
#[tokio::test]
async fn key_with_filename_placeholder_is_rejected() {
    let bucket = Bucket::moto();
    let object_ref = bucket.object_ref("a/${filename}");
    let refused = bucket
        .client
        .sign_post_policy(&object_ref, &[], None, HOUR)
        .await;
    assert_eq!(*refused.unwrap_err().kind(), ErrorKind::Other);
}

#[tokio::test]
async fn temporary_credentials_include_token() {
    let bucket = Bucket::moto();
    let client = super::with_token(&bucket.access, "a token/+=");
    let form = form(&client, &bucket.object_ref("file"), Some(0..=9)).await;
    let at = |wanted: &str| {
        let names = form.fields.iter().map(|(name, _)| name.as_str());
        names.into_iter().position(|name| name == wanted).unwrap()
    };
    let token = &form.fields[at("x-amz-security-token")];
    assert_eq!(token.1, "a token/+=");
    let policy = STANDARD.decode(&form.fields[at("policy")].1).unwrap();
    let policy = String::from_utf8(policy).unwrap();
    assert!(policy.contains(r#"{"x-amz-security-token":"a token/+="}"#));
    let (status, _, body) = post(&form, b"four").await;
    assert_eq!(status, 201, "{body:?}");
    let read = bucket
        .client
        .get_object(&bucket.object_ref("file"), None)
        .await;
    assert_eq!(read.unwrap().bytes(9).await.unwrap(), Bytes::from("four"));
}
