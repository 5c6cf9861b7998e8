//! `landfall sweep` on a bucket, and the periodic sweeper.

use std::{collections::BTreeMap, thread, time::Duration};

use crate::{
    s3_harness::{Bucket, id_of, object_of},
    serve_harness::{MIB, Request, content, eventually, run},
};

/// Everything in a bucket.
fn all(bucket: &Bucket) -> (BTreeMap<String, u64>, Vec<String>) {
    (bucket.keys(), bucket.multiparts())
}

#[test]
fn a_sweep_removes_expired_uploads_and_a_dry_run_lists_them() {
    for bucket in Bucket::on_each() {
        let server = bucket.server(&["-sweep-interval=0"]);
        let mut client = server.client();
        let finished = client.upload(b"finished");
        let bytes = content(1, 7 * MIB);
        let unfinished = client.create(20 * MIB);
        assert_eq!(client.patch(&unfinished, 0, &bytes).status, 204);
        server.stop();
        thread::sleep(Duration::from_millis(2100));

        let before = all(&bucket);
        assert_eq!(before.1.len(), 1);
        let sweep = |args: &[&str]| {
            let mut command = bucket.command(&["sweep", "-expire-unfinished=2s"]);
            let (code, said, told) = run(command.args(args));
            assert_eq!(code, Some(0), "{said}{told}");
            said
        };
        let said = sweep(&["-dry-run"]);
        let object = object_of(&id_of(&unfinished)).to_owned();
        assert!(
            said.contains("would remove") && said.contains(&object),
            "{said}"
        );
        assert!(!said.contains(object_of(&id_of(&finished))), "{said}");
        assert_eq!(all(&bucket), before);

        let said = sweep(&[]);
        assert!(said.contains("removed 1 of "), "{said}");
        let (keys, multiparts) = all(&bucket);
        assert_eq!(multiparts, Vec::<String>::new());
        assert!(keys.keys().all(|key| !key.contains(&object)), "{keys:?}");
        assert_eq!(keys.len(), 2, "the finished one stays: {keys:?}");
    }
}

#[test]
fn a_server_sweeps_periodically() {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&["-expire-unfinished=1s", "-sweep-interval=300ms"]);
    let mut client = server.client();
    let path = client.create(20 * MIB);
    assert_eq!(client.patch(&path, 0, b"hello").status, 204);
    assert_eq!(bucket.multiparts().len(), 1);
    eventually("it is still there", || {
        all(&bucket) == (BTreeMap::new(), Vec::new())
    });
    assert_eq!(client.head(&path).status, 404);
    server.stop();
}

/// A sweep during an upload that seems to have expired.
fn sweep_keeps_leased_uploads(bucket: &Bucket, lease: &str) {
    let server = bucket.server(&["-sweep-interval=0", "-lease", lease]);
    let whole = content(2, 7 * MIB);
    let path = server.client().create(whole.len() as u64);
    let abandoned = server.client().create(5);
    let mut client = server.client();
    client.begin(Request::patch(&path, 0), whole.len() as u64);
    client.send(&whole[..1000]);
    eventually("nothing is being written", || {
        server.metric("landfall_uploads_live") == 1.0
    });
    thread::sleep(Duration::from_millis(2100));
    let mut command = bucket.command(&["sweep", "-expire-unfinished=2s", "-lease", lease]);
    let (code, said, told) = run(&mut command);
    assert_eq!(code, Some(0), "{said}{told}");
    assert!(
        said.contains("removed 1 of 2 entries") && said.contains("1 in use"),
        "{said}"
    );
    client.send(&whole[1000..]);
    assert_eq!(client.answer().status, 204);
    client.holds(&path, &whole);
    assert_eq!(client.head(&abandoned).status, 404);
    server.stop();
}

#[test]
fn a_sweep_keeps_uploads_with_bucket_leases() {
    sweep_keeps_leased_uploads(&Bucket::on_moto(), "store");
}

#[test]
fn a_sweep_keeps_uploads_with_postgresql_leases() {
    let url = landfall_test_services::Postgres::shared().database("leases");
    sweep_keeps_leased_uploads(&Bucket::on_garage(), &url);
}

#[test]
fn a_sweep_keeps_uploads_with_redis_leases() {
    let redis = landfall_test_services::Redis::start();
    sweep_keeps_leased_uploads(&Bucket::on_garage(), &redis.url());
}
