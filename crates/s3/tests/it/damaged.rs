//! Descriptions that cannot be read: found, removed, and never a reason to remove what is not ours.

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
    upload::{Upload, UploadId},
};
use landfall_s3::{
    S3Options, S3Store, UploadIds,
    client::{Client, Condition, ObjectHeaders, Payload, Place},
};
use landfall_test_services::{Access, Garage, Moto};
use landfall_testkit::store::damaged::{self, Subject};

use crate::support::{append, client, create, finish, options, pattern};

async fn put(client: &Client, place: &Place, text: &[u8]) {
    let payload = Payload::new(vec![text.to_vec().into()], None);
    let headers = ObjectHeaders::default();
    let put = client.put_object(place, payload, &headers, Condition::None);
    put.await.unwrap();
}

fn place(options: &S3Options, name: &str) -> Place {
    Place::new(&options.bucket, format!("{}/{name}", options.object_prefix))
}

async fn conforms(access: &Access, bucket: &str, conditional: bool) {
    let client = client(access);
    let next = AtomicU32::new(0);
    for text in ["", "nonsense", "{\"ID\":\""] {
        let make = async || {
            let mut options = options(bucket);
            options.object_prefix = format!("d{}", next.fetch_add(1, Ordering::Relaxed));
            options.conditional_writes = conditional;
            // Others may change descriptions, so none is remembered.
            options.shared = true;
            let store = S3Store::new(client.clone(), options.clone()).unwrap();
            let client = client.clone();
            let damage = move |upload: Arc<Upload>| {
                let (client, info) = (
                    client.clone(),
                    place(&options, &format!("{}.info", upload.id)),
                );
                Box::pin(async move { put(&client, &info, text.as_bytes()).await }) as _
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

/// A store as a process has it that has just been started.
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
async fn a_damaged_upload_named_as_tusd_names_it_is_removed_with_its_parts() {
    let garage = Garage::shared();
    let client = client(&garage.access());
    let mut options = options(&garage.bucket("tusd-damaged"));
    options.ids = UploadIds::Tusd;
    for by_client in [true, false] {
        let store = open(&client, &options);
        let upload = create(&store, 20 << 20).await;
        append(&store, &upload.id, 1, &pattern(1, 6 << 20)).await;
        let object = upload.id.as_str().split('+').next().unwrap();
        put(
            &client,
            &place(&options, &format!("{object}.info")),
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
        if by_client {
            let terminator = restarted.terminator().unwrap();
            let known = Upload::new(upload.id.clone(), None);
            assert!(terminator.terminate(&known, Fence(5)).await.unwrap());
        } else {
            let object = UploadId::new(object).unwrap();
            assert_eq!(
                sweep(&restarted).await,
                [(Some(object), SweepReason::DamagedExpired)]
            );
        }
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
    put(
        &client,
        &place(&options, &format!("{object}.info")),
        b"nonsense",
    )
    .await;

    let restarted = open(&client, &options);
    let id = UploadId::new(object).unwrap();
    let why = SweepReason::Reported("the damaged description of an object");
    assert_eq!(sweep(&restarted).await, [(Some(id), why)]);
    assert_eq!(
        keys(&client, &options).await.len(),
        2,
        "nothing was removed"
    );
    // Its client may still remove it.
    let known = Upload::new(upload.id.clone(), None);
    let terminator = restarted.terminator().unwrap();
    assert!(terminator.terminate(&known, Fence(5)).await.unwrap());
    assert_eq!(keys(&client, &options).await, Vec::<String>::new());
}

#[tokio::test]
async fn another_programs_info_object_is_reported_and_its_neighbor_stays() {
    let garage = Garage::shared();
    let client = client(&garage.access());
    let options = options(&garage.bucket("foreign-info"));
    for (name, text) in [
        ("notes.info", "my own notes"),
        ("notes", "hers"),
        ("empty.info", ""),
    ] {
        put(&client, &place(&options, name), text.as_bytes()).await;
    }
    let store = open(&client, &options);
    let why = SweepReason::Reported("a description that cannot be read");
    assert_eq!(sweep(&store).await, [(None, why), (None, why)]);
    assert_eq!(keys(&client, &options).await.len(), 3);
    // Whoever names it removes the description, and not an object that is not proven to be its bytes.
    let named = Upload::new(UploadId::new("notes").unwrap(), None);
    let terminator = store.terminator().unwrap();
    assert!(terminator.terminate(&named, Fence(5)).await.unwrap());
    assert_eq!(keys(&client, &options).await, ["up/empty.info", "up/notes"]);
}
