//! Incomplete parts, each an object of its own: none that comes late makes an offset fall, and none stays.

use bytes::Bytes;
use landfall::{
    Lifetimes,
    store::{DueFilter, Store as _},
};
use landfall_objects::{Cloud, Condition, ObjectHeaders, ObjectRef};
use landfall_test_clouds::{
    KIB, Service, append, assert_same, client, create, finish, on_each_cloud, options, pattern,
    read, store,
};

const TAILS: &str = "up/.landfall/tails/";

async fn keys(client: &impl Cloud, bucket: &str) -> Vec<String> {
    let page = client.list_objects(bucket, "", None, 1000).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

async fn tails(client: &impl Cloud, bucket: &str) -> Vec<String> {
    let mut keys = keys(client, bucket).await;
    keys.retain(|key| key.starts_with(TAILS) && !key.contains("taken"));
    keys
}

async fn put(client: &impl Cloud, bucket: &str, key: &str, bytes: Bytes) {
    let object = ObjectRef::new(bucket, key);
    let headers = ObjectHeaders::default();
    let put = client.put_object(&object, bytes.into(), &headers, Condition::None, None);
    put.await.unwrap();
}

/// Two processes are killed, one after the other, and what they had under way comes late and in the other order.
async fn offsets_do_not_fall(service: &impl Service, is_shared: bool) {
    let bucket = service.bucket("late");
    let mut options = options(&bucket);
    options.shared = is_shared;
    let client = client(service);
    let bytes = pattern(1, 60 * KIB);
    let store = || store(service, options.clone());
    let upload = create(&store(), "late", 60 * KIB as u64).await;
    append(&store(), &upload.id, 1, &bytes.slice(..10 * KIB)).await;
    let first = tails(&client, &bucket).await.remove(0);
    append(&store(), &upload.id, 2, &bytes.slice(10 * KIB..15 * KIB)).await;
    let mut others = tails(&client, &bucket).await;
    others.retain(|key| *key != first);
    let [second] = others.try_into().unwrap();
    // The one of the second process is still under way, and another one of the first process has come.
    let object = ObjectRef::new(&bucket, &second);
    client.delete_object(&object).await.unwrap();
    let (folder, _) = first.rsplit_once('.').unwrap();
    put(
        &client,
        &bucket,
        &format!("{folder}.1"),
        bytes.slice(..20 * KIB),
    )
    .await;
    let told = store().load(&upload.id).await.unwrap().offset;
    put(&client, &bucket, &second, bytes.slice(..15 * KIB)).await;
    let offset = store().load(&upload.id).await.unwrap().offset;
    assert!(offset >= told, "{offset} after {told}");
    let at = usize::try_from(offset).unwrap();
    let last = store();
    append(&last, &upload.id, 3, &bytes.slice(at..)).await;
    finish(&last, &upload, 3).await;
    assert_same(&read(&last, &upload, 0..60 * KIB as u64).await, &bytes);
    assert_eq!(keys(&client, &bucket).await, ["up/late", "up/late.info"]);
}

async fn late_ones_of_dead_processes(service: &impl Service) {
    offsets_do_not_fall(service, false).await;
}

async fn late_ones_of_dead_nodes(service: &impl Service) {
    offsets_do_not_fall(service, true).await;
}

/// Of an upload that is shorter than a part, and of one that is longer.
async fn a_finished_upload_has_none(service: &impl Service) {
    let bucket = service.bucket("finished");
    let client = client(service);
    let store = store(service, options(&bucket));
    for (id, len) in [("short", 30 * KIB), ("long", 200 * KIB)] {
        let bytes = pattern(2, len);
        let upload = create(&store, id, len as u64).await;
        for (fence, start) in (1..).zip((0..len).step_by(10 * KIB)) {
            append(
                &store,
                &upload.id,
                fence,
                &bytes.slice(start..start + 10 * KIB),
            )
            .await;
        }
        finish(&store, &upload, 100).await;
        let keys = keys(&client, &bucket).await;
        let of_it = keys.iter().filter(|key| key.contains(id));
        assert_eq!(of_it.count(), 2, "{keys:?}");
    }
}

async fn a_sweep_deletes_those_of_finished_uploads(service: &impl Service) {
    let bucket = service.bucket("swept");
    let client = client(service);
    let store = || store(service, options(&bucket));
    let bytes = pattern(3, 10 * KIB);
    const FINISHED: &str = "0123456789abcdef0123456789abcdef";
    let finished = create(&store(), FINISHED, bytes.len() as u64).await;
    append(&store(), &finished.id, 1, &bytes).await;
    finish(&store(), &finished, 1).await;
    let growing = create(&store(), "growing", 20 * KIB as u64).await;
    append(&store(), &growing.id, 1, &bytes).await;
    let kept = tails(&client, &bucket).await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    // The first is late, and nothing proves that the others are ours.
    let unknown = format!("{TAILS}unknown/1-ab/0.0");
    let notes = format!("{TAILS}{FINISHED}/notes");
    for name in [&format!("{TAILS}{FINISHED}/1-ab/0.0"), &unknown, &notes] {
        put(&client, &bucket, name, bytes.clone()).await;
    }
    let late = format!("up/{FINISHED}_1");
    put(&client, &bucket, &late, bytes.clone()).await;
    let named = create(&store(), "named", bytes.len() as u64).await;
    append(&store(), &named.id, 1, &bytes).await;
    finish(&store(), &named, 1).await;
    put(&client, &bucket, "up/named_1", bytes.clone()).await;
    let store = store();
    let enumerator = store.capabilities().enumerator.unwrap();
    let before = keys(&client, &bucket).await;
    for dry_run in [true, false] {
        assert_eq!(keys(&client, &bucket).await, before);
        let filter = DueFilter {
            all: true,
            dry_run,
            lifetimes: Lifetimes::default(),
            due: &|_| None,
        };
        enumerator.page_due(None, 1000, &filter).await.unwrap();
    }
    let mut wanted = kept;
    wanted.extend([unknown, notes]);
    wanted.sort();
    assert_eq!(tails(&client, &bucket).await, wanted);
    // Of Google, it has the name of a part, and a random one.
    let left = keys(&client, &bucket).await;
    assert_eq!(left.contains(&late), !client.rules().versioned_parts);
    assert!(left.iter().any(|key| key == "up/named_1"));
}

on_each_cloud!(
    late_ones_of_dead_processes,
    late_ones_of_dead_nodes,
    a_finished_upload_has_none,
    a_sweep_deletes_those_of_finished_uploads,
);
