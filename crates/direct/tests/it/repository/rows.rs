//! Stored records.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use landfall::{
    hook::ClientResponse,
    upload::{Completion, Metadata, Upload, UploadId},
};
use landfall_direct::{Record, Repository, Status, TransferMode};
use landfall_s3::client;
use landfall_state::queue::JobId;
use landfall_state::sql::DatabaseError;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use super::harness::{TestDatabase, at, everywhere, record};

const RETRY_DELAY: Duration = Duration::from_secs(10);

fn mode() -> impl Strategy<Value = TransferMode> {
    prop_oneof![
        Just(TransferMode::Put),
        Just(TransferMode::Post),
        Just(TransferMode::Multipart),
        Just(TransferMode::SignedMultipart)
    ]
}

fn statuses() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Creating),
        Just(Status::Open),
        Just(Status::Completing),
        Just(Status::Completed),
        Just(Status::Removed)
    ]
}

fn replies() -> impl Strategy<Value = ClientResponse> {
    let header = ("x-[a-z]{1,8}", "[ -~]{0,20}");
    let body = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50));
    (
        proptest::option::of(200_u16..600),
        proptest::collection::vec(header, 0..3),
        body,
    )
        .prop_map(|(status, headers, body)| {
            let mut reply = ClientResponse::default();
            reply.status = status.map(|code| StatusCode::from_u16(code).unwrap());
            reply.body = body.map(Bytes::from);
            for (name, value) in headers {
                let name: HeaderName = name.parse().unwrap();
                // White space at the ends is not part of a header value.
                let value = HeaderValue::from_str(value.trim()).unwrap();
                reply.headers.append(name, value);
            }
            reply
        })
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("[A-Za-z_]{1,8}", any::<String>(), 0..4)
}

fn uploads() -> impl Strategy<Value = Upload> {
    // Metadata of direct uploads is text.
    let value = any::<String>();
    (
        proptest::option::of(0..1_u64 << 50),
        proptest::option::of(0..1_u64 << 50),
        proptest::collection::btree_map("[!-+\\--~]{1,8}", value, 0..4),
        texts(),
        texts(),
        // In nanoseconds, from which event ids are derived.
        proptest::option::of(0..u64::MAX / 4),
        (0..3, any::<Option<String>>()),
        proptest::option::of(replies()),
        any::<u128>(),
    )
        .prop_map(
            |(
                length,
                max_size,
                metadata,
                labels,
                storage,
                created,
                (completion, etag),
                response,
                id,
            )| {
                let id = UploadId::new(&format!("direct-{id:032x}")).unwrap();
                let mut upload = Upload::new(id, length);
                upload.max_size = max_size;
                upload.metadata = Metadata::from_pairs(metadata);
                upload.labels = labels;
                upload.storage = storage.into();
                upload.created =
                    created.map(|nanos| at(0) + std::time::Duration::from_nanos(nanos));
                upload.completion = match completion {
                    0 => Completion::NotTracked,
                    1 => Completion::Pending,
                    _ => Completion::Done(response.map(Arc::new)),
                };
                upload.etag = etag;
                upload
            },
        )
}

/// Texts that PostgreSQL accepts.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', "0"))
}

fn records() -> impl Strategy<Value = Record> {
    let times = (0..1_u64 << 42, proptest::option::of(0..1_u64 << 42));
    (
        (uploads(), any::<i64>(), text(), mode()),
        (text(), text(), proptest::option::of(text())),
        (statuses(), 0..1_u64 << 50, any::<u32>(), times),
    )
        .prop_map(
            |(
                (upload, job, subject, mode),
                (bucket, key, multipart),
                (status, stored, check_count, (active, check)),
            )| {
                let object = client::ObjectRef::new(bucket, key);
                let mut record = Record::new(upload, JobId(job), subject, mode, object, at(active));
                record.multipart = multipart;
                record.status = status;
                record.stored = stored;
                record.check_count = check_count;
                // Completed uploads are never checked.
                record.next_check_at = check.map(at).filter(|_| status != Status::Completed);
                record
            },
        )
}

