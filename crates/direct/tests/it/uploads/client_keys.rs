//! Keys chosen by clients: Uppy's `signRequest`, and temporary credentials.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use landfall::event::EventKind;
use landfall_direct::{
    Direct, DirectError, OpenRequest, Requester, SentHeaders, SignedOperation, Status, StsSettings,
    TransferMode,
};
use landfall_objects::Cloud as _;
use landfall_s3::client::{Client, Condition, CredentialSource, ObjectHeaders, ObjectRef, Payload};
use landfall_state::queue::Principal;

use super::harness::{
    Harness, LONG, MIB, Service, alice, is_conflict, is_gone, on_each, parts, pattern, requester,
    send, settings,
};
use crate::{repository::harness::TestDatabase as Database, sweep::harness::World};

on_each!(
    a_put_at_a_client_key,
    clients_can_create_and_complete_multipart_uploads,
    the_completion_of_too_large_uploads_is_not_signed,
    objects_of_other_types_are_removed,
    a_slow_completion_is_waited_for,
);

fn asked(mode: TransferMode, key: &str) -> OpenRequest {
    let mut asked = OpenRequest::new(mode, key);
    asked.key = Some(key.into());
    asked
}

async fn a_put_at_a_client_key(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.of_alice(asked(TransferMode::Put, "1-a.txt")).await;
    let prefix = harness.direct.client_key_prefix("alice");
    assert_eq!(record.object.key, format!("{prefix}1-a.txt"));
    // The client can use the key with and without the prefix, and repeat the request.
    for key in ["1-a.txt", &*record.object.key] {
        let again = harness.open(&alice(), asked(TransferMode::Put, key)).await;
        if key == "1-a.txt" {
            assert_eq!(again.unwrap().id(), record.id());
        }
        let found = harness.find(key, None).await;
        assert_eq!(found.id(), record.id());
        let found = harness.direct.find(&requester("bob"), key, None).await;
        assert!(matches!(found, Err(DirectError::NotFound)));
    }
    let other = harness
        .open(&alice(), asked(TransferMode::SignedMultipart, "1-a.txt"))
        .await;
    assert!(is_conflict(&other.unwrap_err()));
    let put = harness
        .direct
        .presign_upload(&record, LONG, SentHeaders::Unknown)
        .await
        .unwrap();
    assert!(put.headers.is_empty(), "{:?}", put.headers);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x-own"));
    let sent = send(Method::PUT, &put.url, &headers, "hello").await;
    assert_eq!(sent.0, 200, "{sent:?}");
    assert_eq!(harness.check(&record).await.unwrap().size, 5);
    // After its completion, a new upload can use the key; it has no object yet.
    let next = harness.of_alice(asked(TransferMode::Put, "1-a.txt")).await;
    assert_ne!(next.id(), record.id());
    assert!(matches!(
        harness.check(&next).await,
        Err(DirectError::NotUploaded)
    ));
    for bad in ["../x", "a//b", "", "a/./b"] {
        let error = harness
            .open(&alice(), asked(TransferMode::Put, bad))
            .await
            .unwrap_err();
        assert!(matches!(error, DirectError::Invalid { .. }), "{error}");
    }
}

/// Creates the multipart upload by a signed request, like Uppy; returns its id.
async fn begin(direct: &Direct, record: &landfall_direct::Record) -> String {
    let url = direct
        .presign_operation(record, SignedOperation::Create)
        .await
        .unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x-own"));
    let (status, _, body) = send(Method::POST, &url, &headers, "").await;
    assert_eq!(status, 200, "{body:?}");
    let body = String::from_utf8(body.to_vec()).unwrap();
    let id = body.split("<UploadId>").nth(1).unwrap();
    id.split("</UploadId>").next().unwrap().to_owned()
}

