//! Failover to a replica.

use std::time::{Duration, Instant};

use landfall::{
    lease::{Locker, YieldReason},
    upload::UploadId,
};

use crate::server::{LONG, Server, quick};

/// Makes `replica` a replica of `primary` and waits until it is in sync.
fn replicate(primary: &Server, replica: &Server) {
    let port = landfall_test_services::free_port().to_string();
    primary.run::<()>(&["CONFIG", "SET", "port", &port]);
    replica.run::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    let started = Instant::now();
    loop {
        let info: String = replica.run(&["INFO", "replication"]);
        if info.contains("master_link_status:up") {
            break;
        }
        assert!(started.elapsed() < LONG, "not replicated: {info}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let replicas: u64 = primary.run(&["WAIT", "1", "20000"]);
    assert_eq!(replicas, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_nodes_hold_a_lease_after_a_failover() {
    let settings = quick();
    let mut primary = Server::ready(&settings).await;
    let replica = Server::start();
    replicate(&primary, &replica);
    // Longer than the lifetime of a lease, so that the uptime proves nothing.
    tokio::time::sleep(settings.ttl + Duration::from_secs(1)).await;

    let (one, other) = (primary.locker(&settings), replica.locker(&settings));
    let id = UploadId::random();
    let lease = one.acquire(&id, LONG).await.unwrap();
    let replicas: u64 = primary.run(&["WAIT", "1", "20000"]);
    assert_eq!(replicas, 1);
    primary.kill();
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    let next = other.acquire(&id, LONG).await.unwrap();
    assert_eq!(lease.signal().reason(), Some(YieldReason::LeaseLost));
    assert!(next.fence() > lease.fence());
}

/// The first primary takes over again, with leases of its first run in its data.
#[tokio::test(flavor = "multi_thread")]
async fn a_failback_is_another_failover() {
    let settings = quick();
    let primary = Server::ready(&settings).await;
    let replica = Server::start();
    replicate(&primary, &replica);
    let id = UploadId::random();
    let first = primary.locker(&settings);
    drop(first.acquire(&id, LONG).await.unwrap());
    first.close().await;
    let replicas: u64 = primary.run(&["WAIT", "1", "20000"]);
    assert_eq!(replicas, 1);
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    replicate(&replica, &primary);

    let second = replica.locker(&settings);
    let lease = second.acquire(&id, LONG).await.unwrap();
    let replicas: u64 = replica.run(&["WAIT", "1", "20000"]);
    assert_eq!(replicas, 1);
    drop(replica);
    primary.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    let next = first.acquire(&id, LONG).await.unwrap();
    assert_eq!(lease.signal().reason(), Some(YieldReason::LeaseLost));
    drop(next);
}
