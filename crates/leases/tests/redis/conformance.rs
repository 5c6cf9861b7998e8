//! The conformance suites of lockers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use landfall::lease::Locker;
use landfall_leases::{LeaseSettings, RedisLocker};
use landfall_test_services::{Fault, FaultProxy, Redis};
use landfall_testkit::locker::{Cluster, FaultyNode};

use crate::server::{Server, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn within_one_node() {
    let settings = LeaseSettings::redis();
    let server = Server::ready(&settings).await;
    landfall_testkit::locker::conformance(async || server.locker(&settings)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_two_nodes() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let make = async || (server.locker(&settings), server.locker(&settings));
    landfall_testkit::locker::conformance_between(make, Duration::from_millis(200)).await;
}

#[derive(Debug)]
struct RedisCluster {
    redis: Arc<Redis>,
    settings: LeaseSettings,
}

impl RedisCluster {
    async fn connected(&self, url: &str) -> Arc<dyn Locker> {
        let locker = RedisLocker::new(url, self.settings.clone()).unwrap();
        locker.check().await.unwrap();
        Arc::new(locker)
    }
}

#[async_trait]
impl Cluster for RedisCluster {
    fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    async fn node(&self) -> Arc<dyn Locker> {
        self.connected(&self.redis.url()).await
    }

    async fn faulty_nodes(&self) -> Vec<FaultyNode> {
        let mut nodes = Vec::new();
        for fault in Fault::ALL {
            let (proxy, url) = FaultProxy::to_server_of(&self.redis.url());
            nodes.push(FaultyNode {
                locker: self.connected(&url).await,
                fault: format!("{fault:?}"),
                is_delay: fault.is_delay(),
                set: Box::new(move |is_on| proxy.set(if is_on { fault } else { Fault::None })),
            });
        }
        nodes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_cluster() {
    let redis = Arc::new(Redis::start());
    // During the grace period after a start no lease is granted.
    tokio::time::sleep(LeaseSettings::redis().ttl).await;
    let make = async |ttl| {
        let mut settings = LeaseSettings::redis();
        settings.ttl = ttl;
        settings.timeout = ttl / 2;
        // A waiter is remembered for a few of these.
        settings.poll_interval = ttl / 2;
        let redis = redis.clone();
        RedisCluster { redis, settings }
    };
    landfall_testkit::locker::conformance_in_cluster(make).await;
}