async fn clients_can_create_and_complete_multipart_uploads(service: Service) {
    let harness = Harness::on(service).await;
    let bytes = pattern(3, 6 * MIB);
    let record = harness
        .of_alice(asked(TransferMode::SignedMultipart, "1-b.bin"))
        .await;
    assert_eq!((record.status, &record.multipart), (Status::Open, &None));
    let id = begin(&harness.direct, &record).await;
    for (requester, id) in [(requester("bob"), &*id), (alice(), "made-up")] {
        let found = harness.direct.find(&requester, "1-b.bin", Some(id)).await;
        assert!(matches!(found, Err(DirectError::NotFound)), "{found:?}");
    }
    let record = harness.find("1-b.bin", Some(&id)).await;
    assert_eq!(record.multipart.as_deref(), Some(&*id));
    assert_eq!(harness.now(&record).await.multipart.as_deref(), Some(&*id));
    let mut etags = Vec::new();
    for (number, part) in [(1, bytes.slice(..5 * MIB)), (2, bytes.slice(5 * MIB..))] {
        let url = harness
            .presign(&record, SignedOperation::Part(number))
            .await;
        let (status, headers, body) = send(Method::PUT, &url, &HeaderMap::new(), part).await;
        assert_eq!(status, 200, "{body:?}");
        etags.push(headers["etag"].to_str().unwrap().to_owned());
    }
    let url = harness.presign(&record, SignedOperation::List).await;
    let (status, _, body) = send(Method::GET, &url, &HeaderMap::new(), "").await;
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&body).contains("<PartNumber>2</PartNumber>"));
    assert!(matches!(
        harness.check(&record).await,
        Err(DirectError::NotUploaded)
    ));
    let url = harness.presign(&record, SignedOperation::Complete).await;
    let parts = etags.iter().zip(1..).map(|(etag, number)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    });
    let xml = format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{}</CompleteMultipartUpload>",
        parts.collect::<String>()
    );
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    let (status, _, body) = send(Method::POST, &url, &headers, xml).await;
    assert_eq!(status, 200, "{body:?}");
    let done = harness.check(&record).await.unwrap();
    assert_eq!(done.size, 6 * MIB as u64);
    assert_eq!(
        harness.emitted(&record),
        [EventKind::Created, EventKind::Completed]
    );
}

/// A service may end the multipart upload a moment before it shows the object.
async fn a_slow_completion_is_waited_for(service: Service) {
    let harness = Harness::on(service).await;
    for is_completed in [true, false] {
        let key = format!("{is_completed}.bin");
        let asked = asked(TransferMode::SignedMultipart, &key);
        let record = harness.of_alice(asked).await;
        let id = begin(&harness.direct, &record).await;
        let record = harness.find(&key, Some(&id)).await;
        harness.send_part(&record, 1, "hello".into()).await;
        if is_completed {
            harness.presign(&record, SignedOperation::Complete).await;
        }
        let ended = harness.client.abort_multipart(&record.object, &id);
        ended.await.unwrap();
        let early = harness.check(&record).await.unwrap_err();
        if !is_completed {
            // The client has aborted it.
            assert!(is_gone(&early), "{early}");
            continue;
        }
        assert!(matches!(early, DirectError::NotUploaded), "{early}");
        assert_eq!(harness.now(&record).await.status, Status::Open);
        let payload = Payload::from(bytes::Bytes::from_static(b"hello"));
        let (plain, always) = (ObjectHeaders::default(), Condition::None);
        let shown = harness
            .client
            .put_object(&record.object, payload, &plain, always);
        shown.await.unwrap();
        let done = harness.check(&record).await.unwrap();
        assert_eq!(done.size, 5);
        assert!(!done.record.upload.storage.contains_key("Completes"));
    }
}

async fn the_completion_of_too_large_uploads_is_not_signed(service: Service) {
    let harness = Harness::on(service).await;
    let mut caller = Principal::new("alice");
    caller.limits.max_size = Some(4);
    let alice = Requester::Principal(caller);
    let record = harness
        .open(&alice, asked(TransferMode::SignedMultipart, "1-c.bin"))
        .await
        .unwrap();
    let id = begin(&harness.direct, &record).await;
    let record = harness
        .direct
        .find(&alice, "1-c.bin", Some(&id))
        .await
        .unwrap();
    harness.send_part(&record, 1, "hello".into()).await;
    let error = harness
        .direct
        .presign_operation(&record, SignedOperation::Complete)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            DirectError::TooLarge {
                stored: 5,
                limit: 4
            }
        ),
        "{error}"
    );
    harness.assert_nothing_of(&record).await;
    // A multipart upload that was created but never recorded is removed as well.
    let record = harness
        .open(&alice, asked(TransferMode::SignedMultipart, "1-d.bin"))
        .await
        .unwrap();
    begin(&harness.direct, &record).await;
    harness.cancel(&record).await.unwrap();
    harness.assert_nothing_of(&record).await;
}

