//! Counts the sweeper's requests to S3 for running uploads.

use std::time::Duration;

use bytes::Bytes;
use landfall_direct::TransferMode;
use landfall_objects::{Cloud as _, PartCondition};
use landfall_s3::client::{Operation, Payload};

use super::harness::World;
use crate::{repository::harness::TestDatabase, uploads::harness::Service};

/// Number of uploads of each kind.
const UPLOADS: usize = 8;
const HOUR: u64 = 60 * 60;
/// Clock step between two sweeps, and interval of parts, in seconds.
const STEP: u64 = 5;
const PART_INTERVAL: u64 = 30;

/// Returns the requests per upload in its first hour, without completion.
async fn requests(mode: TransferMode, is_active: bool, has_notifications: bool) -> u64 {
    let world = World::new(Service::Moto, TestDatabase::sqlite());
    let node = world
        .node_by(&world.access, |settings| {
            settings.has_notifications = has_notifications
        })
        .await;
    let mut records = Vec::new();
    for _ in 0..UPLOADS {
        records.push(node.open(mode, None).await);
    }
    let count = || {
        let of = |operation| node.client.stats().operation(operation).calls;
        of(Operation::ListParts.name()) + of(Operation::HeadObject.name())
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
            let sent = node.client.upload_part(
                &record.object,
                multipart,
                part,
                payload,
                PartCondition::default(),
            );
            sent.await.unwrap();
        }
        let report = world.sweep_after(&node, Duration::from_secs(STEP)).await;
        assert_eq!(
            (report.completed, report.failed, report.check_failures),
            (0, 0, 0)
        );
    }
    (count() - before) / UPLOADS as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_uploads_cost_few_requests() {
    for (mode, is_active, has_notifications, most) in [
        // Multipart with parts arriving: every minute.
        (TransferMode::Multipart, true, false, 60),
        // Multipart, the client pauses.
        (TransferMode::Multipart, false, false, 16),
        // In one piece: more often at first.
        (TransferMode::Put, false, false, 20),
        (TransferMode::Post, false, true, 16),
    ] {
        let requests = requests(mode, is_active, has_notifications).await;
        println!(
            "{mode:?} {is_active} {has_notifications}: {requests}/h, {}/h for 10,000",
            requests * 10_000
        );
        assert!(
            requests <= most,
            "{mode:?} {is_active} {has_notifications}: {requests}"
        );
    }
}
