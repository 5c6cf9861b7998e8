//! Forms with a signed policy, sent by a program that knows nothing of S3.

use std::{ops::RangeInclusive, time::Duration};

use landfall_s3::client::{Client, Place, PostForm};

use super::{Bucket, on_both, plain::post};

on_both!(a_form_writes_its_object);

const HOUR: Duration = Duration::from_secs(3_600);

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

async fn form(client: &Client, place: &Place, size: Option<RangeInclusive<u64>>) -> PostForm {
    let fields = [
        field("success_action_status", "201"),
        field("Content-Type", "text/x-test"),
        field("x-amz-meta-name", "a b&c"),
    ];
    client.sign_form(place, &fields, size, HOUR).await.unwrap()
}

async fn a_form_writes_its_object(bucket: Bucket) {
    let place = bucket.place("folder/a b&=$+%.txt");
    let form = form(&bucket.client, &place, Some(5..=5)).await;
    assert_eq!(
        form.url,
        format!("{}/{}/", bucket.access.endpoint, bucket.name)
    );
    let (status, headers, body) = post(&form, b"hello").await;
    assert_eq!(status, 201, "{headers:?} {body:?}");
    let read = bucket.client.get_object(&place, None).await.unwrap();
    assert_eq!(read.head.metadata["name"], "a b&c");
    assert_eq!(read.bytes(100).await.unwrap(), "hello");
}