async fn objects_of_other_types_are_removed(service: Service) {
    let harness = Harness::on(service).await;
    let mut caller = Principal::new("alice");
    caller.limits.allowed_types = vec!["image/*".into(), "text/plain".into()];
    let alice = Requester::Principal(caller);
    for (key, sent, is_welcome) in [
        ("1-a.png", "image/webp; a=b", true),
        ("2-a.png", "text/html", false),
    ] {
        let record = harness
            .open(&alice, asked(TransferMode::Put, key))
            .await
            .unwrap();
        let put = harness
            .direct
            .presign_upload(&record, LONG, SentHeaders::Unknown)
            .await
            .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sent));
        let (status, _, body) = send(Method::PUT, &put.url, &headers, "hello").await;
        assert_eq!(status, 200, "{body:?}");
        let done = harness.check(&record).await;
        assert_eq!(done.is_ok(), is_welcome, "{done:?}");
        if let Err(error) = done {
            assert!(
                is_gone(&error) && error.to_string().contains("text/html"),
                "{error}"
            );
            harness.assert_nothing_of(&record).await;
        }
    }
    let error = harness
        .open(&alice, asked(TransferMode::Put, "a.html"))
        .await
        .unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
}

async fn same_prefix_on_all_nodes(object: Database) {
    let world = World::new(Service::Moto, object);
    let (one, other) = tokio::join!(world.node(), world.node());
    let prefix = one.direct.client_key_prefix("alice");
    assert_eq!(other.direct.client_key_prefix("alice"), prefix);
    let restarted = world.node().await;
    assert_eq!(restarted.direct.client_key_prefix("alice"), prefix);
    // At least 128 bits, so that no subject with the same prefix can be found.
    let digits = prefix.strip_prefix("own/").unwrap().trim_end_matches('/');
    assert!(digits.len() >= 32, "{prefix}");
    assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    // It cannot be computed without the secret of the installation.
    let elsewhere = World::new(Service::Moto, Database::sqlite()).node().await;
    assert_ne!(elsewhere.direct.client_key_prefix("alice"), prefix);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_are_equal_on_all_nodes_and_secret() {
    same_prefix_on_all_nodes(Database::sqlite()).await;
    #[cfg(feature = "postgres")]
    same_prefix_on_all_nodes(Database::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_credentials_of_the_user() {
    temporary_credentials(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_credentials_of_a_role() {
    temporary_credentials(Some("arn:aws:iam::123456789012:role/uploads")).await;
}

async fn temporary_credentials(role: Option<&str>) {
    let endpoint = Service::Moto.access().endpoint;
    let harness = Harness::with(Service::Moto, |settings| {
        settings.sts = Some(StsSettings {
            endpoint: Some(endpoint),
            role: role.map(Into::into),
            lifetime: Duration::from_secs(3600),
        });
    })
    .await;
    let own = harness
        .direct
        .credentials(&alice(), &parts())
        .await
        .unwrap();
    assert_eq!(own.prefix, harness.direct.client_key_prefix("alice"));
    assert_eq!(
        (&*own.bucket, &*own.region),
        (&*harness.bucket, "us-east-1")
    );
    let mut settings = settings(&harness.access);
    settings.credentials = CredentialSource::Static(own.credentials);
    let client = Client::new(settings).unwrap();
    let object = ObjectRef::new(own.bucket, format!("{}x", own.prefix));
    let payload = Payload::from(bytes::Bytes::from_static(b"hello"));
    let (plain, always) = (ObjectHeaders::default(), Condition::None);
    let written = client.put_object(&object, payload, &plain, always);
    written.await.unwrap();

    let mut caller = Principal::new("alice");
    caller.limits.max_size = Some(4);
    let error = harness
        .direct
        .credentials(&Requester::Principal(caller), &parts())
        .await
        .unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
    let (grant, _) = harness.grant(None, None).await;
    let error = harness
        .direct
        .credentials(&grant, &parts())
        .await
        .unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
    let off = Harness::on(Service::Moto).await;
    let error = off
        .direct
        .credentials(&alice(), &parts())
        .await
        .unwrap_err();
    assert!(matches!(error, DirectError::NotFound), "{error}");
}