#[tokio::test]
async fn every_field_round_trips() {
    everywhere(async |object: TestDatabase| {
        let repository = object.repository().await;
        let mut runner = TestRunner::new(Config::with_cases(64));
        for _ in 0..64 {
            let mut draw = || records().new_tree(&mut runner).unwrap().current();
            let (first, other) = (draw(), draw());
            repository.insert(&first).await.unwrap();
            assert_eq!(
                repository.get(first.id()).await.unwrap(),
                Some(first.clone())
            );
            let found = repository
                .find(
                    &first.subject,
                    Some(&first.object.bucket),
                    &first.object.key,
                    first.multipart.as_deref(),
                )
                .await
                .unwrap();
            assert_eq!(found, Some(first.clone()));
            // Everything but its identity can change.
            let mut upload = Upload::clone(&other.upload);
            upload.id = first.id().clone();
            let mut changed = first.clone();
            changed.upload = Arc::new(upload);
            changed.multipart = other.multipart.or(changed.multipart);
            changed.status = other.status;
            changed.stored = other.stored;
            changed.active_at = other.active_at;
            changed.next_check_at = other.next_check_at;
            changed.check_count = other.check_count;
            assert!(repository.update(&mut changed).await.unwrap());
            assert_eq!(repository.get(first.id()).await.unwrap(), Some(changed));
        }
    })
    .await;
}

