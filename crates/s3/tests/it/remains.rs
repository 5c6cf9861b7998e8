//! Removals that fail half way, and uploads that the service itself aborts.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use landfall::{
    Composer, Config, Handler, Lifetimes, Resolution,
    event::EventKind,
    store::{Store as _, StoreError},
    upload::UploadId,
};
use landfall_objects::Cloud as _;
use landfall_s3::{
    S3Options, S3Store, UploadIds,
    client::{Client, Condition, ObjectHeaders, ObjectRef, Payload},
};
use landfall_test_services::{
    Access, Garage, Proxy,
    proxy::{Fault, Operation, Rule},
};

use crate::support::{append, client, client_without_retries, create, finish, options, pattern};

fn handler(client: &Client, options: &S3Options, unfinished: Option<Duration>) -> Handler {
    let store = S3Store::new(client.clone(), options.clone()).unwrap();
    let mut config = Config::new(Composer::join(store));
    config.lifetimes = Lifetimes {
        unfinished,
        finished: None,
    };
    Handler::new(config).unwrap()
}

/// The status and the body of the response.
async fn send(handler: &Handler, method: Method, id: &UploadId) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(format!("/files/{id}"))
        .header("Tus-Resumable", "1.0.0")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = handler.handle(request).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn keys(client: &Client, bucket: &str) -> Vec<String> {
    let listed = client.list_objects(bucket, "", None, 1000).await.unwrap();
    listed.objects.into_iter().map(|one| one.key).collect()
}

/// An upload with a part and an incomplete part, in its store.
async fn unfinished(client: &Client, options: &S3Options) -> UploadId {
    upload(client, options, 20 << 20).await
}

/// Of these bytes, six MiB at most are there.
async fn upload(client: &Client, options: &S3Options, length: usize) -> UploadId {
    let store = S3Store::new(client.clone(), options.clone()).unwrap();
    let upload = create(&store, length as u64).await;
    append(&store, &upload.id, 1, &pattern(1, length.min(6 << 20))).await;
    if length <= 6 << 20 {
        finish(&store, &upload, 1).await;
    }
    upload.id.clone()
}

