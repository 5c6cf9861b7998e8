//! `landfall sweep` on a bucket, and a server that sweeps by itself.

use std::{collections::BTreeMap, thread, time::Duration};

use crate::{
    s3_kit::{Bucket, id_of, object_of},
    serve_kit::{MIB, content, eventually, run},
};

/// Everything in a bucket.
fn all(bucket: &Bucket) -> (BTreeMap<String, u64>, Vec<String>) {
    (bucket.keys(), bucket.multiparts())
}

#[test]
fn expired_uploads_go_and_a_dry_run_only_lists_them() {
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
fn a_server_sweeps_by_itself() {
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