#[tokio::test]
async fn the_newest_record_is_found() {
    everywhere(async |object: TestDatabase| {
        let repository = object.repository().await;
        let mut older = record("ann", "a/key");
        older.multipart = Some("m1".into());
        repository.insert(&older).await.unwrap();
        let mut newer = record("ann", "a/key");
        newer.multipart = Some("m2".into());
        repository.insert(&newer).await.unwrap();
        let mut elsewhere = record("ann", "a/key");
        elsewhere.object.bucket = "another".into();
        repository.insert(&elsewhere).await.unwrap();

        let find = async |bucket, multipart| {
            let found = repository
                .find("ann", bucket, "a/key", multipart)
                .await
                .unwrap();
            found.map(|record| record.id().clone())
        };
        assert_eq!(find(Some("bucket"), None).await.as_ref(), Some(newer.id()));
        assert_eq!(find(None, None).await.as_ref(), Some(elsewhere.id()));
        assert_eq!(find(None, Some("m1")).await.as_ref(), Some(older.id()));
        assert_eq!(
            find(Some("bucket"), Some("m2")).await.as_ref(),
            Some(newer.id())
        );
        assert_eq!(find(Some("another"), Some("m2")).await, None);
        assert_eq!(find(None, Some("m3")).await, None);
        assert_eq!(
            repository.find_by_object("bucket", "a/key").await.unwrap(),
            Some(newer)
        );
        assert_eq!(
            repository.find_by_object("bucket", "A/key").await.unwrap(),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn subjects_cannot_access_each_others_uploads() {
    everywhere(async |object: TestDatabase| {
        let repository = object.repository().await;
        for (subject, key) in [("ann", "k"), ("bob", "k"), ("ann", "k2"), ("", "k")] {
            repository.insert(&record(subject, key)).await.unwrap();
        }
        for subject in ["ann", "bob", ""] {
            let found = repository
                .find(subject, None, "k", None)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(found.subject, subject);
        }
        for (subject, key) in [
            ("bob", "k2"),
            ("Ann", "k"),
            ("ann ", "k"),
            ("an_", "k"),
            ("ann", "k\0"),
        ] {
            let found = repository.find(subject, None, key, None).await.unwrap();
            assert_eq!(found, None, "{subject} {key}");
        }
        // The queue stores it in the same form.
        repository.insert(&record("z\0", "k")).await.unwrap();
        let found = repository
            .find("z\0", None, "k", None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.subject, "z\u{fffd}");
        assert_eq!(repository.find_by_object("b\0", "k").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn ids_are_unique() {
    everywhere(async |object: TestDatabase| {
        let repository = object.repository().await;
        let first = record("ann", "k");
        repository.insert(&first).await.unwrap();
        let again = repository.insert(&first).await;
        assert!(
            matches!(again, Err(DatabaseError::InvalidRow(_))),
            "{again:?}"
        );
        assert_eq!(repository.get(first.id()).await.unwrap(), Some(first));
        let other = UploadId::new("direct-nobody").unwrap();
        assert_eq!(repository.get(&other).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_change_applies_to_the_version_it_was_made_from() {
    everywhere(async |object: TestDatabase| {
        let (repository, others) = (object.repository().await, object.repository().await);
        let record = record("ann", "k");
        repository.insert(&record).await.unwrap();
        let mut open = record.clone();
        open.status = Status::Open;
        open.multipart = Some("m".into());
        assert!(repository.update(&mut open).await.unwrap());
        assert_eq!(open.version, 1);

        // An outdated copy changes nothing: neither the status nor the multipart upload nor the
        // activity.
        let mut stale = record.clone();
        stale.status = Status::Removed;
        stale.active_at = at(1);
        assert!(!others.update(&mut stale).await.unwrap());
        assert_eq!(stale.version, 0);
        let mut now = repository.get(record.id()).await.unwrap().unwrap();
        assert_eq!(now, open);
        // The same after the status has returned to the earlier one.
        for status in [Status::Completing, Status::Open] {
            now.status = status;
            assert!(repository.update(&mut now).await.unwrap());
        }
        assert!(!others.update(&mut open).await.unwrap());

        // Of several changes from the same version, one applies.
        let tries = futures_util::future::join_all((0..10).map(|n| {
            let repository = if n % 2 == 0 { &repository } else { &others };
            let mut change = now.clone();
            change.stored = n;
            async move { repository.update(&mut change).await.unwrap() }
        }));
        let won: Vec<bool> = tries.await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
        let mut nobody = super::harness::record("ann", "k");
        assert!(!repository.update(&mut nobody).await.unwrap());
    })
    .await;
}

/// The sweeper writes results of records that may have changed.
#[tokio::test]
async fn a_schedule_does_not_undo_what_was_written_in_between() {
    everywhere(async |object: TestDatabase| {
        let (repository, sweeper) = (object.repository().await, object.repository().await);
        let mut records = Vec::new();
        for _ in 0..4 {
            let mut record = record("ann", "k");
            record.status = Status::Open;
            repository.insert(&record).await.unwrap();
            records.push(record);
        }
        let mut seen = sweeper
            .due_for_check(at(2000), RETRY_DELAY, 9)
            .await
            .unwrap();
        assert_eq!(seen.len(), 4);
        seen.sort_by_key(|record| record.job.0);
        for record in &mut seen {
            record.stored = 3;
            record.check_count = 7;
            record.next_check_at = Some(at(50_000));
        }
        // Meanwhile one gets its multipart upload, the client of another is active, and a third is
        // being completed.
        let mut adopted = repository.get(records[0].id()).await.unwrap().unwrap();
        adopted.multipart = Some("m".into());
        adopted.active_at = at(9000);
        assert!(repository.update(&mut adopted).await.unwrap());
        repository
            .touch(records[1].id(), at(9000), at(60_000))
            .await
            .unwrap();
        let touched = repository.get(records[1].id()).await.unwrap().unwrap();
        assert_eq!((touched.active_at, touched.check_count), (at(9000), 0));
        assert_eq!(
            touched.next_check_at,
            Some(at(2000) + RETRY_DELAY),
            "it is due sooner"
        );
        let hold = repository
            .acquire_lease(records[2].id())
            .await
            .unwrap()
            .unwrap();
        let held = repository.get(records[2].id()).await.unwrap().unwrap();
        sweeper.reschedule(&seen).await.unwrap();
        for written in [&adopted, &touched, &held] {
            let now = repository.get(written.id()).await.unwrap().unwrap();
            assert_eq!(now, *written);
        }
        let now = repository.get(records[3].id()).await.unwrap().unwrap();
        assert_eq!(now, seen[3]);
        // The client's activity does not disturb the holder of the lease.
        repository
            .touch(held.id(), at(9000), at(9000))
            .await
            .unwrap();
        assert_eq!(repository.get(held.id()).await.unwrap().unwrap(), held);
        hold.release().await;
        // A request with a record from before it was rescheduled can still change it.
        let mut open = records.remove(3);
        open.multipart = Some("m".into());
        assert!(repository.update(&mut open).await.unwrap());
        sweeper.reschedule(&[]).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_repository_works_in_any_runtime() {
    everywhere(async |object: TestDatabase| {
        let repository: Repository = object.repository().await;
        let elsewhere = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let record = record("ann", "k");
            let held = runtime.block_on(async {
                repository.insert(&record).await.unwrap();
                let hold = repository
                    .acquire_lease(record.id())
                    .await
                    .unwrap()
                    .unwrap();
                assert!(
                    repository
                        .acquire_lease(record.id())
                        .await
                        .unwrap()
                        .is_none()
                );
                hold
            });
            // It is renewed and released in the runtime of the connections.
            drop(runtime);
            assert!(held.is_held());
            drop(held);
            (repository, record)
        });
        let (repository, record) = elsewhere.await.unwrap();
        super::harness::until(async || {
            repository
                .acquire_lease(record.id())
                .await
                .unwrap()
                .is_some()
        })
        .await;
    })
    .await;
}