fn services() -> [(Access, S3Options); 2] {
    let garage = Garage::shared();
    [UploadIds::Tusd, UploadIds::Plain].map(|ids| {
        let mut options = options(&garage.bucket("remains"));
        options.ids = ids;
        (garage.access(), options)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_can_be_repeated_after_any_call_of_it_fails() {
    for ((access, options), length) in services()
        .into_iter()
        .flat_map(|service| [20 << 20, 6 << 20, 10].map(|length| (service.clone(), length)))
    {
        for failing in 1.. {
            let proxy = Proxy::start(&access);
            let through = client_without_retries(&access.through_proxy(&proxy));
            let direct = client(&access);
            let id = upload(&direct, &options, length).await;
            let server = handler(&through, &options, None);
            let deletes = |call: &landfall_test_services::proxy::Call| {
                matches!(
                    call.operation,
                    Operation::DeleteObject | Operation::AbortMultipartUpload
                )
            };
            let rule = Rule::any().matching(deletes).skip(failing - 1).once();
            proxy.inject(rule, Fault::INTERNAL_ERROR);
            let (first, _) = send(&server, Method::DELETE, &id).await;
            if first == StatusCode::NO_CONTENT {
                // The multipart upload unless there was none, the file, `.part`, `.info`.
                assert!((4..=5).contains(&failing), "{}", proxy.transcript());
                break;
            }
            assert_eq!(first, StatusCode::SERVICE_UNAVAILABLE, "{length} {failing}");
            // Another process may receive the next request.
            let server = match failing % 2 {
                0 => server,
                _ => handler(&direct, &options, None),
            };
            let (second, _) = send(&server, Method::DELETE, &id).await;
            assert_eq!(second, StatusCode::NO_CONTENT, "{length} {failing}");
            assert_eq!(keys(&direct, &options.bucket).await, Vec::<String>::new());
            let (third, _) = send(&server, Method::DELETE, &id).await;
            assert_eq!(third, StatusCode::NOT_FOUND, "{failing}");
        }
    }
}

/// The client may choose a key that is taken, if the template lets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_of_an_unfinished_upload_spares_the_file_of_others_at_its_key() {
    for (access, mut options) in services() {
        options.key_template = Some("report.pdf".into());
        let client = client(&access);
        let server = handler(&client, &options, None);
        let key = format!("{}/report.pdf", options.object_prefix);
        let payload = Payload::new(vec![Bytes::from_static(b"of another program")], None);
        let (object, headers) = (
            ObjectRef::new(&options.bucket, &key),
            ObjectHeaders::default(),
        );
        let foreign = client.put_object(&object, payload, &headers, Condition::None);
        foreign.await.unwrap();
        // The length of the second one is that of the file, and the third one has none.
        for length in [Some(20 << 20), Some(18), None] {
            let store = S3Store::new(client.clone(), options.clone()).unwrap();
            let upload = create(&store, length).await;
            append(&store, &upload.id, 1, &pattern(1, 10)).await;
            let (status, _) = send(&server, Method::DELETE, &upload.id).await;
            assert_eq!(status, StatusCode::NO_CONTENT);
            let left = keys(&client, &options.bucket).await;
            assert_eq!(left, std::slice::from_ref(&key), "{length:?}");
        }

        let finished = upload(&client, &options, 10).await;
        let before = keys(&client, &options.bucket).await;
        assert!(before.contains(&key) && before.len() == 2, "{before:?}");
        let id = unfinished(&client, &options).await;
        let (status, _) = send(&server, Method::DELETE, &id).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(keys(&client, &options.bucket).await, before);
        let (status, _) = send(&server, Method::DELETE, &finished).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(keys(&client, &options.bucket).await, Vec::<String>::new());
    }
}

async fn abort(client: &Client, options: &S3Options) {
    let prefix = &options.object_prefix;
    let listed = client.list_multiparts(&options.bucket, prefix, None, 10);
    let [upload] = &*listed.await.unwrap().uploads else {
        panic!("there should be one multipart upload");
    };
    let object = ObjectRef::new(&options.bucket, &upload.key);
    let aborted = client.abort_multipart(&object, &upload.upload_id);
    aborted.await.unwrap();
}

/// As a lifecycle rule of the bucket does.
#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_is_gone_and_is_removed_whole() {
    for (access, options) in services() {
        let client = client(&access);
        let id = unfinished(&client, &options).await;
        abort(&client, &options).await;
        let server = handler(&client, &options, None);
        for method in [Method::HEAD, Method::GET] {
            let (status, body) = send(&server, method.clone(), &id).await;
            assert_eq!(status, StatusCode::GONE, "{method}");
            if method == Method::GET {
                assert!(
                    body.contains("the storage no longer has its bytes"),
                    "{body}"
                );
            }
        }
        let (status, _) = send(&server, Method::DELETE, &id).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(keys(&client, &options.bucket).await, Vec::<String>::new());
    }
}

/// A process was killed between two calls of a removal. The next one emits the event once nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_removal_is_ended_when_it_is_resolved() {
    for ((access, options), kind) in services()
        .into_iter()
        .zip([EventKind::Terminated, EventKind::Expired])
    {
        let client = client(&access);
        let id = unfinished(&client, &options).await;
        let store = S3Store::new(client.clone(), options.clone()).unwrap();
        let created = store.load(&id).await.unwrap().upload.created;
        let left = async || keys(&client, &options.bucket).await.len();
        let server = handler(&client, &options, None);
        let outcome = server.resolve(kind, &id, created).await.unwrap();
        assert!(matches!(outcome, Resolution::DidNotHappen), "{outcome:?}");
        abort(&client, &options).await;

        let server = handler(&client, &options, None);
        let resolve = async |created| server.resolve(kind, &id, created).await.unwrap();
        // The removal of an earlier upload with this id.
        let outcome = resolve(Some(SystemTime::UNIX_EPOCH)).await;
        assert!(matches!(outcome, Resolution::Happened(None)), "{outcome:?}");
        assert_eq!(left().await, 2);
        let outcome = resolve(created).await;
        assert!(matches!(outcome, Resolution::Happened(None)), "{outcome:?}");
        assert_eq!(left().await, 0);
        let (status, _) = send(&server, Method::HEAD, &id).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_expires_whole_or_not_at_all() {
    for (access, options) in services() {
        let client = client(&access);
        unfinished(&client, &options).await;
        abort(&client, &options).await;
        assert_eq!(keys(&client, &options.bucket).await.len(), 2);
        for (lifetime, left) in [
            (None, 2),
            (Some(Duration::from_secs(3600)), 2),
            (Some(Duration::ZERO), 0),
        ] {
            let server = handler(&client, &options, lifetime);
            // A second, to which the service rounds.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let sweeper = server.sweeper().orphan_age(Duration::ZERO);
            let swept = sweeper.run(|_| {}).await.unwrap();
            assert_eq!(swept.failed, 0);
            let keys = keys(&client, &options.bucket).await;
            assert_eq!(keys.len(), left, "{lifetime:?}: {keys:?}");
        }
    }
}

/// The object at its key is that of another upload, of the same length: the template has no `{id}`.
#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_is_not_completed_by_another_one() {
    const LEN: usize = 6 << 20;
    for (access, mut options) in services() {
        options.key_template = Some("report.pdf".into());
        let client = client(&access);
        let store = S3Store::new(client.clone(), options.clone()).unwrap();
        let aborted = create(&store, LEN as u64).await;
        append(&store, &aborted.id, 1, &pattern(2, LEN - 10)).await;
        abort(&client, &options).await;
        upload(&client, &options, LEN).await;
        let fresh = S3Store::new(client.clone(), options.clone()).unwrap();
        let found = fresh.load(&aborted.id).await;
        assert!(matches!(found, Err(StoreError::Gone(_))), "{found:?}");
    }
}
