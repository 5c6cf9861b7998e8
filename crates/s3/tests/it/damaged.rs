//! Unreadable descriptions: detection, removal, and protection of objects of other programs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use landfall::{
    Composer, Config, Handler, Lifetimes, SweepReason,
    lease::Fence,
    store::{Store, StoreError},
    upload::{Completion, Upload, UploadId},
};
use landfall_objects::Cloud as _;
use landfall_s3::{
    S3Options, S3Store, UploadIds,
    client::{Client, Condition, ObjectHeaders, ObjectRef, Payload},
};
use landfall_test_services::{Access, Garage, Moto};
use landfall_testkit::store::damaged::{self, Subject};

use crate::support::{append, client, create, finish, options, pattern};

async fn put_object(client: &Client, object_ref: &ObjectRef, text: &[u8]) {
    let payload = Payload::new(vec![text.to_vec().into()], None);
    let headers = ObjectHeaders::default();
    let put = client.put_object(object_ref, payload, &headers, Condition::None);
    put.await.unwrap();
}

fn object_ref(options: &S3Options, name: &str) -> ObjectRef {
    ObjectRef::new(&options.bucket, format!("{}/{name}", options.object_prefix))
}

async fn conforms(access: &Access, bucket: &str, conditional: bool) {
    let client = client(access);
    let next = AtomicU32::new(0);
    for text in ["", "nonsense", "{\"ID\":\""] {
        let make = async || {
            let mut options = options(bucket);
            options.object_prefix = format!("d{}", next.fetch_add(1, Ordering::Relaxed));
            options.conditional_writes = conditional;
            // Other processes may change descriptions, so none is cached.
            options.shared = true;
            let store = S3Store::new(client.clone(), options.clone()).unwrap();
            let client = client.clone();
            let damage = move |upload: Arc<Upload>| {
                let (client, info) = (
                    client.clone(),
                    object_ref(&options, &format!("{}.info", upload.id)),
                );
                Box::pin(async move { put_object(&client, &info, text.as_bytes()).await }) as _
            };
            Subject {
                store: Arc::new(store),
                damage: Box::new(damage),
            }
        };
        damaged::conformance(make).await.assert_complete();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_garage() {
    let garage = Garage::shared();
    conforms(&garage.access(), &garage.bucket("damaged"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_moto() {
    let moto = Moto::shared();
    conforms(&moto.access(), &moto.bucket("damaged"), true).await;
}

/// A store as in a newly started process.
fn open(client: &Client, options: &S3Options) -> S3Store {
    S3Store::new(client.clone(), options.clone()).unwrap()
}

fn handler(store: &S3Store) -> Handler {
    let mut config = Config::new(Composer::join(store.clone()));
    config.lifetimes = Lifetimes {
        unfinished: Some(Duration::ZERO),
        finished: None,
    };
    Handler::new(config).unwrap()
}

/// Sweeps, and returns what was removed or reported.
async fn sweep(store: &S3Store) -> Vec<(Option<UploadId>, SweepReason)> {
    let mut entries = Vec::new();
    let handler = handler(store);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let sweeper = handler.sweeper().orphan_age(Duration::ZERO);
    let swept = sweeper.run(|entry| entries.push((entry.id.clone(), entry.why)));
    assert_eq!(swept.await.unwrap().failed, 0);
    entries
}

async fn keys(client: &Client, options: &S3Options) -> Vec<String> {
    let prefix = format!("{}/", options.object_prefix);
    let listed = client.list_objects(&options.bucket, &prefix, None, 1000);
    let listed = listed.await.unwrap().objects;
    listed.into_iter().map(|object| object.key).collect()
}

async fn multiparts(client: &Client, options: &S3Options) -> usize {
    let listed = client.list_multiparts(&options.bucket, &options.object_prefix, None, 1000);
    listed.await.unwrap().uploads.len()
}

#[tokio::test]
async fn damaged_upload_with_tusd_id_is_removed_with_its_parts_on_request_only() {
    let garage = Garage::shared();
    let client = client(&garage.access());
    let mut options = options(&garage.bucket("tusd-damaged"));
    options.ids = UploadIds::Tusd;
    for _ in 0..2 {
        let store = open(&client, &options);
        let upload = create(&store, 20 << 20).await;
        append(&store, &upload.id, 1, &pattern(1, 6 << 20)).await;
        let object = upload.id.as_str().split('+').next().unwrap();
        put_object(
            &client,
            &object_ref(&options, &format!("{object}.info")),
            b"{\"ID\":\"torn",
        )
        .await;
        assert_eq!(multiparts(&client, &options).await, 1);

        let restarted = open(&client, &options);
        let loaded = restarted.load(&upload.id).await;
        assert!(
            matches!(loaded, Err(StoreError::Damaged { .. })),
            "{loaded:?}"
        );
        let [(id, SweepReason::Reported(_))] = &sweep(&restarted).await[..] else {
            panic!("it must be reported");
        };
        assert_eq!(id.as_ref().unwrap().as_str(), object);
        assert_eq!(multiparts(&client, &options).await, 1);
        let terminator = restarted.capabilities().terminator.unwrap();
        let known = Upload::new(upload.id.clone(), None);
        assert!(terminator.terminate(&known, Fence(5)).await.unwrap());
        assert_eq!(keys(&client, &options).await, Vec::<String>::new());
        assert_eq!(multiparts(&client, &options).await, 0);
        let loaded = restarted.load(&upload.id).await;
        assert!(matches!(loaded, Err(StoreError::NotFound(_))), "{loaded:?}");
    }
}

#[tokio::test]
async fn a_finished_object_outlives_its_damaged_description() {
    let garage = Garage::shared();
    let client = client(&garage.access());
    let options = options(&garage.bucket("finished-damaged"));
    let store = open(&client, &options);
    let upload = create(&store, 3000).await;
    append(&store, &upload.id, 1, &pattern(2, 3000)).await;
    finish(&store, &upload, 1).await;
    let object = upload.id.as_str().split('+').next().unwrap();
    put_object(
        &client,
        &object_ref(&options, &format!("{object}.info")),
        b"nonsense",
    )
    .await;

    let restarted = open(&client, &options);
    let id = UploadId::new(object).unwrap();
    let [(reported, SweepReason::Reported(_))] = &sweep(&restarted).await[..] else {
        panic!("it must be reported");
    };
    assert_eq!(reported.as_ref(), Some(&id));
    assert_eq!(
        keys(&client, &options).await.len(),
        2,
        "nothing was removed"
    );
    // Its client may still remove it.
    let known = Upload::new(upload.id.clone(), None);
    let terminator = restarted.capabilities().terminator.unwrap();
    assert!(terminator.terminate(&known, Fence(5)).await.unwrap());
    assert_eq!(keys(&client, &options).await, Vec::<String>::new());
}

#[tokio::test]
async fn info_object_of_another_program_is_reported_and_kept() {
    let garage = Garage::shared();
    let client = client(&garage.access());
    let options = options(&garage.bucket("other-info"));
    for (name, text) in [
        ("notes.info", "my own notes"),
        ("notes", "hers"),
        ("empty.info", ""),
    ] {
        put_object(&client, &object_ref(&options, name), text.as_bytes()).await;
    }
    let store = open(&client, &options);
    let why = SweepReason::Reported("a description that cannot be read");
    assert_eq!(sweep(&store).await, [(None, why), (None, why)]);
    assert_eq!(keys(&client, &options).await.len(), 3);
    // A removal by id deletes the description, and not an object that may not be its own.
    let named = Upload::new(UploadId::new("notes").unwrap(), None);
    let terminator = store.capabilities().terminator.unwrap();
    assert!(terminator.terminate(&named, Fence(5)).await.unwrap());
    assert_eq!(keys(&client, &options).await, ["up/empty.info", "up/notes"]);
}

/// An application may do with a finished object what it likes: nothing is removed, and nothing unfinished takes
/// an object along that is not its own.
#[tokio::test]
async fn an_object_that_an_application_replaced_is_kept() {
    let garage = Garage::shared();
    let client = client(&garage.access());
    let options = options(&garage.bucket("replaced"));
    let store = open(&client, &options);
    let mut objects = Vec::new();
    for length in [3000, 6 << 20] {
        for is_recorded in [false, true] {
            let upload = create(&store, length as u64).await;
            append(&store, &upload.id, 1, &pattern(3, length)).await;
            finish(&store, &upload, 1).await;
            if is_recorded {
                let mut done = (*store.load(&upload.id).await.unwrap().upload).clone();
                done.completion = Completion::Done(None);
                store.save(&done, Fence(1)).await.unwrap();
            }
            let object = upload.id.as_str().split('+').next().unwrap().to_owned();
            put_object(&client, &object_ref(&options, &object), b"optimized").await;
            objects.push((upload.id.clone(), object, is_recorded));
        }
    }
    let unfinished = create(&store, 3000).await;
    append(&store, &unfinished.id, 1, &pattern(3, 1000)).await;
    let object = unfinished.id.as_str().split('+').next().unwrap().to_owned();
    put_object(
        &client,
        &object_ref(&options, &object),
        b"of another program",
    )
    .await;

    let before = keys(&client, &options).await;
    let restarted = open(&client, &options);
    for (_, why) in sweep(&restarted).await {
        assert!(matches!(why, SweepReason::Reported(_)), "{why:?}");
    }
    assert_eq!(keys(&client, &options).await, before);
    for (id, _, is_recorded) in objects {
        let loaded = restarted.load(&id).await;
        if is_recorded {
            let loaded = loaded.unwrap();
            assert!(loaded.is_complete(), "{loaded:?}");
            assert_eq!(loaded.offset, 9, "what is there is served");
        }
    }
}
