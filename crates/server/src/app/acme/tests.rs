//! The conformance suite of shared stores, on real services.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use landfall::lease::MemoryLocker;
use landfall_acme::{MAX_DOCUMENT_BYTES, SharedDocument, SharedStore, conformance};
use landfall_database::{Database, Durability, Statement};
use landfall_s3::client::{
    Client, ClientSettings, CredentialSource, Credentials, ObjectHeaders, ObjectRef,
};
use landfall_test_services::{Moto, Postgres, Redis};

use super::bucket::{self, BucketDocument};
use super::redis::{self, RedisDocument};

const DIRECTORY: &str = "acme.test-dir";

/// Stores whose leases do not exclude each other: each has lost its lease to the next one.
async fn check_document<D: SharedDocument + Clone>(document: D) {
    let stores = [(); 2].map(|()| SharedStore::document(MemoryLocker::new(), document.clone()));
    conformance::check_fences(stores.each_ref(), async || ()).await;

    // A document that was read before another one was stored cannot replace it.
    let old = document.get().await.unwrap();
    assert!(document.replace(old.as_ref(), "one".into()).await.unwrap());
    for stale in [None, old.as_ref()] {
        assert!(!document.replace(stale, "two".into()).await.unwrap());
    }
    let now = document.get().await.unwrap();
    assert_eq!(now.as_ref().unwrap().bytes, "one");
    let large = Bytes::from(vec![b'x'; MAX_DOCUMENT_BYTES + 2]);
    assert!(document.replace(now.as_ref(), large).await.unwrap());
    match document.get().await {
        Ok(read) => assert_eq!(read.unwrap().bytes.len(), MAX_DOCUMENT_BYTES + 1),
        Err(error) => assert!(
            error.to_string().contains("more than the maximum"),
            "{error}"
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_conformance() {
    let (access, bucket) = (Moto::shared().access(), Moto::shared().bucket("acme"));
    let client = Client::new(ClientSettings {
        endpoint: Some(access.endpoint),
        region: Some(access.region),
        credentials: CredentialSource::Static(Credentials::new(
            &access.access_key,
            &access.secret_key,
        )),
        ..ClientSettings::default()
    });
    let client = client.unwrap();
    let document = |key: &str| {
        let headers = ObjectHeaders {
            acl: Some("public-read".to_owned()),
            sse: Some("AES256".to_owned()),
            ..ObjectHeaders::default()
        };
        BucketDocument::new(&client, ObjectRef::new(&bucket, key), headers)
    };
    let shown = format!("{:?}", document("acme/one.json"));
    assert!(
        shown.contains("AES256") && !shown.contains("public-read"),
        "{shown}"
    );
    let stores = [(); 2].map(|()| {
        let locker = bucket::locker(&client, &bucket, "acme/").unwrap();
        SharedStore::document(locker, document("acme/one.json"))
    });
    conformance::check(stores.each_ref()).await;
    check_document(document("acme/other.json")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_conformance() {
    let redis = Redis::start();
    let lockers = [(); 2].map(|()| redis::locker(&redis.url(), DIRECTORY).unwrap());
    let stores = lockers.map(|locker| SharedStore::document(locker.clone(), RedisDocument(locker)));
    conformance::check(stores.each_ref()).await;
    let locker = redis::locker(&redis.url(), "other.test-dir").unwrap();
    check_document(RedisDocument(locker)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_conformance() {
    let url = Postgres::shared().database("certificates");
    let database = Database::Postgres(url);
    let connections = database.open(Durability::PowerLoss).await.unwrap();
    for directory in ["https://one.test/dir", "https://other.test/dir"] {
        let stores = [(); 2].map(|()| SharedStore::database(connections.share(), directory));
        match directory.contains("one") {
            true => conformance::check(stores.each_ref()).await,
            false => {
                let expire = async || {
                    let expire = "UPDATE acme_certificates SET lease_expires_at = 0 WHERE id = $1";
                    let expire = Statement::new(expire).with(directory);
                    connections.execute(expire).await.unwrap();
                };
                conformance::check_fences(stores.each_ref(), expire).await;
            }
        }
    }
}
