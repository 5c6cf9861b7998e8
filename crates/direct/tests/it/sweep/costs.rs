//! How many requests to S3 the sweeper sends for running uploads.

use std::time::Duration;

use bytes::Bytes;
use landfall_direct::Way;
use landfall_s3::client::{Operation, Payload};

use super::site::World;
use crate::{books::site::Place, uploads::site::Service};

/// Uploads of each kind.
const UPLOADS: usize = 8;
const HOUR: u64 = 60 * 60;
/// How far the clock goes between two rounds, and how often a part arrives, in seconds.
const STEP: u64 = 5;
const PART_INTERVAL: u64 = 30;

/// Requests for each upload in its first hour, in which nobody completes it.
async fn requests(way: Way, is_active: bool, is_notified: bool) -> u64 {
    let world = World::new(Service::Moto, Place::sqlite());
    let node = world
        .node_by(&world.access, |settings| settings.is_notified = is_notified)
        .await;
    let mut records = Vec::new();
    for _ in 0..UPLOADS {
        records.push(node.open(way, None).await);
    }
    let count = || {
        let of = |operation| node.client.stats().operation(operation).calls();
        of(Operation::ListParts) + of(Operation::HeadObject)
    };
    let before = count();
    for second in (0..HOUR).step_by(STEP as usize) {
        for record in records
            .iter()
            .filter(|_| is_active && second % PART_INTERVAL == 0)
        {
            let part = u32::try_from(second / PART_INTERVAL + 1).unwrap();
            let multipart = record.multipart.as_deref().unwrap();
            let payload = Payload::from(Bytes::from_static(b"part"));
            let sent = node
                .client
                .upload_part(&record.place, multipart, part, payload);
            sent.await.unwrap();
        }
        let swept = world.sweep_after(&node, Duration::from_secs(STEP)).await;
        assert_eq!((swept.completed, swept.failed, swept.unknown), (0, 0, 0));
    }
    (count() - before) / UPLOADS as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_uploads_cost_few_requests() {
    for (way, is_active, is_notified, most) in [
        // In parts, while they arrive: each minute.
        (Way::Multipart, true, false, 60),
        // In parts, of a client that pauses.
        (Way::Multipart, false, false, 16),
        // In one piece: more often at first.
        (Way::Put, false, false, 20),
        (Way::Post, false, true, 16),
    ] {
        let requests = requests(way, is_active, is_notified).await;
        println!(
            "{way:?} {is_active} {is_notified}: {requests}/h, {}/h for 10,000",
            requests * 10_000
        );
        assert!(
            requests <= most,
            "{way:?} {is_active} {is_notified}: {requests}"
        );
    }
}
