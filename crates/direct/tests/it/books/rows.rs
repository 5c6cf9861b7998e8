//! What is written down comes back, to whom it belongs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use landfall::{
    hook::ClientResponse,
    upload::{Completion, Metadata, Upload, UploadId},
};
use landfall_database::DatabaseError;
use landfall_direct::{Books, Record, Standing, Way};
use landfall_grants::JobId;
use landfall_s3::client;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use super::site::{Place, at, everywhere, record};

const AGAIN: Duration = Duration::from_secs(10);

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Put),
        Just(Way::Post),
        Just(Way::Multipart),
        Just(Way::SignedMultipart)
    ]
}

fn standings() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Opening),
        Just(Standing::Open),
        Just(Standing::Finishing),
        Just(Standing::Finished),
        Just(Standing::Gone)
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
            let mut reply = ClientResponse {
                status: status.map(|code| StatusCode::from_u16(code).unwrap()),
                body: body.map(Bytes::from),
                ..ClientResponse::default()
            };
            for (name, value) in headers {
                let name: HeaderName = name.parse().unwrap();
                // Blanks at the ends aren't of the value.
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
    // What is told of direct uploads is text.
    let value = any::<String>();
    (
        proptest::option::of(0..1_u64 << 50),
        proptest::option::of(0..1_u64 << 50),
        proptest::collection::btree_map("[!-+\\--~]{1,8}", value, 0..4),
        texts(),
        texts(),
        // Nanoseconds: the ids of events come from it.
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
                upload.storage = storage;
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

/// Text that PostgreSQL takes.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', "0"))
}

fn records() -> impl Strategy<Value = Record> {
    let times = (0..1_u64 << 42, proptest::option::of(0..1_u64 << 42));
    (
        (uploads(), any::<i64>(), text(), ways()),
        (text(), text(), proptest::option::of(text())),
        (standings(), 0..1_u64 << 50, any::<u32>(), times),
    )
        .prop_map(
            |(
                (upload, job, subject, way),
                (bucket, key, multipart),
                (standing, stored, looks, (active, check)),
            )| {
                let place = client::Place::new(bucket, key);
                let mut record = Record::new(upload, JobId(job), subject, way, place, at(active));
                record.multipart = multipart;
                record.standing = standing;
                record.stored = stored;
                record.looks = looks;
                // Nothing of what is complete is looked at again.
                record.check_at = check.map(at).filter(|_| standing != Standing::Finished);
                record
            },
        )
}

#[tokio::test]
async fn every_field_comes_back() {
    everywhere(async |place: Place| {
        let books = place.books().await;
        let mut runner = TestRunner::new(Config::with_cases(64));
        for _ in 0..64 {
            let mut draw = || records().new_tree(&mut runner).unwrap().current();
            let (first, other) = (draw(), draw());
            books.add(&first).await.unwrap();
            assert_eq!(books.get(first.id()).await.unwrap(), Some(first.clone()));
            let found = books
                .find(
                    &first.subject,
                    Some(&first.place.bucket),
                    &first.place.key,
                    first.multipart.as_deref(),
                )
                .await
                .unwrap();
            assert_eq!(found, Some(first.clone()));
            // All of it can change, but for what it is.
            let mut upload = Upload::clone(&other.upload);
            upload.id = first.id().clone();
            let mut changed = first.clone();
            changed.upload = Arc::new(upload);
            changed.multipart = other.multipart.or(changed.multipart);
            changed.standing = other.standing;
            changed.stored = other.stored;
            changed.active_at = other.active_at;
            changed.check_at = other.check_at;
            changed.looks = other.looks;
            assert!(books.update(&mut changed).await.unwrap());
            assert_eq!(books.get(first.id()).await.unwrap(), Some(changed));
        }
    })
    .await;
}

#[tokio::test]
async fn the_newest_is_found() {
    everywhere(async |place: Place| {
        let books = place.books().await;
        let mut older = record("ann", "a/key");
        older.multipart = Some("m1".into());
        books.add(&older).await.unwrap();
        let mut newer = record("ann", "a/key");
        newer.multipart = Some("m2".into());
        books.add(&newer).await.unwrap();
        let mut elsewhere = record("ann", "a/key");
        elsewhere.place.bucket = "another".into();
        books.add(&elsewhere).await.unwrap();

        let find = async |bucket, multipart| {
            let found = books.find("ann", bucket, "a/key", multipart).await.unwrap();
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
        assert_eq!(books.at("bucket", "a/key").await.unwrap(), Some(newer));
        assert_eq!(books.at("bucket", "A/key").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn subjects_do_not_see_each_other() {
    everywhere(async |place: Place| {
        let books = place.books().await;
        for (subject, key) in [("ann", "k"), ("bob", "k"), ("ann", "k2"), ("", "k")] {
            books.add(&record(subject, key)).await.unwrap();
        }
        for subject in ["ann", "bob", ""] {
            let found = books.find(subject, None, "k", None).await.unwrap().unwrap();
            assert_eq!(found.subject, subject);
        }
        for (subject, key) in [
            ("bob", "k2"),
            ("Ann", "k"),
            ("ann ", "k"),
            ("an_", "k"),
            ("ann", "k\0"),
        ] {
            let found = books.find(subject, None, key, None).await.unwrap();
            assert_eq!(found, None, "{subject} {key}");
        }
        // The queue writes it so, too.
        books.add(&record("z\0", "k")).await.unwrap();
        let found = books.find("z\0", None, "k", None).await.unwrap().unwrap();
        assert_eq!(found.subject, "z\u{fffd}");
        assert_eq!(books.at("b\0", "k").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn an_id_is_written_down_once() {
    everywhere(async |place: Place| {
        let books = place.books().await;
        let first = record("ann", "k");
        books.add(&first).await.unwrap();
        let again = books.add(&first).await;
        assert!(matches!(again, Err(DatabaseError::Row(_))), "{again:?}");
        assert_eq!(books.get(first.id()).await.unwrap(), Some(first));
        let other = UploadId::new("direct-nobody").unwrap();
        assert_eq!(books.get(&other).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_change_applies_to_the_version_it_was_made_from() {
    everywhere(async |place: Place| {
        let (books, others) = (place.books().await, place.books().await);
        let record = record("ann", "k");
        books.add(&record).await.unwrap();
        let mut open = record.clone();
        open.standing = Standing::Open;
        open.multipart = Some("m".into());
        assert!(books.update(&mut open).await.unwrap());
        assert_eq!(open.version, 1);

        // A copy from before changes nothing, neither where it stands nor how the multipart upload is
        // called nor when its client was active.
        let mut stale = record.clone();
        stale.standing = Standing::Gone;
        stale.active_at = at(1);
        assert!(!others.update(&mut stale).await.unwrap());
        assert_eq!(stale.version, 0);
        let mut now = books.get(record.id()).await.unwrap().unwrap();
        assert_eq!(now, open);
        // Nor after it stands again as it did.
        for standing in [Standing::Finishing, Standing::Open] {
            now.standing = standing;
            assert!(books.update(&mut now).await.unwrap());
        }
        assert!(!others.update(&mut open).await.unwrap());

        // Of many that were made from the same version, one applies.
        let tries = futures_util::future::join_all((0..10).map(|n| {
            let books = if n % 2 == 0 { &books } else { &others };
            let mut change = now.clone();
            change.stored = n;
            async move { books.update(&mut change).await.unwrap() }
        }));
        let won: Vec<bool> = tries.await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
        let mut nobody = super::site::record("ann", "k");
        assert!(!books.update(&mut nobody).await.unwrap());
    })
    .await;
}

/// What the sweeper read is old when it writes.
#[tokio::test]
async fn a_schedule_does_not_undo_what_was_written_in_between() {
    everywhere(async |place: Place| {
        let (books, sweeper) = (place.books().await, place.books().await);
        let mut records = Vec::new();
        for _ in 0..4 {
            let mut record = record("ann", "k");
            record.standing = Standing::Open;
            books.add(&record).await.unwrap();
            records.push(record);
        }
        let mut seen = sweeper.due(at(2000), AGAIN, 9).await.unwrap();
        assert_eq!(seen.len(), 4);
        seen.sort_by_key(|record| record.job.0);
        for record in &mut seen {
            record.stored = 3;
            record.looks = 7;
            record.check_at = Some(at(50_000));
        }
        // Meanwhile one is given its multipart upload, one's client says that it is alive, and one is
        // being completed.
        let mut adopted = books.get(records[0].id()).await.unwrap().unwrap();
        adopted.multipart = Some("m".into());
        adopted.active_at = at(9000);
        assert!(books.update(&mut adopted).await.unwrap());
        books
            .touch(records[1].id(), at(9000), at(60_000))
            .await
            .unwrap();
        let touched = books.get(records[1].id()).await.unwrap().unwrap();
        assert_eq!((touched.active_at, touched.looks), (at(9000), 0));
        assert_eq!(touched.check_at, Some(at(2000) + AGAIN), "it is due sooner");
        let hold = books.hold(records[2].id()).await.unwrap().unwrap();
        let held = books.get(records[2].id()).await.unwrap().unwrap();
        sweeper.reschedule(&seen).await.unwrap();
        for written in [&adopted, &touched, &held] {
            let now = books.get(written.id()).await.unwrap().unwrap();
            assert_eq!(now, *written);
        }
        let now = books.get(records[3].id()).await.unwrap().unwrap();
        assert_eq!(now, seen[3]);
        // Whoever has the lease is not disturbed by its client's signs of life.
        books.touch(held.id(), at(9000), at(9000)).await.unwrap();
        assert_eq!(books.get(held.id()).await.unwrap().unwrap(), held);
        hold.release().await;
        // Nor is a request that has read a record before it was rescheduled.
        let mut open = records.remove(3);
        open.multipart = Some("m".into());
        assert!(books.update(&mut open).await.unwrap());
        sweeper.reschedule(&[]).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_are_used_from_any_runtime() {
    everywhere(async |place: Place| {
        let books: Books = place.books().await;
        let elsewhere = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let record = record("ann", "k");
            let held = runtime.block_on(async {
                books.add(&record).await.unwrap();
                let hold = books.hold(record.id()).await.unwrap().unwrap();
                assert!(books.hold(record.id()).await.unwrap().is_none());
                hold
            });
            // It is kept up and let go where the connections are.
            drop(runtime);
            assert!(held.is_held());
            drop(held);
            (books, record)
        });
        let (books, record) = elsewhere.await.unwrap();
        super::site::until(async || books.hold(record.id()).await.unwrap().is_some()).await;
    })
    .await;
}
