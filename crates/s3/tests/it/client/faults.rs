//! Every call succeeds despite every kind of fault.

use std::time::Duration;

use landfall_objects::{Cloud as _, PartCondition};
use landfall_s3::client::{Client, Condition, ObjectHeaders, Payload};
use landfall_test_services::{
    Proxy,
    proxy::{Fault, Operation, Rule},
};

use super::{Bucket, on_each};
use crate::support::{MIB, assert_same, client, pattern, pieces};

on_each!(each_call_survives_each_fault, permanent_fault_is_reported);

const FAULTS: [Fault; 8] = [
    Fault::INTERNAL_ERROR,
    Fault::SLOW_DOWN,
    Fault::CutBefore,
    Fault::CutInside,
    Fault::CutAfter,
    Fault::CutAnswer,
    Fault::INTERNAL_ERROR_AFTER,
    Fault::Delay(Duration::from_millis(20)),
];

const OPERATIONS: [Operation; 10] = [
    Operation::CreateMultipartUpload,
    Operation::UploadPart,
    Operation::UploadPartCopy,
    Operation::ListParts,
    Operation::CompleteMultipartUpload,
    Operation::AbortMultipartUpload,
    Operation::PutObject,
    Operation::GetObject,
    Operation::HeadObject,
    Operation::DeleteObject,
];

/// Runs all kinds of calls.
async fn work(bucket: &Bucket, client: &Client, turn: usize) {
    let bytes = pattern(turn as u64, 5 * MIB + 100);
    let source = bucket.object_ref(&format!("{turn}.source"));
    let object = ObjectHeaders::default();
    let payload = Payload::new(pieces(&bytes.slice(..5 * MIB)), None);
    client
        .put_object(&source, payload, &object, Condition::None)
        .await
        .unwrap();
    let object_ref = bucket.object_ref(&format!("{turn}.target"));
    let id = client.create_multipart(&object_ref, &object).await.unwrap();
    let first = client
        .copy_part(&object_ref, &id, 1, &source, 0..5 * MIB as u64)
        .await
        .unwrap();
    let payload = Payload::new(pieces(&bytes.slice(5 * MIB..)), None);
    let second = client
        .upload_part(&object_ref, &id, 2, payload, PartCondition::default())
        .await
        .unwrap();
    let parts = client.list_parts(&object_ref, &id).await.unwrap();
    assert_eq!(parts.len(), 2);
    client
        .complete_multipart(
            &object_ref,
            &id,
            &[(1, first), (2, second)],
            &ObjectHeaders::default(),
        )
        .await
        .unwrap();
    client.delete_object(&source).await.unwrap();
    assert_eq!(
        client.head_object(&object_ref).await.unwrap().size,
        bytes.len() as u64
    );
    let object = client.get_object(&object_ref, None).await.unwrap();
    assert_same(&object.bytes(1 << 30).await.unwrap(), &bytes);
    let other = bucket.object_ref("other");
    let id = client
        .create_multipart(&other, &ObjectHeaders::default())
        .await
        .unwrap();
    client.abort_multipart(&other, &id).await.unwrap();
}

async fn each_call_survives_each_fault(bucket: Bucket) {
    let proxy = Proxy::start(&bucket.access);
    let client = client(&bucket.access.through_proxy(&proxy));
    let mut turn = 0;
    for operation in OPERATIONS {
        for fault in FAULTS {
            turn += 1;
            proxy.inject(Rule::on(operation).once(), fault);
            work(&bucket, &client, turn).await;
            let met = proxy.calls().iter().any(|call| call.fault == fault);
            assert!(met, "{operation:?} {fault:?}: {}", proxy.transcript());
            proxy.revive();
            proxy.forget();
        }
    }
    assert!(client.stats().requests() > client.stats().calls());
    // No retry may change the result.
    proxy.inject(
        Rule::on(Operation::CompleteMultipartUpload).once(),
        Fault::ERROR_IN_200,
    );
    work(&bucket, &client, turn + 1).await;
    assert_eq!(
        proxy.count(Operation::CompleteMultipartUpload),
        2,
        "{}",
        proxy.transcript()
    );
}

async fn permanent_fault_is_reported(bucket: Bucket) {
    let proxy = Proxy::start(&bucket.access);
    let client = client(&bucket.access.through_proxy(&proxy));
    proxy.inject(Rule::any(), Fault::SLOW_DOWN);
    let object_ref = bucket.object_ref("busy");
    let error = client.head_object(&object_ref).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            landfall_s3::client::ErrorKind::Unavailable { .. }
        ),
        "{error}"
    );
    assert_eq!(proxy.calls().len(), 5, "{}", proxy.transcript());
}
