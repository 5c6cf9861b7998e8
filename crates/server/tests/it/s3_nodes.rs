//! Two nodes on one bucket, with leases in Redis, in PostgreSQL or in the bucket.

use landfall_test_services::Postgres;

use crate::{
    s3_harness::{Bucket, id_of, object_of},
    serve_harness::{Landfall, MIB, Request, assert_same, content, eventually},
};

/// Alternates requests for an upload between both nodes, takes over from the other, then kills one.
fn two_nodes_share_uploads(bucket: &Bucket, lease: &[&str]) {
    let start = || bucket.server(lease);
    let (one, two) = (start(), start());
    let whole = content(1, 30 * MIB + 5);
    let path = one.client().create(whole.len() as u64);

    // In turn.
    let mut offset = 0;
    for (round, length) in [MIB, 7 * MIB, 3, 2 * MIB].into_iter().enumerate() {
        let server = if round % 2 == 0 { &two } else { &one };
        let end = offset + length;
        let piece = &whole[offset as usize..end as usize];
        let answer = server.client().patch(&path, offset, piece);
        assert_eq!((answer.status, answer.offset()), (204, end), "{answer:?}");
        for server in [&one, &two] {
            assert_eq!(server.client().offset(&path), end);
        }
        offset = end;
    }

    // While one receives, the client sends to the other.
    let mut slow = one.client();
    slow.begin(Request::patch(&path, offset), 10 * MIB);
    slow.send(&whole[offset as usize..(offset + MIB) as usize]);
    eventually("what was sent is not received", || {
        one.client().offset(&path) == offset + MIB
    });
    assert_eq!(one.metric("landfall_uploads_live"), 1.0);
    // A late request of the same client does not interrupt it.
    let late = &whole[offset as usize..(offset + 9) as usize];
    let late = two.client().patch(&path, offset, late);
    assert_eq!(
        (late.status, late.offset()),
        (409, offset + MIB),
        "{late:?}"
    );
    assert_eq!(one.metric("landfall_uploads_live"), 1.0);
    slow.send(&whole[(offset + MIB) as usize..(offset + 2 * MIB) as usize]);
    offset = takes_over(&two, &path, offset, &whole, 4 * MIB);
    assert!(two.metric("landfall_leases_taken_over_total") >= 1.0);

    // The receiving one dies.
    let mut doomed = two.client();
    doomed.begin(Request::patch(&path, offset), 10 * MIB);
    doomed.send(&whole[offset as usize..(offset + MIB) as usize]);
    eventually("nothing is being written", || {
        two.metric("landfall_uploads_live") == 1.0
    });
    two.kill();
    takes_over(&one, &path, offset, &whole, whole.len() as u64);

    one.client().holds(&path, &whole);
    let object = id_of(&path);
    assert_same(&bucket.object(object_of(&object)).unwrap(), &whole);
    assert_eq!(bucket.multiparts(), Vec::<String>::new());
    one.stop();
}

/// Resumes at another node from the current offset: up to `length` bytes more.
fn takes_over(server: &Landfall, path: &str, known: u64, whole: &[u8], length: u64) -> u64 {
    loop {
        let mut client = server.client();
        let offset = client.offset(path);
        assert!(offset >= known, "{known} acknowledged, {offset} kept");
        let end = (offset + length).min(whole.len() as u64);
        let answer = client.patch(path, offset, &whole[offset as usize..end as usize]);
        match answer.status {
            204 => return answer.offset(),
            // Bytes in flight to the first one arrived meanwhile.
            409 => {}
            _ => panic!("{answer:?}"),
        }
    }
}

/// A cluster needs a bucket and PostgreSQL, and nothing else.
#[test]
fn leases_in_postgresql() {
    let url = Postgres::shared().database("leases");
    let flags = ["-lease", &url, "-database", &url, "-lease-ttl=2s"];
    two_nodes_share_uploads(&Bucket::on_garage(), &flags);
}
